"""A classifier predicts from any thread, and refuses a bundle whose manifest does not match its content."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgetl.bundle import open_bundle, pack
from edgetl.errors import BundleError, EdgetlError, EngineError, ImageError
from edgetl.runtime import Classifier, Engine, Prediction
from edgetl.runtime.inference.bundle_entries import last_layer_entries, read_last_layer
from tests.models import COLOURS, TINY_DIMENSION, TINY_SIZE, colour_frame


@pytest.fixture(scope="module")
def classifier(tiny_bundle: Path) -> Classifier:
    return Classifier(tiny_bundle, threads=1)


def png(frame: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(frame).save(stream, "PNG")
    return stream.getvalue()


class TestPredicting:
    @pytest.mark.parametrize("label", COLOURS)
    def test_images_it_has_not_seen_get_their_label(self, label: str, classifier: Classifier) -> None:
        prediction = classifier.predict(colour_frame(label, seed=1000))
        assert prediction.label == label
        assert prediction.probability > 0.5

    def test_every_kind_of_image_gives_the_same_prediction(self, classifier: Classifier, tmp_path: Path) -> None:
        frame = colour_frame("green", seed=1000)
        path = tmp_path / "green.png"
        path.write_bytes(png(frame))
        wanted = classifier.predict(frame).probabilities
        for image in (path, str(path), png(frame), Image.fromarray(frame)):
            assert classifier.predict(image).probabilities == wanted

    def test_probabilities_sum_to_one_over_all_labels(self, classifier: Classifier) -> None:
        prediction = classifier.predict(colour_frame("red", seed=1))
        assert tuple(prediction.probabilities) == classifier.labels
        assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-6)
        assert prediction.top(2)[0] == (prediction.label, prediction.probability)
        assert prediction.probability == max(prediction.probabilities.values())

    def test_an_image_of_nothing_known_is_novel(self, classifier: Classifier) -> None:
        known = classifier.predict(colour_frame("red", seed=1))
        stripes = np.zeros((*TINY_SIZE, 3), np.uint8)
        stripes[::2] = 255
        strange = classifier.predict(stripes)
        assert strange.is_novel
        assert 0 <= known.novelty <= strange.novelty <= 1

    def test_every_stage_has_its_milliseconds(self, classifier: Classifier) -> None:
        milliseconds = classifier.predict(png(colour_frame("red", seed=1))).milliseconds
        stages = ("decode", "preprocess", "invoke", "last_layer")
        assert set(milliseconds) == {*stages, "total"}
        assert milliseconds["total"] == pytest.approx(sum(milliseconds[stage] for stage in stages))
        assert all(value > 0 for value in milliseconds.values())

    def test_an_embedding_is_what_the_engine_gives(self, classifier: Classifier, tiny_model: bytes) -> None:
        frame = colour_frame("blue", seed=2)
        embedding = classifier.embed(png(frame))
        assert embedding.shape == (TINY_DIMENSION,)
        assert (embedding == Engine(tiny_model).invoke(frame)).all()

    def test_an_image_that_cannot_be_read_is_an_image_error(self, classifier: Classifier) -> None:
        with pytest.raises(ImageError, match="no such file"):
            classifier.predict("nowhere.jpg")


class TestPredictingMany:
    def test_predictions_come_in_the_order_of_the_images(self, classifier: Classifier) -> None:
        labels = [COLOURS[seed % 3] for seed in range(30)]
        images = (png(colour_frame(label, 500 + seed)) for seed, label in enumerate(labels))
        assert [prediction.label for prediction in classifier.predict_many(images)] == labels

    def test_images_are_taken_only_as_they_are_needed(self, classifier: Classifier) -> None:
        taken = []

        def endless() -> Any:
            while True:
                taken.append(1)
                yield colour_frame("red", seed=1)

        predictions = classifier.predict_many(endless())
        assert isinstance(next(predictions), Prediction)
        predictions.close()  # type: ignore[attr-defined]
        assert len(taken) < 10

    def test_no_images_give_no_predictions(self, classifier: Classifier) -> None:
        assert list(classifier.predict_many([])) == []

    def test_a_broken_image_stops_it_at_its_place(self, classifier: Classifier) -> None:
        predictions = classifier.predict_many([colour_frame("red", seed=1), b"broken"])
        next(predictions)
        with pytest.raises(ImageError):
            next(predictions)

    def test_many_threads_may_share_a_classifier(self, classifier: Classifier) -> None:
        labels = [COLOURS[seed % 3] for seed in range(200)]
        frames = [colour_frame(label, 500 + seed) for seed, label in enumerate(labels)]
        with ThreadPoolExecutor(8) as pool:
            assert [found.label for found in pool.map(classifier.predict, frames)] == labels

    def test_no_thread_is_left_behind(self, classifier: Classifier) -> None:
        before = threading.active_count()
        list(classifier.predict_many([colour_frame("red", seed=1)] * 5))
        assert threading.active_count() == before


class TestOpening:
    def test_an_opened_bundle_is_as_good_as_its_path(self, tiny_bundle: Path) -> None:
        classifier = Classifier(open_bundle(tiny_bundle))
        assert set(classifier.labels) == set(COLOURS)
        assert classifier.manifest.name == "colours"
        assert classifier.accelerator == "cpu"
        assert classifier.interpreter

    def test_a_bundle_for_the_edge_tpu_runs_on_the_cpu_and_says_why(self, tiny_bundle: Path, tmp_path: Path) -> None:
        bundle = open_bundle(tiny_bundle)
        entries = {name: bundle.read(name) for name in bundle.names}
        path = pack(
            tmp_path / "coral.edgetl",
            bundle.manifest,
            {**entries, "model_edgetpu.tflite": bundle.read("model.tflite")},
        )
        classifier = Classifier(path)
        if classifier.accelerator == "edgetpu":
            pytest.skip("there is an Edge TPU here")
        assert "no Edge TPU can be used" in classifier.note

    def test_the_last_layer_comes_back_as_it_was_packed(self, tiny_bundle: Path, tmp_path: Path) -> None:
        bundle = open_bundle(tiny_bundle)
        last_layer = read_last_layer(bundle)
        described, entries = last_layer_entries(last_layer, bundle.manifest.last_layer["parameters"])
        assert described == bundle.manifest.last_layer
        assert entries == {name: bundle.read(name) for name in bundle.names if name.startswith("last_layer/")}


class TestLies:
    @pytest.fixture
    def refused(self, tiny_bundle: Path, tmp_path: Path) -> Callable[..., str]:
        """Packs the bundle with changes, and gives the line with which the classifier refuses it."""

        def refuse(entries: dict[str, bytes | None] | None = None, **changes: Any) -> str:
            bundle = open_bundle(tiny_bundle)
            packed = {name: bundle.read(name) for name in bundle.names} | (entries or {})
            path = tmp_path / "lie.edgetl"
            pack(
                path,
                replace(bundle.manifest, **changes),
                {name: data for name, data in packed.items() if data is not None},
            )
            with pytest.raises(BundleError) as caught:
                Classifier(path)
            assert "\n" not in str(caught.value)
            return str(caught.value)

        return refuse

    @pytest.fixture
    def manifest(self, tiny_bundle: Path) -> dict[str, Any]:
        return asdict(open_bundle(tiny_bundle).manifest)

    def test_about_the_frame(self, refused: Callable[..., str], manifest: dict[str, Any]) -> None:
        assert "input size (224, 224)" in refused(preprocess={**manifest["preprocess"], "height": 224, "width": 224})
        assert "preprocess" in refused(preprocess={"height": 32})

    @pytest.mark.parametrize(("key", "value"), [("size", 32), ("dtype", "uint8"), ("zero_point", 5), ("scale", 123.0)])
    def test_about_the_embedding(
        self, key: str, value: Any, refused: Callable[..., str], manifest: dict[str, Any]
    ) -> None:
        refused(embedding={**manifest["embedding"], key: value})

    def test_about_the_labels(self, refused: Callable[..., str]) -> None:
        refused(labels=["red", "green"])
        refused(labels=["red", "green", "blue", "black"])

    @pytest.mark.parametrize("key", ["temperature", "novelty_threshold"])
    def test_about_the_last_layer(self, key: str, refused: Callable[..., str], manifest: dict[str, Any]) -> None:
        assert key in refused(last_layer={**manifest["last_layer"], key: 0.123})
        assert key in refused(last_layer={**manifest["last_layer"], key: "1"})
        assert key in refused(last_layer={**manifest["last_layer"], key: 10**400})

    def test_by_leaving_things_out(self, refused: Callable[..., str], manifest: dict[str, Any]) -> None:
        assert "model.tflite" in refused({"model.tflite": None})
        refused({"last_layer/weights.npy": None})
        refused(last_layer={})

    def test_with_weights_that_are_not_numbers(self, refused: Callable[..., str]) -> None:
        assert "NaN" in refused({"last_layer/weights.npy": npy(np.full((TINY_DIMENSION, 3), np.nan, np.float32))})
        refused({"last_layer/weights.npy": npy(np.zeros((TINY_DIMENSION, 3), np.float64))})
        refused({"last_layer/weights.npy": npy(np.zeros((3, TINY_DIMENSION), np.float32))})
        refused({"last_layer/weights.npy": npy(np.array([{}], object), allow_pickle=True)})
        refused({"last_layer/weights.npy": b"\x93NUMPY"})
        refused({"last_layer/more.npy": npy(np.zeros(3, np.float32))})

    def test_with_an_array_whose_header_claims_terabytes(self, refused: Callable[..., str]) -> None:
        array = npy(np.zeros((1111, 1), np.float32))
        for claim in (b"(9**9, 1)", b"(9999, 1)", b"((((((1))", b"__import"):
            refused({"last_layer/weights.npy": array.replace(b"(1111, 1)", claim)})

    def test_with_a_file_that_is_not_a_model(self, tiny_bundle: Path) -> None:
        bundle = open_bundle(tiny_bundle)
        entries = {name: bundle.read(name) for name in bundle.names} | {"model.tflite": b"not a model"}
        with pytest.raises(EngineError, match="not a TFLite model"):
            Classifier(replace(bundle, _entries=entries))

    def test_random_changes_of_the_arrays_are_refused_or_harmless(self, tiny_bundle: Path) -> None:
        bundle, rng = open_bundle(tiny_bundle), np.random.default_rng(0)
        name = "last_layer/weights.npy"
        for _ in range(300):
            changed = bytearray(bundle.read(name))
            changed[rng.integers(len(changed))] = rng.integers(256)
            entries = {other: bundle.read(other) for other in bundle.names} | {name: bytes(changed)}
            try:
                read_last_layer(replace(bundle, _entries=entries))
            except EdgetlError:
                continue


def npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()
