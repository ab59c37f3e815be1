"""Every backbone offered for Coral, converted at its default size, runs on the Edge TPU as a whole."""

from __future__ import annotations

import pytest

from edgetl.backbones import build, list_backbones
from edgetl.conversion import ConversionOptions, convert, recipe_frames
from edgetl.conversion.edgetpu import analyse

CORAL = [spec.name for spec in list_backbones() if spec.coral]


@pytest.fixture
def converted(request) -> bytes:
    """With random weights: neither placement nor size depends on them."""
    spec = next(spec for spec in list_backbones() if spec.name == request.param)
    size = spec.input_size(None)
    frames = recipe_frames(size, size, count=1)
    options = ConversionOptions(calibration_images=1)
    model = build(spec, pretrained=False)
    return convert(model, spec.normalization, spec.preprocess(size), options, frames).model


@pytest.mark.slow
@pytest.mark.parametrize("converted", CORAL, indirect=True)
def test_a_coral_backbone_is_predicted_to_run_on_the_tpu_alone(converted):
    analysis = analyse(converted)
    assert analysis.refused is None
    assert analysis.cpu_ops == ()
    stored = analysis.parameter_bytes
    assert stored.cached > 0
    assert not stored.streamed or any(f"{stored.streamed} bytes of parameters" in note for note in analysis.notes)
