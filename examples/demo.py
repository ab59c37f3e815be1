"""The main job without any photos: build for two boards, classify held-back images, open the report.

    python examples/demo.py [FOLDER]

builds from scikit-learn's scanned digits for `coral` and for `rpi4` into FOLDER (default: demo), runs
each bundle on digits that the build never trained on, and names the report to open.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from edgetl.data import open_cache_folder, write_digits

TARGETS = ("coral", "rpi4")


def main(folder: Path) -> None:
    """Build, classify, and tell where the report is."""
    digits = write_digits(open_cache_folder() / "digits")
    for target in TARGETS:
        print(f"\n== edgetl build --target {target}", flush=True)
        output = folder / target
        edgetl("build", "--target", target, "--data", digits, "--name", "digits", "--output", output)
        classify(output / "digits.edgetl", digits / "test")
        print(f"open {(output / 'digits-report.html').resolve()}")


def classify(bundle: Path, held_back: Path) -> None:
    """Run the bundle on images that it has not seen; say how many it names rightly."""
    lines = edgetl("run", bundle, "--source", held_back, "--json", capture=True).splitlines()
    answers = [json.loads(line) for line in lines]
    right = sum(Path(answer["source"]).parent.name == answer["label"] for answer in answers)
    middle = sorted(answer["ms"] for answer in answers)[len(answers) // 2]
    print(f"{right} of {len(answers)} held-back digits named rightly, {middle:.1f} ms each (median) on this machine")


def edgetl(*arguments: object, capture: bool = False) -> str:
    """Call the command line as a user does; a failure ends the demo."""
    command = [sys.executable, "-m", "edgetl", *map(str, arguments)]
    done = subprocess.run(command, check=False, text=True, stdout=subprocess.PIPE if capture else None)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout or ""


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
