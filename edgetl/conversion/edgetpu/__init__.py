"""The Edge TPU: foretell what its compiler does with a model, run the compiler, and prove what came out.

`analyse` says which operators run where, and why; `compile` runs the compiler, on PATH or in a container;
`read_package` opens a compiled file; `verify` says whether two files belong together. Only `compile` needs
the compiler.
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
