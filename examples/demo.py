"""Builds a bundle for two boards without any photos of your own, and classifies held-back images with it.

    python examples/demo.py [FOLDER]

The build uses scikit-learn's scanned digits, for `coral` and for `rpi4`. The bundles and their reports are written to
FOLDER (default: demo).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from edgetl.data import open_cache_folder, write_digits

TARGETS = ("coral", "rpi4")


def main(folder: Path) -> None:
    """Build for each target, classify the test images, and print where the report is."""
    digits = write_digits(open_cache_folder() / "digits")
    for target in TARGETS:
        print(f"\n== edgetl build --target {target}", flush=True)
        output = folder / target
        edgetl("build", "--target", target, "--data", digits, "--name", "digits", "--output", output)
        classify(output / "digits.edgetl", digits / "test")
        print(f"open {(output / 'digits-report.html').resolve()}")


def classify(bundle: Path, held_back: Path) -> None:
    """Classify images that the build did not use, and print the accuracy."""
    lines = edgetl("run", bundle, "--source", held_back, "--json", capture=True).splitlines()
    answers = [json.loads(line) for line in lines]
    correct = sum(Path(answer["source"]).parent.name == answer["label"] for answer in answers)
    median_ms = sorted(answer["ms"] for answer in answers)[len(answers) // 2]
    print(f"{correct} of {len(answers)} held-back digits classified correctly, median {median_ms:.1f} ms here")


def edgetl(*arguments: object, capture: bool = False) -> str:
    """Run the command line as a user does; exit if it fails."""
    command = [sys.executable, "-m", "edgetl", *map(str, arguments)]
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE if capture else None)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout or ""


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
