"""A bundle's classifier as one .tflite file that any client can run."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from edgetl.conversion import QUANTIZATIONS, append_last_layer, check, describe, recipe_frames
from edgetl.conversion.edgetpu import verify
from edgetl.conversion.tflite import metadata, schema
from edgetl.conversion.tflite.graph import read_graph
from edgetl.errors import ConversionError
from edgetl.learners import LastLayer, choose, to_grid
from edgetl.runtime.inference.embedder import Embedder
from edgetl.runtime.inference.preprocess import Preprocess
from edgetl.targets import list_targets, load_target
from tests.conversion.conftest import SIZE
from tests.conversion.edgetpu.graphs import GraphBuilder, options

LABELS = ("cardboard", "glas", "été", "rock, paper")


@pytest.fixture(scope="module")
def last_layer(converted) -> LastLayer:
    """Solved on the tiny backbone's own embeddings, of frames labelled by brightness."""
    photos = recipe_frames(SIZE, SIZE, 80)
    ranks = np.argsort(np.argsort([photo.mean() for photo in photos]))
    labels = [LABELS[rank * len(LABELS) // len(photos)] for rank in ranks]
    return choose(grid(converted("int8"), photos), labels, np.arange(len(photos)) % 4).last_layer


def exported(artifact, layer, **options):
    parts = (layer.weights, layer.bias, layer.labels)
    return append_last_layer(artifact.model, *parts, temperature=layer.temperature, **options)


def run(model: bytes, frames) -> np.ndarray:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    (image,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for frame in frames:
        interpreter.set_tensor(image["index"], frame[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(output["index"])[0])
    return np.stack(rows)


def expected(artifact, layer, frames) -> np.ndarray:
    return layer.probabilities(grid(artifact, frames))


def grid(artifact, frames) -> np.ndarray:
    embedder = Embedder(artifact.model, artifact.preprocess)
    return to_grid(np.stack([embedder.embed(frame) for frame in frames]), embedder.zero_point)


@pytest.mark.parametrize("quantize", QUANTIZATIONS)
def test_its_probabilities_match_those_of_the_last_layer(converted, last_layer, frames, quantize):
    artifact = converted(quantize)
    probabilities = run(exported(artifact, last_layer), frames)
    reference = expected(artifact, last_layer, frames)
    np.testing.assert_allclose(probabilities, reference, atol=2e-3)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), reference.argmax(axis=1))


def test_an_int8_model_matches_to_float_precision(converted, last_layer, frames):
    artifact = converted("int8")
    np.testing.assert_allclose(
        run(exported(artifact, last_layer), frames), expected(artifact, last_layer, frames), atol=1e-5
    )


@pytest.mark.parametrize("quantize", QUANTIZATIONS)
def test_it_runs_in_the_oldest_interpreter(converted, last_layer, frames, run_in_tflite_runtime, quantize):
    model = exported(converted(quantize), last_layer)
    probabilities = run_in_tflite_runtime(model, np.stack(frames))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(probabilities, run(model, frames), atol=0.15)


def test_it_uses_only_operators_that_every_target_supports(converted, last_layer):
    for target in list_targets():
        check(exported(converted("int8"), last_layer), target)


def test_it_maps_one_image_to_the_probabilities(converted, last_layer):
    description = describe(exported(converted("int8"), last_layer))
    (image,), (output,) = description["inputs"], description["outputs"]
    assert (image["dtype"], image["shape"]) == ("uint8", [1, 32, 32, 3])
    assert (output["dtype"], output["shape"]) == ("float32", [1, len(LABELS)])


def test_labels_are_a_file_inside_that_any_zip_reader_finds(converted, last_layer):
    with zipfile.ZipFile(io.BytesIO(exported(converted("int8"), last_layer))) as archive:
        assert archive.namelist() == ["labels.txt"]
        assert archive.getinfo("labels.txt").compress_type == zipfile.ZIP_STORED
        assert tuple(archive.read("labels.txt").decode().splitlines()) == last_layer.labels


def test_normalising_as_the_metadata_say_feeds_the_raw_pixel(converted, last_layer):
    for quantize in ("int8", "float32"):
        model = exported(converted(quantize), last_layer, name="waste", licence="Apache-2.0")
        description = describe(model)
        mean, std = description["metadata"]["normalization"]
        image = description["inputs"][0]
        pixels = (np.arange(256) - mean) / std
        if image["scale"] is not None:
            pixels = pixels / image["scale"] + image["zero_point"]
        np.testing.assert_allclose(pixels, np.arange(256), atol=1e-3)
        assert description["metadata"]["name"] == "waste"
        assert description["metadata"]["licence"] == "Apache-2.0"


def test_weights_are_aligned_to_sixteen_bytes(converted, last_layer):
    model = exported(converted("int8"), last_layer)
    base = np.frombuffer(model, np.uint8).__array_interface__["data"][0]
    parsed = schema.classes().Model.GetRootAs(model, 0)
    starts = [
        parsed.Buffers(index).DataAsNumpy().__array_interface__["data"][0] - base
        for index in range(parsed.BuffersLength())
        if parsed.Buffers(index).DataLength()
    ]
    assert starts
    assert not [start for start in starts if start % schema.ALIGNMENT]


def test_the_same_parts_give_the_same_bytes(converted, last_layer):
    assert exported(converted("int8"), last_layer) == exported(converted("int8"), last_layer)


def extractor(kind: str, output: tuple[int, ...]) -> bytes:
    """What others compile: 8 x 8 pixels, averaged over quarters, to an embedding of 12 numbers."""
    builder = GraphBuilder()
    frame = builder.tensor((1, 8, 8, 3), "UINT8")
    frame_of_kind = frame if kind == "UINT8" else builder.tensor((1, 8, 8, 3), kind)
    quarters, embedding = builder.tensor((1, 2, 2, 3), kind), builder.tensor(output, kind)
    shape = builder.tensor((len(output),), "INT32", values=output)
    if kind != "UINT8":
        builder.operator("QUANTIZE", [frame], [frame_of_kind])
    pool = options("Pool2DOptions", padding=1, filterHeight=4, filterWidth=4, strideW=4, strideH=4)
    builder.operator("AVERAGE_POOL_2D", [frame_of_kind], [quarters], pool, version=2)
    builder.operator("RESHAPE", [quarters, shape], [embedding], options("ReshapeOptions", newShape=list(output)))
    return builder.build([frame], [embedding])


@pytest.mark.parametrize("kind", ["INT8", "UINT8"])
@pytest.mark.parametrize("output", [(1, 12), (1, 1, 1, 12)])
def test_an_extractor_from_elsewhere_gets_the_same_last_layer(kind, output):
    compiled = extractor(kind, output)
    rng = np.random.default_rng(3)
    photos = [
        frame + shade
        for shade in np.array([0, 20], np.uint8)
        for frame in rng.integers(0, 100, (40, 8, 8, 3), np.uint8)
    ]
    embedder = Embedder(compiled, Preprocess(8, 8))
    on_grid = to_grid(np.stack([embedder.embed(photo) for photo in photos]), embedder.zero_point)
    layer = choose(on_grid, ["dark"] * 40 + ["bright"] * 40, np.arange(80) % 4).last_layer
    model = append_last_layer(compiled, layer.weights, layer.bias, layer.labels, temperature=layer.temperature)
    np.testing.assert_allclose(run(model, photos), layer.probabilities(on_grid), atol=1e-5)


def test_the_same_operators_are_appended_to_a_model_and_its_compiled_form(shared):
    name = "coral/pairs/mobilenet_v1_1.0_224_quant_embedding_extractor"
    rng = np.random.default_rng(0)
    parts = (rng.normal(size=(1024, 4)), rng.normal(size=4), LABELS)
    files = (shared(f"{name}{ending}.tflite").read_bytes() for ending in ("", "_edgetpu"))
    twin, compiled = (append_last_layer(file, *parts) for file in files)
    assert tail_of(twin) == tail_of(compiled)
    assert verify(twin, compiled).match


def tail_of(model: bytes) -> list[tuple]:
    """The operators that were added, each with its name, its options, and what it reads and writes."""
    parsed = schema.read_model(model)
    graph = parsed.subgraphs[0]
    codes = read_graph(model).operator_codes

    def facts(index: int) -> tuple:
        tensor = graph.tensors[index]
        data = parsed.buffers[tensor.buffer].data
        scale = schema.tensor_scale(tensor)
        return schema.tensor_type_name(tensor), tuple(tensor.shape), scale, b"" if data is None else bytes(data)

    return [
        (codes[step.opcodeIndex].name, step.builtinOptionsType, *map(facts, [*step.inputs, *step.outputs]))
        for step in graph.operators[-7:]
    ]


def test_a_model_compiled_for_the_edge_tpu_keeps_its_operator(shared, last_layer):
    compiled = shared("coral/pairs/mobilenet_v2_1.0_224_quant_edgetpu.tflite").read_bytes()
    rng = np.random.default_rng(0)
    model = append_last_layer(compiled, rng.normal(size=(1001, 4)), rng.normal(size=4), LABELS)
    names = [operator["name"] for operator in describe(model)["operators"]]
    assert sorted(names) == sorted(
        ["edgetpu-custom-op", "DEQUANTIZE", "L2_NORMALIZATION", "MUL", "ROUND", "FULLY_CONNECTED", "SOFTMAX"]
    )
    check(model, load_target("coral"))
    kept = schema.read_model(model).subgraphs[0].operators[0].customOptions
    before = schema.read_model(compiled).subgraphs[0].operators[0].customOptions
    np.testing.assert_array_equal(kept, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.zeros((5, 4), np.float32)}, "must have weights"),
        ({"bias": np.zeros(3, np.float32)}, "must have weights"),
        ({"bias": np.full(4, np.nan, np.float32)}, "finite"),
        ({"temperature": 0.0}, "temperature above 0"),
        ({"labels": ("one", "two", "three", "two\nlines")}, "one label a line"),
        ({"labels": ("one", "two", "three", "")}, "one label a line"),
    ],
)
def test_a_last_layer_that_does_not_fit_is_refused(converted, last_layer, change, message):
    parts = {
        "weights": last_layer.weights,
        "bias": last_layer.bias,
        "labels": last_layer.labels,
        "temperature": last_layer.temperature,
        **change,
    }
    with pytest.raises(ConversionError, match=message):
        append_last_layer(converted("int8").model, **parts)


def test_damaged_metadata_raise_an_error_and_do_not_crash():
    whole = metadata.encode(metadata.ModelMetadata("name", "text", "1", "", (127.0, 128.0)))
    assert metadata.decode(whole).normalization == (127.0, 128.0)
    for length in range(0, len(whole), 7):
        try:
            metadata.decode(whole[:length])
        except ConversionError:
            continue
