"""The tiny models for every test of the runtime."""

from tests.models import tiny_bundle, tiny_model, tiny_models

__all__ = ["tiny_bundle", "tiny_model", "tiny_models"]
