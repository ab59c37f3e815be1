"""Classifies images with a bundle: decode, preprocess, run the model, apply the last layer."""

from __future__ import annotations

import os
import threading
from collections import deque
from dataclasses import dataclass
from time import perf_counter
from typing import Deque, Dict, Iterable, Iterator, List, NamedTuple, Optional, Tuple, Union

import numpy as np

from edgetl.bundle import EDGETPU_MODEL, MODEL, Bundle, Manifest, open_bundle
from edgetl.errors import IntegrityError, OptionError
from edgetl.learners import LastLayer, to_grid
from edgetl.runtime.inference.bundle_entries import read_last_layer
from edgetl.runtime.inference.engine import Engine
from edgetl.runtime.inference.preprocess import ImageSource, Preprocess
from edgetl.runtime.system import cores

THREADS_LIMIT = 4
"""The default of `threads` is at most this: small models hardly gain from more."""


@dataclass(frozen=True)
class Prediction:
    """The result for one image."""

    label: str
    """The most probable label."""
    probability: float
    """The probability of `label`, 0..1, calibrated on images that the last layer was not solved from."""
    probabilities: Dict[str, float]
    """The probability of every label, in the order of the classifier's labels; they sum to one."""
    novelty: float
    """The share of known images, 0..1, that look less unusual than this one."""
    is_novel: bool
    """Whether the image probably shows none of the labels: its novelty exceeds the bundle's threshold."""
    milliseconds: Dict[str, float]
    """The time of "decode", "preprocess", "invoke" and "last_layer", and their sum "total"."""

    def top(self, count: int = 5) -> List[Tuple[str, float]]:
        """The most probable labels with their probabilities, the most probable first."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:count]


class Classifier:
    """A bundle that is loaded and ready to predict.

    Thread-safe: decoding runs concurrently, while a lock lets one call at a time run the model, which spreads one
    image over `threads` cores. To classify many images at the full rate of all cores, use one Classifier with
    threads=1 per thread.

    `threads` is the number of interpreter threads; by default the number of cores, at most 4.

    Raises:
        BundleError: the bundle is damaged, or its manifest does not match the model or the last layer.
        EngineError: the model cannot run here.
    """

    def __init__(self, bundle: Union[Bundle, str, os.PathLike[str]], threads: Optional[int] = None) -> None:
        self._bundle = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
        self._preprocess = _preprocess_of(self._bundle)
        self._last_layer = read_last_layer(self._bundle)
        self._engine = _engine_of(self._bundle, default_threads() if threads is None else threads)
        _check_claims(self._bundle, self._engine, self._preprocess)
        self._lock = threading.Lock()
        self._engine.invoke(np.zeros((*self._preprocess.size, 3), np.uint8))  # the first run is slow

    @property
    def manifest(self) -> Manifest:
        """The manifest of the bundle."""
        return self._bundle.manifest

    @property
    def labels(self) -> Tuple[str, ...]:
        """The labels that a prediction chooses from."""
        return self._current_layer().labels

    @property
    def interpreter(self) -> str:
        """The interpreter's name and version."""
        return self._engine.interpreter

    @property
    def accelerator(self) -> str:
        """The hardware that runs the model: "edgetpu" or "cpu"."""
        return self._engine.accelerator

    @property
    def note(self) -> str:
        """Why the CPU runs a bundle that has a model for the Edge TPU; empty otherwise."""
        return self._engine.note

    def predict(self, image: ImageSource) -> Prediction:
        """The prediction for a path, a file's bytes, a Pillow image or a uint8 RGB array (height, width, 3).

        An array of the model's size is not copied. Raises ImageError if the image cannot be decoded.
        """
        return self._classify(self._prepare(image))[0]

    def predict_and_embed(self, image: ImageSource) -> Tuple[Prediction, np.ndarray]:
        """The prediction for an image and its raw embedding (d,), from one run of the model."""
        return self._classify(self._prepare(image))

    def predict_many(self, images: Iterable[ImageSource]) -> Iterator[Prediction]:
        """Yields the predictions in the order of the images, which are read lazily and decoded ahead.

        Raises ImageError at the first image that cannot be decoded; to skip such images, call `predict` on each.
        """
        from concurrent.futures import Future, ThreadPoolExecutor  # slow to import, and `predict` does not need it

        ahead: Deque[Future[_Prepared]] = deque()
        with ThreadPoolExecutor(_DECODERS, thread_name_prefix="edgetl-decode") as decoders:
            for image in images:
                ahead.append(decoders.submit(self._prepare, image))
                if len(ahead) > _DECODERS:
                    yield self._classify(ahead.popleft().result())[0]
            while ahead:
                yield self._classify(ahead.popleft().result())[0]

    def embed(self, image: ImageSource) -> np.ndarray:
        """The raw embedding (d,) of an image, in the dtype of the model's output. Raises ImageError."""
        return self._invoke(self._prepare(image).frame)

    def _prepare(self, source: ImageSource) -> _Prepared:
        if self._preprocess.is_frame(source):
            return _Prepared(source, 0.0, 0.0)
        start = perf_counter()
        image = self._preprocess.decode(source)
        decoded = perf_counter()
        frame = self._preprocess.apply(image)
        return _Prepared(frame, decoded - start, perf_counter() - decoded)

    def _invoke(self, frame: np.ndarray) -> np.ndarray:
        with self._lock:
            return self._engine.invoke(frame)

    def _current_layer(self) -> LastLayer:
        """The last layer to predict with. A Learner's classifier overrides this."""
        return self._last_layer

    def _observe(self, grid: np.ndarray, prediction: Prediction) -> None:
        """Receives every fixed-point embedding (d,) with its prediction. A Learner's classifier overrides this."""

    def _classify(self, prepared: _Prepared) -> Tuple[Prediction, np.ndarray]:
        start = perf_counter()
        raw = self._invoke(prepared.frame)
        invoked = perf_counter()
        last_layer = self._current_layer()
        grid = to_grid(raw, self._engine.zero_point)
        rows, novelties = last_layer.predict(grid)
        probabilities, novelty = rows[0].tolist(), float(novelties[0])
        done = perf_counter()
        probability = max(probabilities)
        milliseconds = {
            "decode": 1000 * prepared.decode_seconds,
            "preprocess": 1000 * prepared.preprocess_seconds,
            "invoke": 1000 * (invoked - start),
            "last_layer": 1000 * (done - invoked),
            "total": 1000 * (prepared.decode_seconds + prepared.preprocess_seconds + done - start),
        }
        prediction = Prediction(
            label=last_layer.labels[probabilities.index(probability)],
            probability=probability,
            probabilities=dict(zip(last_layer.labels, probabilities)),
            novelty=novelty,
            is_novel=novelty > last_layer.novelty_threshold,
            milliseconds=milliseconds,
        )
        self._observe(grid, prediction)
        return prediction, raw


