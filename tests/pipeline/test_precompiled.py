"""A build on an embedding extractor that is already compiled for the Edge TPU."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetl.bundle import EDGETPU_MODEL, MODEL, Bundle, open_bundle
from edgetl.conversion import describe, export
from edgetl.conversion.edgetpu import verify
from edgetl.conversion.tflite import schema
from edgetl.errors import ConversionError, OptionError
from edgetl.pipeline import BuildOptions, BuildResult, build
from edgetl.pipeline.edgetpu import MAKE_COMPILER, compile_bundle
from edgetl.runtime import Classifier, Learner
from tests.conversion.edgetpu.test_compile import writing
from tests.pipeline.test_build import edgetl

pytestmark = pytest.mark.slow

EXTRACTOR = "mobilenet_v1_1.0_224_quant_embedding_extractor"
COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


@dataclass(frozen=True)
class Built:
    photos: Path
    model: Path
    compiled: Path
    result: BuildResult

    @property
    def bundle(self) -> Bundle:
        return open_bundle(self.result.bundle)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos") / "colours"
    rng = np.random.default_rng(5)
    for label, colour in COLOURS.items():
        (folder / label).mkdir(parents=True)
        for number in range(14):
            pixels = np.clip(rng.normal(colour, 50, (48, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def built(shared, photos, tmp_path_factory) -> Built:
    model, compiled = (shared(f"coral/pairs/{EXTRACTOR}{ending}.tflite") for ending in ("", "_edgetpu"))
    options = BuildOptions(backbone=str(model), edgetpu_backbone=compiled, require_edgetpu=True)
    result = build(photos, "coral", options, output=tmp_path_factory.mktemp("output"))
    return Built(photos, model, compiled, result)


def test_the_build_needs_no_compiler(built):
    assert built.bundle.manifest.edgetpu == "compiled"
    assert built.result.note == ""
    assert built.bundle.read(EDGETPU_MODEL) == built.compiled.read_bytes()
    assert built.bundle.read(MODEL) == built.model.read_bytes()


def test_the_two_models_in_the_bundle_are_verified_twins(built):
    assert verify(built.bundle.read(MODEL), built.bundle.read(EDGETPU_MODEL)).match
    done = edgetl("check", built.result.bundle, "--json")
    assert json.loads(done.stdout) == {"match": True, "reasons": []}


def test_the_cpu_model_classifies(built):
    classifier = Classifier(built.result.bundle)
    assert built.bundle.manifest.embedding["dtype"] == classifier.embed(built.photos / "red" / "0.png").dtype == "uint8"
    assert built.result.report.summary.accuracy.value == 1.0
    assert {classifier.predict(built.photos / label / "0.png").label for label in COLOURS} == set(COLOURS)


def test_the_bundle_can_learn_on_the_device(built, tmp_path):
    with Learner(built.result.bundle, state=tmp_path / "state") as learner:
        before = learner.last_layer()
        learner.teach_many([np.full((48, 48, 3), grey, np.uint8) for grey in (255, 240)], "white")
        assert learner.classifier().predict(np.full((48, 48, 3), 250, np.uint8)).label == "white"
        learner.undo()
        np.testing.assert_array_equal(learner.last_layer().weights, before.weights)


def test_a_learned_class_is_exported_for_the_edge_tpu_too(built, tmp_path):
    state, path = tmp_path / "state", tmp_path / "taught_edgetpu.tflite"
    with Learner(built.result.bundle, state=state) as learner:
        learner.teach(np.full((48, 48, 3), 255, np.uint8), "white")
    done = edgetl("export", built.result.bundle, "--state", state, "--edgetpu", "--output", path)
    assert done.returncode == 0, done.stderr
    assert set(describe(path.read_bytes())["labels"]) == {*COLOURS, "white"}


def test_the_latency_is_estimated_from_published_ones(built):
    assert built.result.report.summary.latency_on_target.value == pytest.approx(4.56, rel=0.01)


def test_a_bare_interpreter_gives_the_classifiers_probabilities(built, tmp_path):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(export(built.result.bundle, tmp_path / "colours.tflite")))
    interpreter.allocate_tensors()
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    classifier = Classifier(built.result.bundle)
    for frame in np.random.default_rng(0).integers(0, 256, (4, 224, 224, 3), np.uint8):
        interpreter.set_tensor(image["index"], frame[None])
        interpreter.invoke()
        expected = list(classifier.predict(frame).probabilities.values())
        np.testing.assert_allclose(interpreter.get_tensor(output["index"])[0], expected, atol=1e-5)


def test_exporting_for_the_edge_tpu_leaves_the_compiled_operator_unchanged(built, tmp_path):
    path = tmp_path / "colours_edgetpu.tflite"
    done = edgetl("export", built.result.bundle, "--edgetpu", "--output", path)
    assert done.returncode == 0, done.stderr
    made, before = schema.read_model(path.read_bytes()), schema.read_model(built.compiled.read_bytes())
    custom, original = made.subgraphs[0].operators[0], before.subgraphs[0].operators[0]
    np.testing.assert_array_equal(custom.customOptions, original.customOptions)
    np.testing.assert_array_equal([*custom.inputs, *custom.outputs], [*original.inputs, *original.outputs])
    described = describe(path.read_bytes())
    assert described["labels"] == sorted(COLOURS)
    assert described["outputs"][0]["shape"] == [1, len(COLOURS)]


def test_the_next_build_reuses_the_edge_tpu_model(built, tmp_path):
    again = build(built.photos, "coral", BuildOptions(backbone=str(built.result.bundle)), output=tmp_path)
    assert open_bundle(again.bundle).manifest.edgetpu == "compiled"
    assert open_bundle(again.bundle).read(EDGETPU_MODEL) == built.compiled.read_bytes()


def test_a_board_without_an_edge_tpu_gets_only_the_cpu_model(built, tmp_path):
    again = build(built.photos, "rpi4", BuildOptions(backbone=str(built.result.bundle)), output=tmp_path)
    assert open_bundle(again.bundle).manifest.edgetpu == "not requested"
    assert EDGETPU_MODEL not in open_bundle(again.bundle)


def test_two_files_of_different_models_are_refused(built, shared, tmp_path):
    other = shared("coral/pairs/mobilenet_v2_1.0_224_quant_edgetpu.tflite")
    arguments = ("--data", built.photos, "--target", "coral", "--output", tmp_path / "output")
    done = edgetl("build", *arguments, "--backbone", built.model, "--edgetpu-backbone", other)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "does not belong to the backbone" in done.stderr
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    ("backbone", "twin", "board", "error", "line"),
    [
        ("compiled", "compiled", "coral", OptionError, "give it as --edgetpu-backbone"),
        ("model", "model", "coral", ConversionError, "is not compiled for the Edge TPU"),
        ("model", "compiled", "rpi4", OptionError, "rpi4 has no Edge TPU"),
        (None, "compiled", "coral", OptionError, "needs --backbone FILE.tflite"),
    ],
)
def test_swapped_or_missing_files_are_refused(built, tmp_path, backbone, twin, board, error, line):
    options = BuildOptions(backbone=backbone and str(getattr(built, backbone)), edgetpu_backbone=getattr(built, twin))
    with pytest.raises(error, match=line):
        build(built.photos, board, options, output=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def unfinished(built, tmp_path_factory) -> BuildResult:
    """A build without a compiler and without a precompiled file."""
    output = tmp_path_factory.mktemp("unfinished")
    return build(built.photos, "coral", BuildOptions(backbone=str(built.model)), output=output)


@pytest.fixture
def no_compiler(tmp_path, monkeypatch) -> Path:
    """An empty folder that is the only one in PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def test_without_a_compiler_the_bundle_says_so_and_the_build_names_the_command(unfinished):
    assert open_bundle(unfinished.bundle).manifest.edgetpu == "not compiled"
    assert unfinished.note.endswith(f"edgetl compile {unfinished.bundle}")
    assert edgetl("check", unfinished.bundle, "--fail-on", "cpu").returncode == 0
    with pytest.raises(OptionError, match="not compiled for the Edge TPU"):
        export(unfinished.bundle, edgetpu=True)


