"""Packs candidates as bundles, and measures them by running the bundle with the device runtime."""

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
from edgetl.conversion import BackboneSource
from edgetl.data import Dataset
from edgetl.evaluation import Evaluation, Latency, Report, Variant, compressed_size, evaluate, measure_latency
from edgetl.pipeline.candidate import Candidate
from edgetl.pipeline.edgetpu import EdgeTpuModel
from edgetl.progress import Progress
from edgetl.runtime import Classifier, Embedder
from edgetl.runtime.inference import canary_entries, last_layer_entries
from edgetl.targets import Target

CANARIES = 8
"""Test photos in the bundle, with the host's predictions: a device must reproduce them before it activates it."""


@dataclass(frozen=True)
class Measurement:
    """How a candidate does when the device runtime runs its bundle on the test photos."""

    evaluation: Evaluation
    latency: Latency
    variant: Variant


@dataclass(frozen=True)
class BundlePacker:
    """Packs and measures the candidates of one build: the name, board, backbone and photos are the same for all."""

    name: str
    board: Target
    backbone: BackboneSource
    dataset: Dataset

    @property
    def photo_root(self) -> Path:
        """The folder that the names of photos in the report are relative to."""
        source = Path(self.dataset.report.source)
        return source if source.is_dir() else source.parent

    def measure(self, candidate: Candidate, scratch: Path, progress: Optional[Progress]) -> Measurement:
        """The accuracy on the test photos and the latency on this machine of a bundle packed into `scratch`."""
        bundle = self.pack(scratch / f"{candidate.artifact.quantize}.edgetl", candidate)
        test = self.dataset.indices("test")
        evaluation = evaluate(
            Classifier(bundle, threads=1),
            [self.dataset.samples[index].path for index in test],
            self.dataset.labels_of(test),
            root=self.photo_root,
            progress=progress,
        )
        latency, model = measure_latency(bundle), candidate.artifact.model
        variant = Variant(
            name=candidate.artifact.quantize,
            shipped=False,
            model_bytes=len(model),
            compressed_bytes=compressed_size(model),
            accuracy=evaluation.accuracy,
            latency=latency,
        )
        return Measurement(evaluation, latency, variant)

    def pack(
        self,
        path: Path,
        candidate: Candidate,
        proof: Optional[Report] = None,
        edgetpu: Optional[EdgeTpuModel] = None,
    ) -> Path:
        """Write the candidate's bundle to `path`, with the report's `proof` and the Edge TPU model if there are any."""
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
            backbone={**self.backbone.description, "stage": candidate.stage},
            preprocess=self.backbone.preprocess.to_dict(),
            target=self.board.name,
            quantize=candidate.artifact.quantize,
            labels=list(candidate.last_layer.labels),
            embedding=dict(candidate.artifact.embedding),
            last_layer=layer,
            accuracy=_accuracy(proof) if proof else {},
            edgetpu=edgetpu.state if edgetpu else "not requested",
            licences=[{"what": f"backbone {self.backbone.name}", "licence": self.backbone.description["licence"]}],
        )
        return pack(path, manifest, entries)

    def _guard(self, candidate: Candidate) -> dict[str, bytes]:
        """The raw embeddings (m, d) of the validation photos, on which later learning must not lose accuracy.

        The statistics contain them too, so they are removed from the statistics before they judge, which is exact.
        """
        indices = self.dataset.indices("val")
        embeddings = io.BytesIO()
        np.save(embeddings, candidate.embeddings[indices], allow_pickle=False)
        labels = json.dumps(self.dataset.labels_of(indices), ensure_ascii=False)
        return {GUARD_EMBEDDINGS: embeddings.getvalue(), GUARD_LABELS: labels.encode()}

    def _canaries(self, candidate: Candidate) -> dict[str, bytes]:
        """A few test photos at the model's size, with the predictions that this host makes for them."""
        embedder = Embedder(candidate.artifact.model, self.backbone.preprocess)
        pictures = [_jpeg(self.dataset.frame(index)) for index in self._one_per_class(CANARIES)]
        return canary_entries(pictures, embedder, candidate.last_layer, self.board.max_latency_ms)

    def _one_per_class(self, count: int) -> list[int]:
        """Indices of at most `count` test photos, one per class."""
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