def default_threads() -> int:
    """The default number of interpreter threads: the number of cores, at most THREADS_LIMIT."""
    return min(THREADS_LIMIT, cores())


_DECODERS = 2


class _Prepared(NamedTuple):
    """A frame for the model, uint8 (height, width, 3), and the time that it took."""

    frame: np.ndarray
    decode_seconds: float
    preprocess_seconds: float


def _preprocess_of(bundle: Bundle) -> Preprocess:
    try:
        return Preprocess.from_dict(bundle.manifest.preprocess)
    except OptionError as error:
        raise IntegrityError(f"{bundle.path}: the manifest's {error}") from error


def _engine_of(bundle: Bundle, threads: int) -> Engine:
    edgetpu_model = bundle.read(EDGETPU_MODEL) if EDGETPU_MODEL in bundle else None
    return Engine(bundle.read(MODEL), threads=threads, edgetpu_model=edgetpu_model)


def _check_claims(bundle: Bundle, engine: Engine, preprocess: Preprocess) -> None:
    """Compares what the manifest says about the model with the model itself."""
    embedding = bundle.manifest.embedding
    claims = {
        "input size": (preprocess.size, engine.input_size),
        "embedding size": (embedding["size"], engine.output_size),
        "embedding dtype": (embedding["dtype"], engine.output_dtype.name),
        "embedding zero point": (embedding["zero_point"], engine.zero_point),
        "embedding scale": (np.float32(embedding["scale"]), np.float32(engine.scale)),
    }
    for name, (claimed, actual) in claims.items():
        if claimed != actual:
            raise IntegrityError(
                f"{bundle.path}: the manifest says {name} {claimed}, the model has {actual}; build it again"
            )
