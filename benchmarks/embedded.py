"""Embeds folders of photos with the compiled backbone, for the benchmarks that compare last layers."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgetl.backbones import get_backbone
from edgetl.conversion import compile_backbone
from edgetl.data import load_folder
from edgetl.learners import to_grid
from edgetl.runtime.inference.embedder import Embedder


@dataclass(frozen=True)
class Photos:
    """Embeddings and labels of the training and the test photos."""

    name: str
    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray

    @property
    def labels(self) -> list[str]:
        return sorted(set(self.train_labels.tolist()))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        help="folder with train/ and test/, or a folder of such folders; can be repeated",
    )
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--weights", type=Path, help="file with the backbone's weights")
    parser.add_argument("--json", action="store_true")


def embed(folder: Path, backbone: str, weights: Path | None) -> Photos:
    """Embeds a folder with train/ and test/; a folder of such folders, e.g. sessions, becomes one set."""
    artifact = compile_backbone(get_backbone(backbone), weights=weights)
    embedder = Embedder(artifact.model, artifact.preprocess)
    photos = [embed_part(part, embedder) for part in parts(folder)]
    return Photos(folder.name, *(np.concatenate(arrays) for arrays in zip(*photos)))


def parts(folder: Path) -> list[Path]:
    """The folder itself if it has train/, else its subfolders that have."""
    return [folder] if (folder / "train").is_dir() else sorted(path.parent for path in folder.glob("*/train"))


def embed_part(folder: Path, embedder: Embedder) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    dataset = load_folder(folder, preprocess=embedder.preprocess, embedder=embedder)
    embeddings = to_grid(dataset.embeddings, embedder.zero_point)
    learned = np.sort(np.concatenate([dataset.indices("train"), dataset.indices("val")]))
    test = dataset.indices("test")
    labels = np.array(dataset.labels_of(np.arange(len(dataset))))
    return embeddings[learned], labels[learned], embeddings[test], labels[test]
