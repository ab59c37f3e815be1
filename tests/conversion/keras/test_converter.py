"""A Keras backbone is converted to a TFLite file that takes raw pixels."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgetl.backbones import Spec, build, list_backbones
from edgetl.conversion import QUANTIZATIONS, ConversionOptions, check, convert, recipe_frames
from edgetl.conversion.keras.quiet import quiet_tensorflow
from edgetl.errors import ConversionError, OptionError, UnknownNameError
from edgetl.runtime.inference.embedder import Embedder
from edgetl.runtime.inference.preprocess import Preprocess
from edgetl.targets import list_targets
from tests.conversion.conftest import NORMALIZATION, PREPROCESS, SIZE


def embeddings(artifact, frames):
    """Float embeddings, as the artifact's own scale and zero point read them."""
    embedder = Embedder(artifact.model, artifact.preprocess)
    raw = np.stack([embedder.embed(frame) for frame in frames]).astype(np.float32)
    return (raw - artifact.embedding["zero_point"]) * artifact.embedding["scale"]


def of_keras(backbone, frames, normalization=NORMALIZATION):
    offset, scale = normalization
    return backbone((np.stack(frames).astype(np.float32) - offset) / scale, training=False).numpy()


@pytest.mark.parametrize(
    ("quantize", "tolerance"), [("float32", 1e-4), ("float16", 1e-2), ("dynamic", 5e-2), ("int8", 1e-1)]
)
def test_embeddings_of_raw_pixels_match_those_of_the_keras_model(backbone, frames, converted, quantize, tolerance):
    np.testing.assert_allclose(embeddings(converted(quantize), frames), of_keras(backbone, frames), atol=tolerance)


@pytest.mark.parametrize("quantize", QUANTIZATIONS)
def test_the_artifact_describes_the_embedding(converted, quantize):
    artifact = converted(quantize)
    embedder = Embedder(artifact.model, artifact.preprocess)
    assert artifact.embedding == {
        "size": embedder.dimension,
        "dtype": str(embedder.dtype),
        "scale": pytest.approx(embedder.scale),
        "zero_point": embedder.zero_point,
    }
    assert artifact.embedding["dtype"] == ("int8" if quantize == "int8" else "float32")


@pytest.mark.parametrize("normalization", [(127.0, 128.0), (127.5, 127.5), (0.0, 255.0), (0.0, 1.0)])
def test_an_int8_input_means_the_normalised_pixel_without_an_operator_for_it(backbone, frames, normalization):
    artifact = convert(backbone, normalization, PREPROCESS, ConversionOptions("int8"), frames)
    assert not {operator.name for operator in artifact.operators} & {"MUL", "SUB", "CAST", "DEQUANTIZE"}
    expected = of_keras(backbone, frames, normalization)
    assert np.abs(embeddings(artifact, frames) - expected).max() < 0.1 * np.abs(expected).max() + 0.1


def test_frames_without_black_or_white_still_calibrate_the_whole_range(backbone):
    grey = np.random.default_rng(0).integers(90, 160, (SIZE, SIZE, 3), dtype=np.uint8)
    before = grey.copy()
    convert(backbone, NORMALIZATION, PREPROCESS, ConversionOptions("int8"), [grey])
    np.testing.assert_array_equal(grey, before)


def test_the_same_model_and_frames_give_the_same_bytes(backbone, frames, converted):
    for quantize in QUANTIZATIONS:
        again = convert(backbone, NORMALIZATION, PREPROCESS, ConversionOptions(quantize), frames)
        assert again == converted(quantize)


