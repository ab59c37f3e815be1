"""edgetl: transfer-learned image models that are small, honestly measured, and keep learning on the device."""

__version__ = "0.1.0"
