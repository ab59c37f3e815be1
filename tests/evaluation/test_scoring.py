from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetl.bundle import Manifest, pack
from edgetl.errors import DataError, OptionError
from edgetl.evaluation import (
    LatencyOptions,
    compare,
    compressed_size,
    describe_machine,
    evaluate,
    measure_latency,
    measure_model,
    score,
)
from edgetl.learners import choose, to_grid
from edgetl.runtime import Classifier, Embedder, Preprocess
from edgetl.runtime.inference.bundle_entries import last_layer_entries
from tests.evaluation.conftest import predictions

COLOURS = {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (210, 40, 50)}
PREPROCESS = Preprocess(32, 32)


def colour_frames(label: str, count: int, seed: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    noise = random.integers(-30, 30, (count, 32, 32, 3))
    return list(np.clip(noise + COLOURS[label], 0, 255).astype(np.uint8))


@pytest.fixture(scope="session")
def bundle(tiny_model: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that distinguishes three colours, packed like that of a build."""
    embedder = Embedder(tiny_model, PREPROCESS)
    frames = [(frame, label) for label in COLOURS for frame in colour_frames(label, 8, seed=1)]
    raw = np.stack([embedder.embed(frame) for frame, _ in frames])
    fixed_point, labels = to_grid(raw, embedder.zero_point), [label for _, label in frames]
    selection = choose(fixed_point, labels, np.arange(len(labels)) % 4)
    described, entries = last_layer_entries(selection.last_layer, selection.parameters)
    manifest = Manifest(
        name="colours",
        edgetl_version="0.1.0",
        backbone={"name": "tiny"},
        preprocess=PREPROCESS.to_dict(),
        target="generic",
        quantize="int8",
        labels=list(selection.last_layer.labels),
        embedding={
            "size": embedder.dimension,
            "dtype": "int8",
            "scale": embedder.scale,
            "zero_point": embedder.zero_point,
        },
        last_layer=described,
        accuracy={},
    )
    path = tmp_path_factory.mktemp("bundle") / "colours.edgetl"
    return pack(path, manifest, {"model.tflite": tiny_model, **entries})


@pytest.fixture(scope="session")
def classifier(bundle: Path) -> Classifier:
    return Classifier(bundle)


@pytest.fixture
def photos(tmp_path: Path) -> list[tuple[Path, str]]:
    pairs = []
    for label in COLOURS:
        for i, frame in enumerate(colour_frames(label, 5, seed=2)):
            path = tmp_path / label / f"{i}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(frame).save(path)
            pairs.append((path, label))
    return pairs


def test_the_evaluation_measures_what_the_classifier_predicts(
    classifier: Classifier, photos: list[tuple[Path, str]], tmp_path: Path
) -> None:
    evaluation = evaluate(classifier, *map(list, zip(*photos)), root=tmp_path)

    assert evaluation.n == 15
    assert evaluation.accuracy.value == 1.0
    assert evaluation.images[0].source == "blue/0.png"
    for image, (path, _) in zip(evaluation.images, photos):
        prediction = classifier.predict(path)
        assert (image.predicted, image.probability) == (prediction.label, prediction.probability)
        assert image.probability_of_label == prediction.probabilities[image.label]
    assert classifier.interpreter in evaluation.accuracy.how


def test_the_summary_has_the_keys_that_scripts_use(classifier: Classifier, photos: list[tuple[Path, str]]) -> None:
    summary = evaluate(classifier, *map(list, zip(*photos))).summary()

    assert summary["accuracy"] == 1.0
    assert summary["n"] == 15
    assert summary["per_class"]["red"]["recall"] == 1.0
    assert summary["per_class"]["red"]["support"] == 5


def test_images_that_cannot_be_read_are_named_and_not_counted(
    classifier: Classifier, photos: list[tuple[Path, str]], tmp_path: Path
) -> None:
    photos[3][0].write_bytes(b"no image")

    evaluation = evaluate(classifier, *map(list, zip(*photos)), root=tmp_path)

    assert evaluation.n == 14
    assert [entry.source for entry in evaluation.unreadable] == ["blue/3.png"]


def test_a_subset_of_the_classes_is_enough(classifier: Classifier, photos: list[tuple[Path, str]]) -> None:
    evaluation = evaluate(classifier, *map(list, zip(*photos[:5])))

    assert evaluation.balanced_accuracy.value == 1.0
    assert [entry.recall is None for entry in evaluation.per_class] == [False, True, True]


def test_unknown_labels_are_an_error_unless_they_are_left_out(
    classifier: Classifier, photos: list[tuple[Path, str]]
) -> None:
    paths, labels = [path for path, _ in photos], ["purple"] * 2 + [label for _, label in photos[2:]]

    with pytest.raises(DataError, match=r"'purple' \(2\); it has blue, green, red"):
        evaluate(classifier, paths, labels)
    evaluation = evaluate(classifier, paths, labels, leave_out_unknown=True)

    assert evaluation.n == 13
    assert evaluation.unknown_labels == (("purple", 2),)


def test_progress_reaches_the_total(classifier: Classifier, photos: list[tuple[Path, str]]) -> None:
    seen: list[tuple[str, int, int]] = []

    evaluate(classifier, *map(list, zip(*photos)), progress=lambda *step: seen.append(step))

    assert seen[-1] == ("evaluate", 15, 15)


def test_an_interrupt_ends_the_evaluation(classifier: Classifier, photos: list[tuple[Path, str]]) -> None:
    def interrupt(*step: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(classifier, *map(list, zip(*photos)), progress=interrupt)


def test_nothing_to_evaluate_is_an_error(classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no image is left"):
        evaluate(classifier, [], [])
    with pytest.raises(DataError, match="no image is left"):
        evaluate(classifier, [tmp_path / "missing.png"], ["red"])
    with pytest.raises(OptionError, match="2 images and 1 labels"):
        evaluate(classifier, ["a", "b"], ["red"])


def test_a_latency_says_how_it_was_measured(bundle: Path, tiny_model: bytes) -> None:
    options = LatencyOptions(runs=20, warm_up=2)
    measures: list[Callable] = [
        lambda: measure_latency(bundle, 1, options),
        lambda: measure_model(tiny_model, 1, options),
    ]
    for measure in measures:
        latency = measure()
        assert 0 < latency.p50_ms <= latency.p99_ms
        assert (latency.runs, latency.threads) == (20, 1)
        assert describe_machine() in latency.how
        assert "20 runs after 2 warm-up runs, 1 thread" in latency.how


def test_a_slow_model_is_measured_less_often(bundle: Path) -> None:
    assert measure_latency(bundle, 1, LatencyOptions(runs=10_000_000, limit_s=0.05)).runs < 100_000


def test_the_compressed_size_is_the_same_every_time() -> None:
    assert compressed_size(b"edge" * 1000) == compressed_size(b"edge" * 1000) < 100


def test_a_comparison_lists_the_images_whose_prediction_changed() -> None:
    first = predictions(["a", "b"], 10, 50)
    second = [replace(first[0], predicted="b"), *first[1:]]

    comparison = compare(first, second, ("float32", "int8"), "test photos")

    assert [(flip.source, flip.first, flip.second) for flip in comparison.flips] == [("a/0.jpg", "a", "b")]
    assert comparison.difference.points == pytest.approx(-5)
    assert comparison.first_accuracy.value == 1.0


def test_a_comparison_needs_the_same_images_and_labels() -> None:
    images = predictions(["a", "b"], 2, 50)

    with pytest.raises(DataError, match="no image in common"):
        compare(images[:2], images[2:], ("x", "y"), "test photos")
    with pytest.raises(DataError, match="labelled 'a' and 'b'"):
        compare(images, [replace(images[0], label="b")], ("x", "y"), "test photos")


def test_predictions_with_unknown_labels_are_refused() -> None:
    with pytest.raises(DataError, match="does not have"):
        score(predictions(["a", "b"], 2, 5), ["a"], "int8")


def test_the_most_confident_mistakes_and_the_most_frequent_confusions_come_first() -> None:
    evaluation = score(predictions(["a", "b", "c"], 40, 1.0), ["a", "b", "c"], "int8")

    confidence = [image.probability for image in evaluation.mistakes()]
    counts = [count for _, _, count in evaluation.confusions()]
    assert confidence == sorted(confidence, reverse=True)
    assert counts == sorted(counts, reverse=True)
    assert len(confidence) == sum(counts) > 0
