"""Loads the names that a package exports on first use (PEP 562), so that importing the package is cheap."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Callable, Mapping


def attribute_loader(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a `__getattr__` for a package, which imports a name's module when the name is first used.

    Assign it under `if not TYPE_CHECKING`, or a type checker would accept any name.

    Args:
        package: the `__name__` of the package.
        modules: for each name, its module relative to the package; followed by `:` and the name there if it differs.
    """

    def load(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        module, _, attribute = modules[name].partition(":")
        value = getattr(import_module(f"{package}.{module}"), attribute or name)
        setattr(sys.modules[package], name, value)
        return value

    return load
