"""A build with a teacher: the student learns its predictions too, and is kept only if that helps."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from shutil import copy

import pytest

from edgetl.errors import OptionError
from edgetl.pipeline import build
from tests.pipeline.builds import CLASSES, PHOTOS

pytestmark = pytest.mark.slow


def test_a_bundle_can_be_the_teacher_and_the_better_model_is_kept(built, own_backbone, tmp_path):
    options = replace(own_backbone, teacher=str(built.result.bundle))
    result = build(built.photos, "rpi4", options, output=tmp_path)
    stages = {stage.name: stage for stage in result.report.training.stages}
    assert set(stages) == {"stage 1", "distilled"}
    (kept,) = (stage for stage in stages.values() if stage.kept)
    assert result.report.summary.accuracy.value == kept.test.value
    assert "teacher" in stages["distilled"].note


@pytest.fixture
def unlabelled(all_digits, tmp_path) -> Path:
    """Further digits of the same classes, one of the test photos, and a broken file."""
    folder = tmp_path / "unlabelled"
    folder.mkdir()
    for label in CLASSES:
        for path in sorted((all_digits / "train" / label).iterdir())[PHOTOS : PHOTOS + 10]:
            copy(path, folder / f"{label}-{path.name}")
    copy(next((all_digits / "test" / "7").iterdir()), folder / "seen.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def test_the_model_itself_labels_unlabelled_pictures(digits, own_backbone, unlabelled, tmp_path):
    result = build(digits, "rpi4", replace(own_backbone, unlabelled=unlabelled), output=tmp_path)
    stages = {stage.name: stage for stage in result.report.training.stages}
    (kept,) = (stage for stage in stages.values() if stage.kept)
    assert result.report.summary.accuracy.value == kept.test.value
    assert re.match(r"teacher: the stage 1 model itself, \d+ of 32 unlabelled pictures", stages["distilled"].note)
    found = {finding.kind: finding.paths for finding in result.report.data.findings}
    assert found["unreadable"] == (str(unlabelled / "broken.png"),)
    assert str(unlabelled / "seen.png") in found["like a labelled photo"]


def test_a_teacher_with_other_classes_is_refused(digits, own_backbone, tiny_bundle, tmp_path):
    with pytest.raises(OptionError, match="has the classes blue, green, red, the photos have 0, 1, 7"):
        build(digits, "rpi4", replace(own_backbone, teacher=str(tiny_bundle)), output=tmp_path)
