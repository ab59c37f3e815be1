"""Builds with pruned, sparse or clustered weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgetl.bundle import MODEL, open_bundle
from edgetl.conversion import PruningOptions, SparsityOptions, count_weights
from edgetl.errors import OptionError
from edgetl.pipeline import build
from edgetl.training import ImitationOptions, QuantizationAwareOptions

pytestmark = pytest.mark.slow

QUICK = PruningOptions(0.5, rounds=2, images=24, epochs=1, last_epochs=2)


@pytest.fixture(scope="module")
def whole(digits, own_backbone, tmp_path_factory):
    return build(digits, "rpi4", own_backbone, output=tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def pruned(digits, own_backbone, tmp_path_factory):
    options = replace(own_backbone, pruning=QUICK)
    return build(digits, "rpi4", options, output=tmp_path_factory.mktemp("pruned"))


def test_half_of_the_multiply_accumulates_are_removed_and_reported(pruned):
    record = pruned.report.pruning
    assert 0.5 <= record.share < 0.65
    assert record.parameters_after < record.parameters_before
    assert record.layers
    assert all(layer.after < layer.before and layer.after % 8 == 0 for layer in record.layers)
    answer = pruned.to_json()["multiply_accumulates"]
    assert answer == {"before": record.macs_before, "after": record.macs_after}


def test_the_file_is_smaller(whole, pruned):
    assert pruned.report.summary.model_bytes < whole.report.summary.model_bytes


def test_the_bundle_describes_the_smaller_backbone(pruned):
    backbone = open_bundle(pruned.bundle).manifest.backbone
    assert backbone["stage"] == "pruned"
    assert backbone["macs"] == pruned.report.pruning.macs_after


def test_the_pruned_backbone_is_the_one_that_ships(pruned):
    stages = {stage.name: stage for stage in pruned.report.training.stages}
    assert [name for name, stage in stages.items() if stage.kept] == ["pruned"]
    assert pruned.report.summary.accuracy.value == stages["pruned"].test.value > 0.6
    assert [epoch.phase for epoch in pruned.report.training.history] == ["round 1", "round 2", "round 2"]


def test_the_same_command_gives_the_same_bundle(digits, own_backbone, pruned, tmp_path):
    options = replace(own_backbone, pruning=QUICK, cache=tmp_path / "cache")
    again = build(digits, "rpi4", options, output=tmp_path)
    assert again.bundle.read_bytes() == pruned.bundle.read_bytes()


def test_an_edge_tpu_gets_channel_counts_that_suit_it(digits, own_backbone, tmp_path):
    result = build(digits, "coral", replace(own_backbone, pruning=QUICK), output=tmp_path)
    assert all(layer.after % 16 == 0 for layer in result.report.pruning.layers)


def test_sparse_weights_compress_better_and_the_report_says_that_they_are_no_faster(
    digits, own_backbone, whole, tmp_path
):
    sparse = replace(own_backbone, sparsity=SparsityOptions(sparsity=0.8), imitation=ImitationOptions(steps=10))
    result = build(digits, "rpi4", sparse, output=tmp_path)
    before, after = (one.report.variants[0] for one in (whole, result))
    assert after.compressed_bytes < before.compressed_bytes
    (kept,) = (stage for stage in result.report.training.stages if stage.kept)
    assert kept.name == "weights 0.8 sparse"
    assert "no faster" in kept.note


def test_quantization_aware_training_and_repairs_keep_weights_sparse_and_clustered(digits, own_backbone, tmp_path):
    options = replace(
        own_backbone,
        sparsity=SparsityOptions(sparsity=0.5, clusters=16),
        imitation=ImitationOptions(steps=10),
        quantization_aware=QuantizationAwareOptions(steps=4, batch_size=8),
        aware=True,
        max_drop=0.0,
        allow_drop=True,
    )
    result = build(digits, "rpi4", options, output=tmp_path)
    sparse, aware = result.report.training.stages[-2:]
    assert sparse.name == "weights 0.5 sparse, in 16 clusters"
    for stage in (sparse, aware):
        assert "at most 16 values in a tensor" in stage.note
    assert "cross-layer equalisation" not in [repair.name for repair in result.report.gate.repairs]
    count = count_weights(open_bundle(result.bundle).read(MODEL))
    assert count.zeros >= 0.48
    assert count.values <= 16


@pytest.mark.parametrize(
    ("asked", "option"), [({"pruning": QUICK}, "--prune"), ({"sparsity": SparsityOptions(clusters=16)}, "--clusters")]
)
def test_pruning_a_compiled_backbone_is_an_error(whole, digits, own_backbone, tmp_path, asked, option):
    compiled = replace(own_backbone, backbone=str(whole.bundle), normalization=None, **asked)
    with pytest.raises(OptionError, match=f"leave {option} out"):
        build(digits, "rpi4", compiled, output=tmp_path)
