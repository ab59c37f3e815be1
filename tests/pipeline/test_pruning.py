"""A pruned build: smaller and faster, told as it is, and refused in one line where it cannot be."""

from __future__ import annotations

import pytest

from edgetl.bundle import open_bundle
from edgetl.conversion import PruningOptions
from edgetl.errors import OptionError
from edgetl.pipeline import BuildOptions, build
from edgetl.training import FineTuneOptions
from tests.pipeline.conftest import SIZE

pytestmark = pytest.mark.slow

QUICK = PruningOptions(0.5, rounds=2, images=24, epochs=1, last_epochs=1)


def options(**others):
    training = FineTuneOptions(train_scale=1.0)
    return BuildOptions(fine_tune="off", input_size=SIZE, training=training, pruning=QUICK, **others)


@pytest.fixture(scope="module")
def pruned(built, tmp_path_factory):
    return build(built.photos, "rpi4", options(), output=tmp_path_factory.mktemp("pruned"))


def test_half_of_the_work_is_gone_and_the_report_says_so(pruned):
    record = pruned.report.pruning
    assert 0.5 <= record.share < 0.55
    assert record.parameters_after < record.parameters_before
    assert all(layer.after < layer.before and layer.after % 8 == 0 for layer in record.layers)


def test_the_file_is_smaller_and_faster(built, pruned):
    before, after = (result.report.summary for result in (built.result, pruned))
    assert after.model_bytes < 0.8 * before.model_bytes
    assert after.latency_on_target.value == pytest.approx(0.5 * before.latency_on_target.value, rel=0.1)


def test_the_bundle_describes_the_smaller_backbone(pruned):
    backbone = open_bundle(pruned.bundle).manifest.backbone
    assert backbone["stage"] == "pruned"
    assert backbone["macs"] == pruned.report.pruning.macs_after


def test_the_digits_are_still_told_apart(pruned):
    assert pruned.report.summary.accuracy.value > 0.8
    stages = {stage.name: stage for stage in pruned.report.training.stages}
    assert [name for name, stage in stages.items() if stage.kept] == ["pruned"]
    assert [epoch.phase for epoch in pruned.report.training.history] == ["round 1", "round 2"]


def test_the_same_command_gives_the_same_bundle(built, pruned, tmp_path):
    again = build(built.photos, "rpi4", options(cache=tmp_path / "cache"), output=tmp_path)
    assert again.bundle.read_bytes() == pruned.bundle.read_bytes()


def test_a_compiled_backbone_cannot_be_pruned_and_says_so(built, tmp_path):
    given = BuildOptions(backbone=str(built.result.bundle), fine_tune="off", pruning=QUICK)
    with pytest.raises(OptionError, match="leave --prune out"):
        build(built.photos, "rpi4", given, output=tmp_path)
