"""Packs candidates as bundles, and measures them by running the bundle as a device does; `build` calls it."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import numpy as np
from PIL import Image

from edgetl import __version__
from edgetl.bundle import EDGETPU_MODEL, GUARD_EMBEDDINGS, GUARD_LABELS, MODEL, REPORT, STATISTICS, Manifest, pack
from edgetl.conversion.backbone_source import Origin
from edgetl.data import Dataset
from edgetl.evaluation import Evaluation, Latency, Report, Variant, compressed_size, evaluate, measure_latency
from edgetl.pipeline.candidate import Candidate
from edgetl.pipeline.edgetpu import EdgeTpuModel
from edgetl.progress import Progress
from edgetl.runtime import Classifier, Embedder
from edgetl.runtime.inference.bundle_entries import last_layer_entries
from edgetl.runtime.inference.canaries import canary_entries
from edgetl.targets import Target

CANARIES = 8
"""Pictures in the bundle, with the host's answers, that a device must answer alike before it switches."""


@dataclass(frozen=True)
class Measured:
    """What a candidate is worth when the device runtime runs its bundle on the test photos."""

    evaluation: Evaluation
    latency: Latency
    variant: Variant


@dataclass(frozen=True)
class Shelf:
    """What all bundles of one build have in common."""

    name: str
    board: Target
    origin: Origin
    dataset: Dataset

    @property
    def root(self) -> Path:
        """The folder that photos are named from."""
        source = Path(self.dataset.report.source)
        return source if source.is_dir() else source.parent

    def measure(self, candidate: Candidate, scratch: Path, progress: Optional[Progress]) -> Measured:
        """Accuracy on the test photos and latency on this machine, from a bundle packed into `scratch`."""
        bundle = self.pack(scratch / f"{candidate.artifact.quantize}.edgetl", candidate)
        test = self.dataset.indices("test")
        figures = evaluate(
            Classifier(bundle, threads=1),
            [self.dataset.samples[index].path for index in test],
            self.dataset.labels_of(test),
            root=self.root,
            progress=progress,
        )
        latency, model = measure_latency(bundle), candidate.artifact.model
        variant = Variant(
            name=candidate.artifact.quantize,
            shipped=False,
            model_bytes=len(model),
            compressed_bytes=compressed_size(model),
            accuracy=figures.accuracy,
            latency=latency,
        )
        return Measured(figures, latency, variant)

    def pack(
        self,
        path: Path,
        candidate: Candidate,
        proof: Optional[Report] = None,
        edgetpu: Optional[EdgeTpuModel] = None,
    ) -> Path:
        """Write the candidate's bundle; with the report's `proof` and the Edge TPU's model, where they are there."""
        layer, entries = last_layer_entries(candidate.last_layer, candidate.selection.parameters)
        entries[MODEL] = candidate.artifact.model
        entries[STATISTICS] = candidate.selection.statistics.to_bytes()
        entries |= self._guard(candidate) | self._canaries(candidate)
        if edgetpu is not None and edgetpu.model is not None:
            entries[EDGETPU_MODEL] = edgetpu.model
        if proof is not None:
            entries[REPORT] = proof.to_json().encode()
        manifest = Manifest(
            name=self.name,
            edgetl_version=__version__,
            backbone={**self.origin.description, "stage": candidate.stage},
            preprocess=self.origin.preprocess.to_dict(),
            target=self.board.name,
            quantize=candidate.artifact.quantize,
            labels=list(candidate.last_layer.labels),
            embedding=dict(candidate.artifact.embedding),
            last_layer=layer,
            accuracy=_accuracy(proof) if proof else {},
            edgetpu=edgetpu.state if edgetpu else "not requested",
            licences=[{"what": f"backbone {self.origin.name}", "licence": self.origin.description["licence"]}],
        )
        return pack(path, manifest, entries)

    def _guard(self, candidate: Candidate) -> dict[str, bytes]:
        """The validation photos' raw embeddings (m, d): what no later learning step may make worse.

        They are part of the statistics too; who judges by them takes them out first, which is exact.
        """
        indices = self.dataset.indices("val")
        embeddings = io.BytesIO()
        np.save(embeddings, candidate.embeddings[indices], allow_pickle=False)
        labels = json.dumps(self.dataset.labels_of(indices), ensure_ascii=False)
        return {GUARD_EMBEDDINGS: embeddings.getvalue(), GUARD_LABELS: labels.encode()}

    def _canaries(self, candidate: Candidate) -> dict[str, bytes]:
        """A few test photos at the model's size, with the answers that this host gives for them."""
        embedder = Embedder(candidate.artifact.model, self.origin.preprocess)
        pictures = [_jpeg(self.dataset.frame(index)) for index in self._one_of_each(CANARIES)]
        return canary_entries(pictures, embedder, candidate.last_layer, self.board.max_latency_ms)

    def _one_of_each(self, count: int) -> list[int]:
        """Up to `count` test photos, of as many classes as there are."""
        by_label: dict[str, int] = {}
        for index in self.dataset.indices("test"):
            by_label.setdefault(self.dataset.samples[index].label, int(index))
        return sorted(by_label.values())[:count]


def _jpeg(frame: np.ndarray) -> bytes:
    picture = io.BytesIO()
    Image.fromarray(frame).save(picture, "JPEG", quality=90)
    return picture.getvalue()


def _accuracy(proof: Report) -> dict[str, Any]:
    reference = proof.summary.float_accuracy
    known = {proof.summary.quantize: proof.summary.accuracy.value, "n": proof.evaluation.n}
    return {**known, "float": reference.value} if reference else known
