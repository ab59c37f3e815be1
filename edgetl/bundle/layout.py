"""The name of every entry that a bundle may hold."""

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
"""Written by a Learner only: where the pictures in the statistics were taught, so that none is counted twice."""
PATCH = "patch.json"
"""In a patch, which is a bundle of what was taught alone."""
