"""Finds and repairs what quantization to int8 costs: equalization, bias correction, layer-wise error."""
