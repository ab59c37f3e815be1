"""Converts Keras backbones to TFLite, in one of several number formats, and caches the results."""
