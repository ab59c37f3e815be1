"""From a photo to a label: decoding, the TFLite interpreter, the last layer, and the canaries that prove them."""
