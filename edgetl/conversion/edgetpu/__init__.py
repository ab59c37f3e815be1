"""Predicts what the Edge TPU compiler does with a model, runs the compiler, and verifies its output.

- `analyse` predicts which operators run where, and why.
- `compile` runs the compiler, from PATH or in a container. Only this function needs the compiler.
- `read_package` reads a compiled file.
- `verify` checks that a compiled file was made from a given model.
"""

from __future__ import annotations

from edgetl.conversion.edgetpu.analysis import Analysis, Limits, Placement, analyse
from edgetl.conversion.edgetpu.compiler import (
    CompileOptions,
    Compiler,
    CompileResult,
    compile,
    find_compiler,
    make_compiler,
)
from edgetl.conversion.edgetpu.compiler_log import CompilerLog, LogRow, parse_log
from edgetl.conversion.edgetpu.memory import Parameters
from edgetl.conversion.edgetpu.package import CompiledModel, Executable, Package, is_compiled, read_package
from edgetl.conversion.edgetpu.verification import Verification, verify

__all__ = [
    "Analysis",
    "CompileOptions",
    "CompileResult",
    "CompiledModel",
    "Compiler",
    "CompilerLog",
    "Executable",
    "Limits",
    "LogRow",
    "Package",
    "Parameters",
    "Placement",
    "Verification",
    "analyse",
    "compile",
    "find_compiler",
    "is_compiled",
    "make_compiler",
    "parse_log",
    "read_package",
    "verify",
]
