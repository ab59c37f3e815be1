"""A build with photos of a related domain, which train the backbone only if that helps."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import pytest

from edgetl.bundle import open_bundle
from edgetl.errors import OptionError
from edgetl.pipeline import build
from edgetl.training import FineTuneOptions

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def others(all_digits, tmp_path_factory) -> Path:
    """Scanned digits of other classes."""
    folder = tmp_path_factory.mktemp("related") / "others"
    for label in "2345":
        copytree(all_digits / "test" / label, folder / label)
    return folder


@pytest.fixture(scope="module")
def result(digits, own_backbone, others, tmp_path_factory):
    training = FineTuneOptions(epochs_upper=0, epochs_all=4, train_scale=1.0)
    options = replace(own_backbone, related=others, training=training)
    return build(digits, "rpi4", options, output=tmp_path_factory.mktemp("related"))


def test_the_labelled_photos_decide_and_the_report_counts_the_related_ones(result):
    stages = {stage.name: stage for stage in result.report.training.stages}
    assert set(stages) == {"stage 1", "related"}
    (kept,) = (stage for stage in stages.values() if stage.kept)
    (left,) = (stage for stage in stages.values() if not stage.kept)
    assert kept.validation.value >= left.validation.value
    assert result.report.summary.accuracy.value == kept.test.value
    assert re.match(r"\d+ of \d+ related photos, \d classes", stages["related"].note)


def test_the_manifest_says_whether_the_backbone_learned_from_them(result):
    used = next(stage.kept for stage in result.report.training.stages if stage.name == "related")
    assert ("related" in open_bundle(result.bundle).manifest.backbone) == used


def test_a_compiled_backbone_cannot_learn_from_related_photos(result, digits, own_backbone, others, tmp_path):
    compiled = replace(own_backbone, backbone=str(result.bundle), normalization=None, related=others)
    with pytest.raises(OptionError, match="leave --related out"):
        build(digits, "rpi4", compiled, output=tmp_path)
