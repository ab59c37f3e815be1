"""Compares the throughput of decoding and embedding photos with the bare interpreter and with Keras.

    python -m benchmarks.embedding_pass [--data photos/] [--phone-photos 1000] [--rounds 3] [--json]

The bare interpreters run one single-threaded copy on each core, on frames in memory; the pass starts from files and an
empty cache. The rounds alternate, and the fastest of each counts, because other programs can only slow a round down.
Phone photos are generated: photos of --data enlarged to 4000 x 3000 pixels with sensor noise, rotated by their EXIF
orientation, each file different. --data defaults to data/trashnet under EDGETL_SHARED (default: ../shared next to the
repository).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from edgetl.conversion import BackboneSource, find_backbone_source
from edgetl.data import DataOptions, Dataset, load_folder
from edgetl.runtime import Embedder, Engine
from edgetl.runtime.system import cores

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
SHARED = Path(os.environ.get("EDGETL_SHARED", Path(__file__).resolve().parents[2] / "shared"))
PASS_LIMIT, PHONE_LIMIT_SECONDS = 1.5, 60
BATCH, KERAS_IMAGES = 32, 320
PHONE_SIZE, PHONE_NOISE, PHONE_SCENES = (4000, 3000), 8, 12


@dataclass(frozen=True)
class Row:
    """One measurement."""

    what: str
    images: int
    seconds: float

    @property
    def rate(self) -> float:
        """Images per second."""
        return self.images / self.seconds


def main() -> None:
    arguments = parse()
    result = measure(arguments)
    print(json.dumps(result, indent=2) if arguments.json else table(result))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "trashnet", help="a folder per class")
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--weights", type=Path, help="file with the backbone's weights")
    parser.add_argument("--phone-photos", type=int, default=1000, help="number of phone photos; 0 skips them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> dict[str, object]:
    source = find_backbone_source(arguments.backbone, None, arguments.weights, None)
    int8, float32 = source.compile("int8").model, source.compile("float32").model
    dataset = load(arguments.data, Embedder(int8, source.preprocess))
    frames = np.stack([dataset.frame(index) for index in range(min(len(dataset), KERAS_IMAGES))])
    count = dataset.report.embedded
    contenders: list[Callable[[], Row]] = [
        lambda: bare("int8", int8, frames, count),
        lambda: embedding_pass("edgetl's pass, from files", int8, source, arguments.data, False),
        lambda: embedding_pass("edgetl's pass, frames kept on disk", int8, source, arguments.data, True),
        lambda: bare("float32", float32, frames, count),
    ]
    rows = fastest(contenders, arguments.rounds)
    rows += fastest([keras(source, frames)], arguments.rounds)
    ratios = {
        f"{row.what} / {rows[0].what}": {"value": rows[0].rate / row.rate, "limit": PASS_LIMIT} for row in rows[1:3]
    }
    result: dict[str, object] = {
        "data": str(arguments.data),
        "backbone": source.name,
        "cores": cores(),
        "load_average": os.getloadavg()[0],
        "pixels": median_size(dataset),
    }
    if arguments.phone_photos:
        with tempfile.TemporaryDirectory() as folder:
            root = write_phone_photos(Path(folder), dataset, arguments.phone_photos)
            rows.append(embedding_pass("edgetl's pass, 12-megapixel photos", int8, source, root, False))
        thousand = rows[-1].seconds / rows[-1].images * 1000
        ratios["seconds for 1,000 photos of 12 megapixels"] = {"value": thousand, "limit": PHONE_LIMIT_SECONDS}
    return {**result, "rows": [{**asdict(row), "images_per_second": row.rate} for row in rows], "targets": ratios}


def fastest(contenders: list[Callable[[], Row]], rounds: int) -> list[Row]:
    """The best row of each measurement; they alternate, so that a busy moment does not affect only one."""
    runs = [[run() for run in contenders] for _ in range(rounds)]
    return [max(rows, key=lambda row: row.rate) for rows in zip(*runs)]


def bare(name: str, model: bytes, frames: np.ndarray, count: int) -> Row:
    """`count` frames through bare interpreters, one on each core."""
    engines = [Engine(model, threads=1) for _ in range(cores())]
    turns = iter(range(count))

    def run(engine: Engine) -> None:
        for turn in turns:
            engine.invoke(frames[turn % len(frames)])

    threads = [threading.Thread(target=run, args=(engine,)) for engine in engines]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Row(f"{name} interpreter, bare", count, time.monotonic() - started)


def embedding_pass(what: str, model: bytes, source: BackboneSource, data: Path, keep_frames: bool) -> Row:
    """What `edgetl build` does with new photos: list, decode, check, embed, split."""
    started = time.monotonic()
    dataset = load(data, Embedder(model, source.preprocess), keep_frames)
    seconds = time.monotonic() - started
    dataset.close()
    return Row(what, dataset.report.embedded, seconds)


def load(data: Path, embedder: Embedder, keep_frames: bool = False) -> Dataset:
    with tempfile.TemporaryDirectory() as cache:
        return load_folder(data, DataOptions(), None, embedder, keep_frames, Path(cache))


def keras(source: BackboneSource, frames: np.ndarray) -> Callable[[], Row]:
    """Keras's predict on the same frames, which are normalised beforehand."""
    assert source.assemble is not None
    model = source.assemble()
    offset, scale = source.normalization
    images = (frames.astype(np.float32) - offset) / scale
    model.predict(images[:BATCH], batch_size=BATCH, verbose=0)

    def run() -> Row:
        started = time.monotonic()
        model.predict(images, batch_size=BATCH, verbose=0)
        return Row(f"Keras predict, batch {BATCH}", len(images), time.monotonic() - started)

    return run


