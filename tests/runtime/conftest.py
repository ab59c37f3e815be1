"""The tiny models for every test of the runtime."""

from tests.models import tiny_bundle, tiny_model, tiny_models
from tests.runtime.device.installing import releases
from tests.runtime.learning.states import teachable

__all__ = ["releases", "teachable", "tiny_bundle", "tiny_model", "tiny_models"]
