"""A build with a teacher: the student learns its answers too, and is kept only where that helps."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from shutil import copy

import pytest

from edgetl.errors import OptionError
from edgetl.pipeline import build
from tests.models import tiny_bundle, tiny_model, tiny_models
from tests.pipeline.conftest import CLASSES, PHOTOS

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


@pytest.fixture
def unlabelled(all_digits, tmp_path) -> Path:
    """Digits of the same classes that the labelled ones do not hold, one of the test photos, and a broken file."""
    folder = tmp_path / "unlabelled"
    folder.mkdir()
    for label in CLASSES:
        for path in sorted((all_digits / "train" / label).iterdir())[PHOTOS : PHOTOS + 10]:
            copy(path, folder / f"{label}-{path.name}")
    copy(next((all_digits / "test" / "7").iterdir()), folder / "seen.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def test_pictures_without_labels_are_taught_by_the_model_itself(digits, own_backbone, unlabelled, tmp_path):
    result = build(digits, "rpi4", replace(own_backbone, unlabelled=unlabelled), output=tmp_path)
    stages = {stage.name: stage for stage in result.report.training.stages}
    (kept,) = (stage for stage in stages.values() if stage.kept)
    assert result.report.summary.accuracy.value == kept.test.value
    assert re.match(r"teacher: the stage 1 model itself, \d+ of 32 unlabelled pictures", stages["distilled"].note)
    told = {finding.kind: finding.paths for finding in result.report.data.findings}
    assert told["unreadable"] == (str(unlabelled / "broken.png"),)
    assert str(unlabelled / "seen.png") in told["like a labelled photo"]


def test_a_teacher_of_other_classes_is_refused_in_a_line(digits, own_backbone, tiny_bundle, tmp_path):
    with pytest.raises(OptionError, match="has the classes blue, green, red, the photos have 0, 1, 7"):
        build(digits, "rpi4", replace(own_backbone, teacher=str(tiny_bundle)), output=tmp_path)
