"""A build with a teacher: the student learns its answers too, and is kept only where that helps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgetl.errors import OptionError
from edgetl.pipeline import build
from tests.models import tiny_bundle, tiny_model, tiny_models

__all__ = ["tiny_bundle", "tiny_model", "tiny_models"]

pytestmark = pytest.mark.slow


def test_a_bundle_teaches_and_the_better_model_is_kept(built, own_backbone, tmp_path):
    options = replace(own_backbone, teacher=str(built.result.bundle))
    result = build(built.photos, "rpi4", options, output=tmp_path)
    stages = {stage.name: stage for stage in result.report.training.stages}
    assert set(stages) == {"stage 1", "distilled"}
    (kept,) = (stage for stage in stages.values() if stage.kept)
    assert result.report.summary.accuracy.value == kept.test.value
    assert "teacher" in stages["distilled"].note


def test_a_teacher_of_other_classes_is_refused_in_a_line(digits, own_backbone, tiny_bundle, tmp_path):
    with pytest.raises(OptionError, match="tells blue, green, red apart, the photos show 0, 1, 7"):
        build(digits, "rpi4", replace(own_backbone, teacher=str(tiny_bundle)), output=tmp_path)
