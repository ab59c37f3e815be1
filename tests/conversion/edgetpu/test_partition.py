"""Which operators go to the Edge TPU together, in graphs where list order and dependence disagree."""

from __future__ import annotations

from edgetl.conversion.edgetpu import analyse
from tests.conversion.edgetpu.graphs import GraphBuilder


def placed(*steps: tuple[str, list[str], str], inputs: list[str], outputs: list[str]) -> str:
    """T or c for each operator of a graph written as (operator, inputs, output)."""
    builder = GraphBuilder()
    tensors: dict[str, int] = {}
    for name in [*inputs, *(output for _, _, output in steps)]:
        tensors[name] = builder.tensor((1, 8))
    for operator, read, output in steps:
        builder.operator(operator, [tensors[name] for name in read], [tensors[output]])
    model = builder.build([tensors[name] for name in inputs], [tensors[name] for name in outputs])
    return "".join("T" if op.placed == "tpu" else "c" for op in analyse(model).ops)


def test_what_follows_an_unsupported_operator_stays_on_the_cpu():
    chain = [("RELU", ["x"], "a"), ("ELU", ["a"], "b"), ("RELU", ["b"], "c")]
    assert placed(*chain, inputs=["x"], outputs=["c"]) == "Tcc"


def test_unsupported_operators_in_front_are_skipped():
    chain = [("ELU", ["x"], "a"), ("ELU", ["a"], "b"), ("RELU", ["b"], "c"), ("RELU", ["c"], "d")]
    assert placed(*chain, inputs=["x"], outputs=["d"]) == "ccTT"


def test_a_branch_listed_after_an_unsupported_operator_joins_if_it_does_not_depend_on_it():
    graph = [("RELU", ["x"], "a"), ("ELU", ["a"], "b"), ("RELU", ["a"], "c"), ("ADD", ["b", "c"], "d")]
    assert placed(*graph, inputs=["x"], outputs=["d"]) == "TcTc"


def test_the_first_subset_is_taken_even_where_a_later_one_is_larger():
    chain = [("RELU", ["x"], "a"), ("ELU", ["a"], "b"), *((("RELU", [p], q)) for p, q in ("bc", "cd", "de", "ef"))]
    assert placed(*chain, inputs=["x"], outputs=["f"]) == "Tccccc"


def test_a_supported_operator_listed_first_starts_the_subset_without_what_waits_for_the_cpu():
    graph = [("RELU", ["x"], "a"), ("ELU", ["y"], "b"), ("ADD", ["a", "b"], "c")]
    assert placed(*graph, inputs=["x", "y"], outputs=["c"]) == "Tcc"


def test_an_unsupported_operator_listed_first_lets_everything_after_it_join():
    graph = [("ELU", ["y"], "b"), ("RELU", ["x"], "a"), ("ADD", ["a", "b"], "c")]
    assert placed(*graph, inputs=["x", "y"], outputs=["c"]) == "cTT"


def test_an_operator_may_read_the_same_tensor_twice():
    assert placed(("ADD", ["x", "x"], "a"), ("MUL", ["a", "a"], "b"), inputs=["x"], outputs=["b"]) == "TT"


def test_a_model_of_unsupported_operators_maps_nothing():
    analysis = placed(("ELU", ["x"], "a"), ("ELU", ["a"], "b"), inputs=["x"], outputs=["b"])
    assert analysis == "cc"


def test_a_deep_graph_is_cut_in_linear_time():
    builder = GraphBuilder()
    tensors = [builder.tensor((1, 8)) for _ in range(3001)]
    for index in range(3000):
        builder.operator("RELU", [tensors[index]], [tensors[index + 1]])
    assert all(op.placed == "tpu" for op in analyse(builder.build([tensors[0]], [tensors[-1]])).ops)
