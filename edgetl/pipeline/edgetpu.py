"""The Edge TPU part of a build, and `edgetl compile`, which compiles the model of a finished bundle."""

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
    Verification,
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
"""Operators that may stay on the CPU: a conversion of the input and one of the output take microseconds."""

MAKE_COMPILER = "make the compiler's container"
"""A step that takes a minute, once per machine."""


@dataclass(frozen=True)
class EdgeTpuModel:
    """The Edge TPU model, if there is one; `state` is the manifest's value, `note` what the user can do next."""

    state: str
    model: Optional[bytes]
    note: str


def require_suitable(backbone: str, board: Target) -> None:
    """Check a backbone by its name, before its weights are fetched; files always pass.

    Raises:
        ConversionError: the board has an Edge TPU, which cannot run the backbone.
    """
    specs = {spec.name: spec for spec in list_backbones()}
    if not board.edgetpu or backbone not in specs or specs[backbone].coral:
        return
    suitable = [name for name, spec in specs.items() if spec.coral]
    nearest = difflib.get_close_matches(backbone, suitable, n=1, cutoff=0.0)[0]
    raise ConversionError(
        f"{backbone} has layers that the Edge TPU of {board.name} does not support; use {nearest} instead, "
        "or another one of: edgetl backbones"
    )


def take_precompiled(model: bytes, compiled: Optional[bytes], board: Target) -> Optional[EdgeTpuModel]:
    """The Edge TPU file that came with a backbone, verified to be the same model.

    None if `compiled` is None, or the board has no Edge TPU.

    Raises:
        ConversionError: `compiled` was made from another model, or for a newer runtime than the board's.
    """
    if compiled is None or not board.edgetpu:
        return None
    proof = verify(model, compiled, Limits.of(board))
    if not proof.match:
        raise ConversionError(
            f"the Edge TPU file does not belong to the backbone: {proof.reasons[0]}; give two files of the same model"
        )
    return EdgeTpuModel("compiled", compiled, "")


def require_mappable(model: bytes, board: Target) -> Optional[Analysis]:
    """Predict what the Edge TPU compiler will do with the model, before any time is spent.

    Returns the analysis, or None for a board without an Edge TPU.

    Raises:
        ConversionError: the compiler would refuse the model, or leave its layers on the CPU.
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
    """Find the Edge TPU compiler, or build its container, before any time is spent on work that needs it.

    Raises:
        OptionError: the board has no Edge TPU.
        ConversionError: there is no compiler, and no container engine to build one with.
    """
    if not board.edgetpu:
        raise OptionError(f"{board.name} has no Edge TPU to compile for; coral and coral-dev-board have one")
    if find_compiler() is None:
        report = progress or (lambda step, done, total: None)
        report(MAKE_COMPILER, 0, 1)
        make_compiler()
        report(MAKE_COMPILER, 1, 1)


def compile_for(model: bytes, board: Target) -> EdgeTpuModel:
    """The model compiled for the Edge TPU, if the board has one and a compiler is available.

    Raises:
        ConversionError: the compiler fails.
    """
    if not board.edgetpu:
        return EdgeTpuModel("not requested", None, "")
    if find_compiler() is None:
        note = "No Edge TPU compiler found. On x86-64 Linux with Docker, finish with: edgetl compile {bundle}"
        return EdgeTpuModel("not compiled", None, note)
    result = compile(model, limits=Limits.of(board))
    return EdgeTpuModel("compiled", result.model, "; ".join(result.differences))


def compile_bundle(bundle: Union[str, Path], progress: Optional[Progress] = None) -> CompileResult:
    """Compile a bundle's model for its board's Edge TPU, and replace the bundle in one step.

    The result says what the compiler did, and where that differs from the prediction.

    Raises:
        OptionError: the bundle's board has no Edge TPU.
        BundleError, ConversionError, StorageError: the bundle cannot be opened, compiled or written.
    """
    opened = open_bundle(bundle)
    board = load_target(opened.manifest.target)
    require_compiler(board, progress)
    compiled = compile(opened.read(MODEL), limits=Limits.of(board))
    entries = {**_entries(opened), EDGETPU_MODEL: compiled.model}
    pack(os.fspath(bundle), replace(opened.manifest, edgetpu="compiled", entries={}), entries)
    return compiled


def check(
    model: Union[str, Path], target: str = "coral", compiled: Optional[Union[str, Path]] = None
) -> Union[Analysis, Verification]:
    """Predict where the Edge TPU compiler will place each operator of a .tflite file or a bundle, and why.

    With `compiled`, or for a bundle that holds a compiled model, check instead that it was compiled from the model, and
    return a Verification.

    Raises:
        OptionError: the target has no Edge TPU, or there is no such file.
        BundleError, ConversionError: a file cannot be read.
    """
    board = load_target(target)
    if not board.edgetpu:
        raise OptionError(f"{target} has no Edge TPU; choose coral or coral-dev-board")
    limits = Limits.of(board)
    content, twin = _read_pair(Path(model), None if compiled is None else Path(compiled))
    return analyse(content, limits) if twin is None else verify(content, twin, limits)


def _read_pair(model: Path, compiled: Optional[Path]) -> tuple[bytes, Optional[bytes]]:
    """A model and its compiled form to verify: `compiled`, or the one in the bundle, if it has one."""
    if model.suffix != ".edgetl":
        return _read(model), None if compiled is None else _read(compiled)
    bundle = open_bundle(model)
    if compiled is not None:
        return bundle.read(MODEL), _read(compiled)
    return bundle.read(MODEL), bundle.read(EDGETPU_MODEL) if EDGETPU_MODEL in bundle else None


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise OptionError(f"no such file: {path}; expected a .tflite file")
    return path.read_bytes()


def _entries(bundle: Bundle) -> dict[str, bytes]:
    return {name: bundle.read(name) for name in bundle.names}
