"""The examples in docstrings run, and print what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

from tests.conftest import REPOSITORY

MODULES = [
    ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(REPOSITORY.glob("edgetl/**/*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.fixture(autouse=True)
def only_the_built_in_targets(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGETL_TARGETS", str(tmp_path))


def test_the_most_used_parts_have_examples():
    assert {"edgetl.learners.statistics", "edgetl.runtime.inference.preprocess", "edgetl.targets"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_hold(name):
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=options)
    assert tried
    assert not failed
