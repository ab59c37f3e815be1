"""Lets a compiled model that takes int8 pixels take the raw ones, as all of edgetl has them; `origin` calls it."""

from __future__ import annotations

import copy

from edgetl.conversion.tflite import schema

_TO_UINT8 = 128
"""From the zero point of int8 numbers to that of uint8 ones: pixel = number + 128."""


def take_raw_pixels(model: bytes) -> bytes:
    """A .tflite file with uint8 pixels in, by a QUANTIZE in front where its only input is int8; else `model` itself.

    That is the operator which TensorFlow's converter puts there for uint8 inputs. It works alike on a model and
    on what the Edge TPU compiler made of it, and two that belonged together still do. Raises ConversionError.
    """
    parsed = schema.read_model(model)
    graph = parsed.subgraphs[0]
    inputs = [graph.tensors[index] for index in graph.inputs]
    if len(inputs) != 1 or schema.tensor_type_name(inputs[0]) != "int8":
        return model
    classes, quantized = schema.classes(), schema.tensor_scale(inputs[0])
    if quantized is None:
        return model
    pixels = copy.copy(inputs[0])
    pixels.name = "pixels"
    pixels.type = classes.TensorType.UINT8
    pixels.quantization = classes.QuantizationParametersT()
    pixels.quantization.scale, pixels.quantization.zeroPoint = [quantized[0]], [quantized[1] + _TO_UINT8]
    code = classes.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = classes.BuiltinOperator.QUANTIZE
    code.version = 1
    operator = classes.OperatorT()
    operator.opcodeIndex = len(parsed.operatorCodes)
    operator.inputs, operator.outputs = [len(graph.tensors)], list(graph.inputs)
    parsed.operatorCodes.append(code)
    graph.tensors.append(pixels)
    graph.operators.insert(0, operator)
    graph.inputs = list(operator.inputs)
    parsed.signatureDefs = []
    return schema.write_model(parsed)
