"""Converts Keras backbones to TFLite, and keeps those that were compiled before."""
