"""The result of a conversion: the .tflite file and what other rooms need to know about it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgetl.conversion.tflite.graph import Graph, Tensor, read_single_graph
from edgetl.conversion.tflite.operators import Operator, list_operators
from edgetl.errors import ConversionError, IntegrityError, OptionError
from edgetl.runtime import Preprocess


@dataclass(frozen=True)
class Artifact:
    """A compiled backbone: uint8 RGB (1, h, w, 3) in, normalisation inside, embedding (1, d) out.

    A backbone from elsewhere may have the embedding (1, 1, 1, d), and uint8. `quantize` is the number format.
    `embedding` has "size", "dtype" ("int8", "uint8" or "float32"), "scale" and "zero_point" (1.0 and 0 for float32).
    `operators` are the distinct (name, version) in the file.
    """

    model: bytes
    quantize: str
    preprocess: Preprocess
    embedding: dict[str, Any]
    operators: tuple[Operator, ...]

    @classmethod
    def from_model(cls, model: bytes, quantize: str, preprocess: Preprocess) -> Artifact:
        """Read the remaining fields from a .tflite file.

        Raises:
            ConversionError: the file is damaged, or is not a backbone for `preprocess`.
        """
        graph = read_single_graph(model)
        frame, embedding = _only(graph, graph.inputs, "input"), _only(graph, graph.outputs, "output")
        expected, received = [1, *preprocess.size, 3], list(frame.shape)
        if frame.dtype != "uint8" or received != expected:
            raise ConversionError(f"the model's input must be uint8 {expected}, received {frame.dtype} {received}")
        shape = list(embedding.shape)
        if len(shape) < 2 or any(side != 1 for side in shape[:-1]):
            raise ConversionError(f"the model's output must be one embedding, [1, d] or [1, 1, 1, d], received {shape}")
        scale, zero_point = embedding.scale or (1.0, 0)
        return cls(
            model=model,
            quantize=quantize,
            preprocess=preprocess,
            embedding={"size": shape[-1], "dtype": embedding.dtype, "scale": scale, "zero_point": zero_point},
            operators=list_operators(model),
        )

    def to_bytes(self) -> bytes:
        """One line of JSON, which contains the digest of the model, followed by the model."""
        header = {
            "sha256": hashlib.sha256(self.model).hexdigest(),
            "quantize": self.quantize,
            "preprocess": self.preprocess.to_dict(),
            "embedding": self.embedding,
            "operators": self.operators,
        }
        return json.dumps(header, sort_keys=True).encode() + b"\n" + self.model

    @classmethod
    def from_bytes(cls, content: bytes) -> Artifact:
        """The inverse of `to_bytes`, without parsing the model.

        Raises:
            IntegrityError: a byte differs from what was written.
        """
        line, _, model = content.partition(b"\n")
        try:
            header = json.loads(line)
            if header["sha256"] != hashlib.sha256(model).hexdigest():
                raise IntegrityError("the compiled model does not match its digest")
            return cls(
                model=model,
                quantize=header["quantize"],
                preprocess=Preprocess.from_dict(header["preprocess"]),
                embedding=header["embedding"],
                operators=tuple(Operator(*entry) for entry in header["operators"]),
            )
        except (ValueError, KeyError, TypeError, OptionError) as error:
            raise IntegrityError("the compiled model's header is damaged") from error


def _only(graph: Graph, indices: Sequence[int], role: str) -> Tensor:
    if len(indices) != 1:
        raise ConversionError(f"the model must have one {role}, received {len(indices)}")
    return graph.tensors[indices[0]]
