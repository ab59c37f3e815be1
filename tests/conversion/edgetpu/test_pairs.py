"""Predictions and package contents, compared with the compiler's published output."""

from __future__ import annotations

import itertools
import json

import pytest

from edgetl.conversion.edgetpu import analyse, is_compiled, read_package, verify
from edgetl.errors import ConversionError
from tests.conversion.edgetpu.pairs import PAIRS


@pytest.mark.parametrize("name", PAIRS)
def test_the_operators_left_to_the_cpu_are_predicted_one_by_one(pair, name):
    one = pair(name)
    analysis = analyse(one.source)
    assert analysis.refused is None
    assert [op.index for op in analysis.cpu_ops] == one.facts["cpu_op_indices"]


@pytest.mark.parametrize("name", PAIRS)
def test_the_parameter_bytes_are_predicted_within_ten_percent(pair, name):
    one = pair(name)
    predicted = analyse(one.source).parameter_bytes
    stored = one.facts["cached_parameter_bytes"] + one.facts["streamed_parameter_bytes"]
    assert predicted.cached + predicted.streamed == pytest.approx(stored, rel=0.1)


@pytest.mark.parametrize("name", PAIRS)
def test_the_package_has_the_published_sizes(pair, name):
    one = pair(name)
    package = read_package(one.compiled)
    assert package.to_json() == {
        "edgetpu": {
            "min_runtime_version": one.facts["package"]["min_runtime_version"],
            "cached_bytes": one.facts["cached_parameter_bytes"],
            "streamed_bytes": one.facts["streamed_parameter_bytes"],
        },
        "cpu_ops": one.facts["cpu_ops"],
    }
    assert is_compiled(one.compiled)
    assert not is_compiled(one.source)


@pytest.mark.parametrize("name", PAIRS)
def test_a_matching_pair_is_accepted(pair, name):
    one = pair(name)
    assert verify(one.source, one.compiled).to_json() == {"match": True, "reasons": []}


@pytest.mark.parametrize(("name", "other"), list(itertools.permutations(PAIRS, 2)))
def test_a_mismatched_pair_is_refused_with_reasons(pair, name, other):
    verification = verify(pair(name).source, pair(other).compiled)
    assert not verification.match
    assert verification.reasons


def test_the_analysis_has_the_documented_json_keys(pair):
    answer = json.loads(json.dumps(analyse(pair("deeplabv3_mnv2_dm05_pascal_quant").source).to_json()))
    assert set(answer) == {"ops", "refused", "parameter_bytes", "activation_bytes"}
    assert answer["ops"][0] == {"index": 0, "op": "CONV_2D", "placed": "tpu", "reason": "Mapped to Edge TPU"}
    assert answer["ops"][65]["reason"] == "More than one subgraph is not supported"
    assert set(answer["parameter_bytes"]) == {"cached", "streamed"}
    assert answer["activation_bytes"] > 0


def test_the_activations_of_a_chain_are_close_to_the_compilers(pair):
    one = pair("mobilenet_v1_1.0_224_quant_embedding_extractor")
    (package,) = read_package(one.compiled).packages.values()
    used = 16 * max(executable.memory_bytes for executable in package.executables)
    assert analyse(one.source).activation_bytes == pytest.approx(used, rel=0.1)


def test_a_source_is_not_a_compiled_model(pair):
    with pytest.raises(ConversionError, match=r"is not compiled.*_edgetpu\.tflite"):
        read_package(pair("split_concat").source)
