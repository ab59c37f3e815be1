"""Compares edgetl with the Keras transfer-learning recipe: same photos, splits, backbone and machine, in one run.

    python -m benchmarks.recipe --data photos/ [--backbone NAME] [--weights FILE] [--json]

`photos/` has `train/` and `test/`, each with a folder per class. The recipe is the script of the Keras guide "Transfer
learning and fine-tuning" (keras.io/guides/transfer_learning), extended to many classes: a head is trained on the frozen
backbone for 10 epochs, then everything for 10 epochs at 1e-5 with BatchNorm in inference mode. It learns from all of
train/; edgetl holds out validation photos from it. The seconds of Keras are those of fit alone; the seconds of edgetl
are those of the whole command, from a cold start to the bundle and its report.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
EPOCHS, BATCH = 10, 32
SOLVING = ("compile backbone", "read photos", "solve last layer")
"""The stages of a build up to the last layer, which correspond to Keras's fit."""


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        rows = [*edgetl_rows(arguments, Path(folder)), *keras_rows(arguments)]
    result = {"data": str(arguments.data), "backbone": arguments.backbone, "rows": rows, "ratios": ratios(rows)}
    print(json.dumps(result, indent=2) if arguments.json else table(result))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and test/")
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--weights", type=Path, help="file with the backbone's weights")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def edgetl_rows(arguments: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """A build without fine-tuning and cache, then with the compiled backbone; then a complete build without cache."""
    first = build(arguments, folder / "first", fine_tune="off")
    forget_photos(folder / "first")
    cached = build(arguments, folder / "first", fine_tune="off")
    whole = build(arguments, folder / "whole", fine_tune="auto")
    return [
        {
            "what": "edgetl stage 1, nothing cached",
            "accuracy": first["accuracy"]["int8"],
            "seconds": solving_seconds(first),
        },
        {
            "what": "edgetl stage 1, backbone cached",
            "accuracy": cached["accuracy"]["int8"],
            "seconds": solving_seconds(cached),
        },
        {
            "what": "edgetl build, fine-tuned, to the bundle",
            "accuracy": whole["accuracy"]["int8"],
            "seconds": whole["wall"],
        },
    ]


def build(arguments: argparse.Namespace, cache: Path, fine_tune: str) -> dict[str, Any]:
    """The output of `edgetl build --json`, and the duration of the command."""
    command = [sys.executable, "-m", "edgetl", "build", "--data", str(arguments.data), "--fine-tune", fine_tune]
    command += ["--backbone", arguments.backbone, "--output", str(cache / "built"), "--json"]
    command += ["--weights", str(arguments.weights)] if arguments.weights else []
    started = time.monotonic()
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "EDGETL_CACHE": str(cache)}
    )
    return {**json.loads(done.stdout), "wall": time.monotonic() - started}


def forget_photos(cache: Path) -> None:
    """Deletes everything from the cache but the compiled backbone."""
    for path in cache.glob("*.sqlite*"):
        path.unlink()


def solving_seconds(built: dict[str, Any]) -> float:
    return sum(built["seconds"].get(step, 0.0) for step in SOLVING)


def keras_rows(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    import tf_keras

    from edgetl.backbones import build, get_backbone

    tf_keras.utils.set_random_seed(0)
    spec = get_backbone(arguments.backbone)
    backbone = build(spec, weights=arguments.weights)
    train, test = (photos(arguments.data / split, backbone.input_shape[1:3]) for split in ("train", "test"))
    model = recipe_model(backbone, spec.normalization, len(train.class_names))
    train, test = train.cache().prefetch(BATCH), test.cache().prefetch(BATCH)

    backbone.trainable = False
    frozen = fit(model, train, learning_rate=1e-3)
    rows = [{"what": "Keras recipe, frozen", "accuracy": accuracy(model, test), "seconds": frozen}]
    backbone.trainable = True
    tuned = fit(model, train, learning_rate=1e-5)
    rows.append({"what": "Keras recipe, fine-tuned", "accuracy": accuracy(model, test), "seconds": frozen + tuned})
    return rows


def photos(folder: Path, size: tuple[int, int]) -> Any:
    from tf_keras.utils import image_dataset_from_directory

    with contextlib.redirect_stdout(sys.stderr):  # it counts the files aloud
        return image_dataset_from_directory(folder, batch_size=BATCH, image_size=size, seed=0)


def recipe_model(backbone: Any, normalization: tuple[float, float], classes: int) -> Any:
    from tf_keras import Input, Model, Sequential, layers

    offset, scale = normalization
    image = Input(backbone.input_shape[1:])
    x = Sequential([layers.RandomFlip("horizontal"), layers.RandomRotation(0.1)])(image)
    x = layers.Rescaling(1 / scale, -offset / scale)(x)
    x = backbone(x, training=False)
    x = layers.Dropout(0.2)(x)
    return Model(image, layers.Dense(classes)(x))


def fit(model: Any, train: Any, learning_rate: float) -> float:
    """The seconds that it took."""
    from tf_keras import losses, optimizers

    model.compile(
        optimizers.Adam(learning_rate), losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    started = time.monotonic()
    model.fit(train, epochs=EPOCHS, verbose=0)
    return time.monotonic() - started


def accuracy(model: Any, test: Any) -> float:
    return float(model.evaluate(test, verbose=0)[1])


def ratios(rows: list[dict[str, Any]]) -> dict[str, float]:
    """How many times faster edgetl is, each time against the corresponding phase."""
    first, cached, whole, frozen, tuned = (row["seconds"] for row in rows)
    return {
        "frozen phase / stage 1, nothing cached": frozen / first,
        "frozen phase / stage 1, backbone cached": frozen / cached,
        "whole recipe / whole build": tuned / whole,
    }


def table(result: dict[str, Any]) -> str:
    lines = [f"{result['data']}, {result['backbone']}", f"{'':42}{'accuracy':>10}{'seconds':>10}"]
    lines += [f"{row['what']:42}{row['accuracy']:10.3f}{row['seconds']:10.1f}" for row in result["rows"]]
    lines += [f"{what:42}{ratio:19.1f}x" for what, ratio in result["ratios"].items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
