"""The names of a package that are loaded on first use."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ModuleType]:
    """A package whose names `circle` and `disc` are loaded from its module `round`."""
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes/__init__.py").write_text(
        "from edgetl.lazy import attribute_loader\n"
        "__getattr__ = attribute_loader(__name__, {'circle': 'round', 'disc': 'round:filled_circle'})\n"
    )
    (tmp_path / "shapes/round.py").write_text("circle, filled_circle = object(), object()\n")
    monkeypatch.syspath_prepend(tmp_path)
    import shapes

    yield shapes
    for name in ("shapes", "shapes.round"):
        sys.modules.pop(name, None)


def test_the_module_of_a_name_is_imported_when_the_name_is_first_used(package: ModuleType) -> None:
    assert "shapes.round" not in sys.modules
    assert package.circle is sys.modules["shapes.round"].circle
    assert vars(package)["circle"] is package.circle


def test_a_name_can_have_another_name_in_its_module(package: ModuleType) -> None:
    assert package.disc is sys.modules["shapes.round"].filled_circle


def test_an_unknown_name_is_an_attribute_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match="module 'shapes' has no attribute 'square'"):
        _ = package.square
