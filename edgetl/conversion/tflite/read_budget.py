"""Checks that a .tflite file can be unpacked at a cost in proportion to its size.

The generated object API copies whatever the file refers to, as often as the file refers to it: a file of 160 kB can
make it run for hours. So this module first walks the file and charges every table, string and vector that the
object API would visit to the file's read budget.
"""

from __future__ import annotations

from collections.abc import Mapping

from edgetl.conversion.tflite.flatbuffer import UINT8, Table

_VECTOR = "vector"  # of numbers, or a string

# Fields of schema.fbs whose size the file decides: a vector, a table, "[...]" a vector of tables, or a union, whose
# type is in the field before. Tables that have none of these are left out.
TABLES: Mapping[str, Mapping[int, str]] = {
    "Model": {
        1: "[OperatorCode]",
        2: "[SubGraph]",
        3: _VECTOR,
        4: "[Buffer]",
        5: _VECTOR,
        6: "[Metadata]",
        7: "[SignatureDef]",
        8: "[ExternalBufferGroup]",
        9: "[ExternalBuffer]",
    },
    "OperatorCode": {1: _VECTOR},
    "SubGraph": {0: "[Tensor]", 1: _VECTOR, 2: _VECTOR, 3: "[Operator]", 4: _VECTOR},
    "Buffer": {0: _VECTOR},
    "Metadata": {0: _VECTOR},
    "SignatureDef": {0: "[TensorMap]", 1: "[TensorMap]", 2: _VECTOR},
    "TensorMap": {0: _VECTOR},
    "ExternalBufferGroup": {0: _VECTOR},
    "ExternalBuffer": {4: _VECTOR},
    "Tensor": {
        0: _VECTOR,
        3: _VECTOR,
        4: "QuantizationParameters",
        6: "SparsityParameters",
        7: _VECTOR,
        9: "[VariantSubType]",
    },
    "VariantSubType": {0: _VECTOR},
    "QuantizationParameters": {0: _VECTOR, 1: _VECTOR, 2: _VECTOR, 3: _VECTOR, 5: "QuantizationDetails"},
    "CustomQuantization": {0: _VECTOR},
    "BlockwiseQuantization": {3: _VECTOR},
    "MultiAxisQuantization": {3: _VECTOR},
    "SparsityParameters": {0: _VECTOR, 1: _VECTOR, 2: "[DimensionMetadata]"},
    "DimensionMetadata": {3: "SparseIndexVector", 5: "SparseIndexVector"},
    "Int32Vector": {0: _VECTOR},
    "Uint16Vector": {0: _VECTOR},
    "Uint8Vector": {0: _VECTOR},
    "Operator": {
        1: _VECTOR,
        2: _VECTOR,
        4: "BuiltinOptions",
        5: _VECTOR,
        7: _VECTOR,
        8: _VECTOR,
        12: "BuiltinOptions2",
    },
    "BucketizeOptions": {0: _VECTOR},
    "ConcatEmbeddingsOptions": {1: _VECTOR, 2: _VECTOR},
    "FullyConnectedOptions": {5: _VECTOR},
    "ReshapeOptions": {0: _VECTOR},
    "SqueezeOptions": {0: _VECTOR},
    "VarHandleOptions": {0: _VECTOR, 1: _VECTOR},
    "StableHLOCompositeOptions": {0: _VECTOR, 2: _VECTOR},
    "StablehloBroadcastInDimOptions": {0: _VECTOR},
    "StablehloCaseOptions": {0: _VECTOR},
    "StablehloConvolutionOptions": dict.fromkeys((0, 1, 2, 3, 4, 7, 10, 13, 16), _VECTOR),
    "StablehloCustomCallOptions": {0: _VECTOR, 2: _VECTOR, 4: _VECTOR, 5: _VECTOR},
    "StablehloDotGeneralOptions": dict.fromkeys(range(5), _VECTOR),
    "StablehloDynamicSliceOptions": {0: _VECTOR},
    "StablehloGatherOptions": {0: _VECTOR, 1: _VECTOR, 2: _VECTOR, 4: _VECTOR},
    "StablehloPadOptions": {0: _VECTOR, 1: _VECTOR, 2: _VECTOR},
    "StablehloReduceOptions": {0: _VECTOR},
    "StablehloReduceWindowOptions": dict.fromkeys(range(5), _VECTOR),
    "StablehloScatterOptions": {1: _VECTOR, 2: _VECTOR, 3: _VECTOR},
    "StablehloSliceOptions": {0: _VECTOR, 1: _VECTOR, 2: _VECTOR},
    "StablehloTransposeOptions": {0: _VECTOR},
}

UNIONS: Mapping[str, Mapping[int, str]] = {
    "QuantizationDetails": {1: "CustomQuantization", 2: "BlockwiseQuantization", 3: "MultiAxisQuantization"},
    "SparseIndexVector": {1: "Int32Vector", 2: "Uint16Vector", 3: "Uint8Vector"},
    "BuiltinOptions": {
        3: "ConcatEmbeddingsOptions",
        8: "FullyConnectedOptions",
        17: "ReshapeOptions",
        30: "SqueezeOptions",
        111: "VarHandleOptions",
        115: "BucketizeOptions",
    },
    "BuiltinOptions2": {
        2: "StablehloBroadcastInDimOptions",
        3: "StablehloSliceOptions",
        4: "StablehloConvolutionOptions",
        5: "StablehloCustomCallOptions",
        6: "StablehloReduceOptions",
        7: "StablehloScatterOptions",
        9: "StablehloDynamicSliceOptions",
        10: "StablehloPadOptions",
        12: "StablehloDotGeneralOptions",
        13: "StablehloReduceWindowOptions",
        16: "StablehloGatherOptions",
        17: "StablehloTransposeOptions",
        21: "StableHLOCompositeOptions",
        23: "StablehloCaseOptions",
    },
}


def charge(table: Table, name: str = "Model") -> None:
    """Charge everything below a table of schema.fbs to the budget of its file.

    Raises:
        ConversionError: the file points outside itself, or refers to far more elements than it has bytes for.
    """
    for field, content in TABLES.get(name, {}).items():
        if content == _VECTOR:
            table.buffer.spend(table.length(field))
        elif content.startswith("["):
            for entry in table.tables(field):
                charge(entry, content[1:-1])
        elif (child := table.table(field)) is not None:
            charge(child, UNIONS[content].get(table.number(field - 1, UINT8), "") if content in UNIONS else content)