def test_another_process_gives_the_same_bytes(converted):
    code = (
        "import hashlib; from tests.conversion.conftest import *; from edgetl.conversion import *;"
        "made = convert(build_backbone(), NORMALIZATION, PREPROCESS, ConversionOptions('int8'),"
        " recipe_frames(SIZE, SIZE, 12)); print(hashlib.sha256(made.model).hexdigest())"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(converted("int8").model).hexdigest()


def test_calibration_stops_at_the_requested_number_of_frames(backbone, frames):
    taken = []

    def feed():
        for frame in frames:
            taken.append(frame)
            yield frame

    convert(backbone, NORMALIZATION, PREPROCESS, ConversionOptions(calibration_images=3), feed())
    assert len(taken) == 3


@pytest.mark.parametrize("quantize", QUANTIZATIONS)
def test_every_quantization_runs_in_the_oldest_interpreter(frames, converted, run_in_tflite_runtime, quantize):
    artifact = converted(quantize)
    raw = run_in_tflite_runtime(artifact.model, np.stack(frames)).astype(np.float32)
    there = (raw - artifact.embedding["zero_point"]) * artifact.embedding["scale"]
    np.testing.assert_allclose(there, embeddings(artifact, frames), atol=0.1)


def test_tensorflow_prints_nothing(backbone, frames, capfd):
    convert(backbone, NORMALIZATION, PREPROCESS, ConversionOptions("int8"), frames)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_pythons_output_appears_and_native_output_does_not():
    code = (
        "import os, sys; from edgetl.conversion.keras.quiet import quiet_tensorflow\n"
        "with quiet_tensorflow(): print('progress', file=sys.stderr); os.write(2, b'chatter')\n"
        "os.write(2, b'after'); print('end', file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.split() == ["progress", "afterend"]


def test_stderr_is_restored_after_an_error(capfd):
    with pytest.raises(ValueError, match="inside"), quiet_tensorflow():
        raise ValueError("inside")
    os.write(2, b"visible")
    assert capfd.readouterr().err == "visible"


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ([], "int8 needs frames"),
        ([np.zeros((SIZE, SIZE + 1, 3), np.uint8)], "calibration frames must be uint8"),
        ([np.zeros((SIZE, SIZE, 3), np.float32)], "calibration frames must be uint8"),
    ],
)
def test_frames_that_cannot_calibrate_are_refused(backbone, calibration, message):
    with pytest.raises(ConversionError, match=message):
        convert(backbone, NORMALIZATION, PREPROCESS, ConversionOptions("int8"), calibration)


@pytest.mark.parametrize("normalization", [(-1.0, 1.0), (300.0, 128.0), (127.0, 0.0), (127.0, -1.0)])
def test_a_normalisation_that_pixels_cannot_represent_is_refused(backbone, frames, normalization):
    with pytest.raises(ConversionError, match="normalisation"):
        convert(backbone, normalization, PREPROCESS, ConversionOptions("int8"), frames)


def test_a_model_for_another_input_size_is_refused_in_one_line(backbone):
    with pytest.raises(ConversionError, match="cannot convert tiny") as caught:
        convert(backbone, NORMALIZATION, Preprocess(SIZE, SIZE // 2), ConversionOptions("float32"))
    assert "\n" not in str(caught.value)


def test_unknown_options_are_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'int16x8'"):
        ConversionOptions("int16")
    with pytest.raises(OptionError, match="calibration_images"):
        ConversionOptions(calibration_images=0)


def smallest_of_each_family() -> list[Spec]:
    return list({spec.family: spec for spec in sorted(list_backbones(), key=lambda spec: -spec.macs)}.values())


@pytest.mark.slow
@pytest.mark.parametrize("spec", smallest_of_each_family(), ids=lambda spec: spec.family)
def test_every_family_converts_and_runs_on_every_target(spec):
    model = build(spec, 64, pretrained=False)
    preprocess = spec.preprocess(64)
    photos = recipe_frames(64, 64, 4)
    artifact = convert(model, spec.normalization, preprocess, ConversionOptions(), photos)
    for target in list_targets():
        check(artifact.model, target)
    assert Embedder(artifact.model, preprocess).embed(photos[0]).shape == (spec.embedding_size,)
