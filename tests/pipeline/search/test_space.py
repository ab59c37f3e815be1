"""What a search can try: backbones and input sizes that may fit, with their weights."""

from __future__ import annotations

from edgetl.pipeline import Budget
from edgetl.pipeline.search import SearchOptions
from edgetl.pipeline.search.space import Space
from edgetl.targets import load_target
from tests.pipeline.search.examples import BOARD, names


def test_models_that_cannot_fit_are_dropped_before_any_compilation():
    options = SearchOptions(backbones=("efficientnet-lite0", "efficientnet-lite2"), input_sizes=(96, 160))
    space = Space(load_target(BOARD), Budget(latency_ms=40, size_bytes=4_000_000), options)
    assert [recipe.name for recipe in space.backbones()] == ["efficientnet-lite0 at 160"]
    assert [recipe.name for recipe in space.other_sizes(space.backbones()[0])] == ["efficientnet-lite0 at 96"]
    assert space.skipped == ["efficientnet-lite2 at 96: 4.9 MB, over 4.0 MB"]


def test_each_backbone_without_weights_is_skipped_with_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path))
    monkeypatch.delenv("EDGETL_WEIGHTS", raising=False)
    missing = ("efficientnet-lite3", "efficientnet-lite4", "efficientnet-lite9")
    space = Space(load_target(BOARD), Budget(), SearchOptions(backbones=(*missing, "efficientnet-lite0")))
    assert names(space.backbones()) == ["efficientnet-lite0"]
    assert [line.split(":")[0] for line in space.skipped] == list(missing)


def test_the_default_backbone_comes_first_then_the_cheapest_and_last_those_that_another_beats(tmp_path):
    for kind in ("large_224", "large_minimalistic_224"):
        (tmp_path / f"weights_mobilenet_v3_{kind}_1.0_float_no_top_v2.h5").write_bytes(b"weights")
    given = ("efficientnet-lite0", "efficientnet-lite1", "mobilenet-v3-large", "mobilenet-v3-large-minimalistic")
    space = Space(load_target(BOARD), Budget(), SearchOptions(backbones=given, input_sizes=(), weights=tmp_path))
    assert names(space.backbones()) == [given[0], given[3], given[2], given[1]]


def test_another_input_size_uses_the_weights_of_the_default_size(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGETL_MIRROR", "http://127.0.0.1:9")
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
    file.write_bytes(b"weights")
    options = SearchOptions(backbones=("mobilenet-v2-0.35",), input_sizes=(96, 128), weights=tmp_path)
    space = Space(load_target(BOARD), Budget(), options)
    recipes = [*space.backbones(), *space.other_sizes(space.backbones()[0])]
    assert [(recipe.input_size, recipe.weights) for recipe in recipes] == [(224, file), (128, file), (96, file)]