def write_phone_photos(folder: Path, dataset: Dataset, count: int) -> Path:
    """`count` JPEGs of a few scenes in two classes; a comment makes each file different."""
    scenes = list(phone_scenes(dataset, min(count, PHONE_SCENES)))
    for number in range(count):
        scene = scenes[number % len(scenes)]
        comment = b"\xff\xfe\x00\x0a%08d" % number
        path = folder / f"class {number % len(scenes) % 2}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(scene[:2] + comment + scene[2:])
    return folder


def phone_scenes(dataset: Dataset, count: int) -> Iterator[bytes]:
    generator = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for index in np.linspace(0, len(dataset) - 1, count, dtype=int):
        with Image.open(dataset.samples[index].path) as photo:
            large = np.asarray(photo.convert("RGB").resize(PHONE_SIZE, Image.Resampling.BICUBIC), np.int16)
        noisy = large + (PHONE_NOISE * generator.standard_normal(large.shape, np.float32)).astype(np.int16)
        file = io.BytesIO()
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90, exif=exif)
        yield file.getvalue()


def median_size(dataset: Dataset) -> list[int]:
    """The median (width, height) of a sample of the photos."""
    sizes = []
    for sample in dataset.samples[:: max(1, len(dataset) // 50)]:
        with Image.open(sample.path) as photo:
            sizes.append(photo.size)
    return [int(side) for side in np.median(sizes, axis=0)]


def table(result: dict) -> str:  # type: ignore[type-arg]
    lines = [
        f"{result['backbone']}, {result['data']} ({' x '.join(map(str, result['pixels']))} pixels), "
        f"{result['cores']} cores, load {result['load_average']:.1f}",
        f"{'':42}{'images':>8}{'seconds':>9}{'images/s':>10}",
    ]
    lines += [
        f"{row['what']:42}{row['images']:8}{row['seconds']:9.2f}{row['images_per_second']:10.1f}"
        for row in result["rows"]
    ]
    lines += [
        f"{what:70}{target['value']:7.2f}  (at most {target['limit']})" for what, target in result["targets"].items()
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