def test_the_bundle_can_be_compiled_later(built, unfinished, no_compiler, tmp_path):
    writing(no_compiler, built.compiled.read_bytes())
    path = shutil.copy(unfinished.bundle, tmp_path / "colours.edgetl")
    before = open_bundle(path)
    done = edgetl("compile", path)
    assert done.returncode == 0, done.stderr
    assert "every operator was placed as predicted" in done.stdout
    after = open_bundle(path)
    assert after.manifest.edgetpu == "compiled"
    assert after.read(EDGETPU_MODEL) == built.compiled.read_bytes()
    assert set(after.names) == {*before.names, EDGETPU_MODEL}
    assert all(after.read(name) == before.read(name) for name in before.names)


def test_a_compiler_that_returns_another_model_leaves_the_bundle_unchanged(shared, unfinished, no_compiler, tmp_path):
    writing(no_compiler, shared("coral/pairs/split_concat_edgetpu.tflite").read_bytes())
    path = shutil.copy(unfinished.bundle, tmp_path / "colours.edgetl")
    with pytest.raises(ConversionError, match="is not this model"):
        compile_bundle(path)
    assert Path(path).read_bytes() == unfinished.bundle.read_bytes()


def test_a_build_that_requires_the_compiler_fails_before_a_photo_is_read(built, no_compiler, tmp_path):
    seen = []
    options = BuildOptions(backbone=str(built.model), require_edgetpu=True)
    with pytest.raises(ConversionError, match="neither Docker nor Podman"):
        build(built.photos, "coral", options, output=tmp_path / "output", progress=lambda *step: seen.append(step))
    assert seen == [(MAKE_COMPILER, 0, 1)]
    with pytest.raises(OptionError, match="rpi4 has no Edge TPU"):
        build(built.photos, "rpi4", options, output=tmp_path / "output")


def test_a_bundle_for_a_board_without_an_edge_tpu_cannot_be_compiled(built, tmp_path):
    again = build(built.photos, "rpi4", BuildOptions(backbone=str(built.model)), output=tmp_path)
    with pytest.raises(OptionError, match="rpi4 has no Edge TPU"):
        compile_bundle(again.bundle)
