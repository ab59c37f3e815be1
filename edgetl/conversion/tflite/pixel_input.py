"""Makes a compiled model with int8 input accept uint8 pixels, as every edgetl model does."""

from __future__ import annotations

import copy

from edgetl.conversion.tflite import schema

_UINT8_SHIFT = 128
"""Difference between the zero points of uint8 and int8: pixel = integer + 128."""


def take_raw_pixels(model: bytes) -> bytes:
    """A .tflite file with uint8 pixels as input; `model` itself if its input is not int8.

    The conversion is a QUANTIZE operator in front, as TensorFlow's converter emits it for uint8 inputs. It works on
    a model and on the Edge TPU compiler's form of it alike, and a matching pair still matches.

    Raises:
        ConversionError: the bytes are not an intact .tflite file.
    """
    parsed = schema.read_model(model)
    graph = parsed.subgraphs[0]
    inputs = [graph.tensors[index] for index in graph.inputs]
    if len(inputs) != 1 or schema.tensor_type_name(inputs[0]) != "int8":
        return model
    classes, quantization = schema.classes(), schema.tensor_scale(inputs[0])
    if quantization is None:
        return model
    scale, zero_point = quantization
    pixels = copy.copy(inputs[0])
    pixels.name = "pixels"
    pixels.type = classes.TensorType.UINT8
    pixels.quantization = classes.QuantizationParametersT()
    pixels.quantization.scale, pixels.quantization.zeroPoint = [scale], [zero_point + _UINT8_SHIFT]
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
