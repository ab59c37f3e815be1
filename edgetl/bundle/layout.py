"""The names of the entries of a bundle."""

from __future__ import annotations

MANIFEST = "manifest.json"
SIGNATURE = "signature.json"
MODEL = "model.tflite"
EDGETPU_MODEL = "model_edgetpu.tflite"
LAST_LAYER_FOLDER = "last_layer/"
STATISTICS = "statistics.bin"
GUARD_EMBEDDINGS = "guard/embeddings.npy"
GUARD_LABELS = "guard/labels.json"
CANARIES = "canaries.json"
CANARY_FOLDER = "canaries/"
REPORT = "report.json"
ORIGINS = "taught.json"
"""Where the pictures in the statistics were taught, so that none is counted twice; only a Learner writes it."""
PATCH = "patch.json"
"""Only in a patch, which is a file in the same format with nothing but what was taught."""
