"""The Edge TPU's part of a build, and `edgetl compile`, which finishes a bundle where the compiler is."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional, Union

from edgetl.backbones import list_backbones
from edgetl.bundle import EDGETPU_MODEL, MODEL, Bundle, open_bundle, pack
from edgetl.conversion.edgetpu import (
    Analysis,
    CompileResult,
    Limits,
    analyse,
    compile,
    find_compiler,
    make_compiler,
    verify,
)
from edgetl.errors import ConversionError, OptionError
from edgetl.progress import Progress
from edgetl.targets import Target, load_target

MOST_ON_CPU = 2
"""Operators that may stay on the CPU: a conversion at the entrance and one at the exit cost microseconds."""


MAKE_COMPILER = "make the compiler's container"
"""The step that takes a minute, once on a machine."""


@dataclass(frozen=True)
class EdgeTpuModel:
    """What became of the model for the Edge TPU: `state` as the manifest has it, and a line that tells more."""

    state: str
    model: Optional[bytes]
    note: str


def require_suitable(backbone: str, board: Target) -> None:
    """Before weights are fetched: what is known of a backbone by its name; nothing is known of a file.

    Raises:
        ConversionError: the board has an Edge TPU, which does not take the backbone.
    """
    specs = {spec.name: spec for spec in list_backbones()}
    if not board.edgetpu or backbone not in specs or specs[backbone].coral:
        return
    suitable = [name for name, spec in specs.items() if spec.coral]
    nearest = difflib.get_close_matches(backbone, suitable, n=1, cutoff=0.0)[0]
    raise ConversionError(
        f"{backbone} has layers that the Edge TPU of {board.name} does not take; take {nearest} instead, "
        "or another one of: edgetl backbones"
    )


def take_precompiled(model: bytes, compiled: Optional[bytes], board: Target) -> Optional[EdgeTpuModel]:
    """A backbone that came compiled, proved to be `model`; None where none came, or the board has no Edge TPU.

    Raises:
        ConversionError: `compiled` was made from another model, or for a newer runtime than the board's.
    """
    if compiled is None or not board.edgetpu:
        return None
    proof = verify(model, compiled, Limits.of(board))
    if not proof.match:
        raise ConversionError(
            f"the Edge TPU file does not belong to the backbone: {proof.reasons[0]}; give the two files of one model"
        )
    return EdgeTpuModel("compiled", compiled, "")


def require_mappable(model: bytes, board: Target) -> Optional[Analysis]:
    """The forecast for a board with an Edge TPU, before any time is spent; None for other boards.

    Raises:
        ConversionError: the compiler would refuse the model, or leave its layers to the CPU.
    """
    if not board.edgetpu:
        return None
    analysis = analyse(model, Limits.of(board))
    if analysis.refused:
        raise ConversionError(f"the Edge TPU would refuse the model: {analysis.refused}; {analysis.refused_fix}")
    if len(analysis.cpu_ops) > MOST_ON_CPU:
        first = analysis.cpu_ops[0]
        raise ConversionError(
            f"{len(analysis.cpu_ops)} of {len(analysis.ops)} operators would stay on the CPU of {board.name}, "
            f"the first is {first.op}: {first.reason}; {first.fix or 'choose another backbone: edgetl backbones'}"
        )
    return analysis


def require_compiler(board: Target, progress: Optional[Progress] = None) -> None:
    """Finds the Edge TPU compiler, or makes its container, before any time is spent on what needs it.

    Raises:
        OptionError: the board has no Edge TPU.
        ConversionError: there is no compiler, and no container engine that could make one.
    """
    if not board.edgetpu:
        raise OptionError(f"{board.name} has no Edge TPU to compile for; coral and coral-dev-board have one")
    if find_compiler() is None:
        tell = progress or (lambda step, done, total: None)
        tell(MAKE_COMPILER, 0, 1)
        make_compiler()
        tell(MAKE_COMPILER, 1, 1)


def compile_for(model: bytes, board: Target) -> EdgeTpuModel:
    """The model as the Edge TPU runs it, where the board has one and a compiler is at hand.

    Raises:
        ConversionError: the compiler fails.
    """
    if not board.edgetpu:
        return EdgeTpuModel("not requested", None, "")
    if find_compiler() is None:
        note = "No Edge TPU compiler here. On x86-64 Linux with Docker, finish it with: edgetl compile {bundle}"
        return EdgeTpuModel("not compiled", None, note)
    result = compile(model, limits=Limits.of(board))
    return EdgeTpuModel("compiled", result.model, "; ".join(result.differences))


def compile_bundle(bundle: Union[str, Path], progress: Optional[Progress] = None) -> CompileResult:
    """Compile a bundle's model for its board's Edge TPU, in place: the old file or the whole new one.

    What comes back tells what the compiler did, and where it did not do what was foretold.

    Raises:
        OptionError: the bundle's board has no Edge TPU.
        BundleError, ConversionError, StorageError: it cannot be opened, compiled or written.
    """
    opened = open_bundle(bundle)
    board = load_target(opened.manifest.target)
    require_compiler(board, progress)
    made = compile(opened.read(MODEL), limits=Limits.of(board))
    entries = {**_entries(opened), EDGETPU_MODEL: made.model}
    pack(os.fspath(bundle), replace(opened.manifest, edgetpu="compiled", entries={}), entries)
    return made


def _entries(bundle: Bundle) -> dict[str, bytes]:
    return {name: bundle.read(name) for name in bundle.names}
