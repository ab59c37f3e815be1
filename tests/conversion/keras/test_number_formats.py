"""Number formats are found by being in their folder, and all lists of them agree."""

from __future__ import annotations

import subprocess
import sys

import pytest

from edgetl.bundle import format as bundle_format
from edgetl.cli.build import build
from edgetl.conversion import QUANTIZATIONS, QUANTIZE_CHOICES
from edgetl.targets import list_targets


def test_a_device_accepts_every_format_in_a_manifest_and_no_other():
    assert sorted(bundle_format.QUANTIZATIONS) == sorted(QUANTIZATIONS)


@pytest.mark.parametrize("target", list_targets(), ids=lambda target: target.name)
def test_a_target_names_formats_that_exist(target):
    assert set(target.quantize) <= set(QUANTIZATIONS)


def test_the_command_line_offers_every_format_and_training_for_int8():
    (option,) = [option for option in build.params if option.name == "quantize"]
    assert tuple(option.type.choices) == QUANTIZE_CHOICES
    assert set(QUANTIZE_CHOICES) == {*QUANTIZATIONS, "int8-qat"}


def test_listing_the_formats_loads_neither_numpy_nor_tensorflow():
    code = "import sys, edgetl.conversion as c; c.QUANTIZATIONS; print({'numpy', 'tensorflow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "set()"
