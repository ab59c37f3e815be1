"""Deploys a bundle and then the next one to many devices at once, in folders of this machine, and shows the slowest.

    python -m benchmarks.fleet FIRST.edgetl NEXT.edgetl --devices 50

Every device proves the bundles in separate processes, like a device behind SSH. If NEXT has the backbone of FIRST, the
target is less than 300 kB per device.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from time import monotonic

from edgetl.cli.console import print_table
from edgetl.deployment import Deployed, connect, deploy, deploy_each, slowest

TARGET_BYTES = 300_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs=2, type=Path, metavar="BUNDLE")
    parser.add_argument("--devices", type=int, default=50)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        where = [f"{folder}/device-{number:02d}" for number in range(options.devices)]
        found = [measure(bundle, where) for bundle in options.bundles]
    if options.json:
        print(json.dumps(found))
    else:
        header = ["bundle", "devices", "failed", "kB", "sent to each, kB", "share", "seconds", "slowest", "its seconds"]
        print_table(header, [[str(value) for value in row.values()] for row in found])
        print(f"target for the second: under {TARGET_BYTES / 1e3:.0f} kB for each device")
    return 1 if any(row["failed"] for row in found) else 0


def measure(bundle: Path, where: list[str]) -> dict[str, object]:
    def deploy_to(one: str) -> Deployed:
        with connect(one) as transport:
            return deploy(bundle, transport)

    start = monotonic()
    outcomes = deploy_each(where, deploy_to)
    last, size = slowest(outcomes), bundle.stat().st_size
    sent = max((outcome.deployed.sent_bytes for outcome in outcomes if outcome.deployed), default=0)
    return {
        "bundle": bundle.name,
        "devices": len(where),
        "failed": sum(bool(outcome.fault) for outcome in outcomes),
        "kilobytes": round(size / 1e3),
        "sent_kilobytes": round(sent / 1e3),
        "share": f"{sent / size:.1%}",
        "seconds": round(monotonic() - start, 1),
        "slowest": Path(last.where).name if last else "",
        "slowest_seconds": last.seconds if last else None,
    }


if __name__ == "__main__":
    sys.exit(main())
