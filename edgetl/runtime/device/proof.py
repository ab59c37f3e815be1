"""Proves that a bundle works on this device, before the device relies on it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from edgetl.bundle import open_bundle
from edgetl.errors import CanaryError, IntegrityError
from edgetl.runtime.device.slots import Slot, Slots
from edgetl.runtime.device.trust import check_signature
from edgetl.runtime.inference import Replay

PROOF_SECONDS = 600
"""Time limit of the canaries; a bundle that takes longer counts as hanging."""


def prove(bundle: Path, ignore_latency: bool = False) -> Replay:
    """Replays the canaries in a process of their own, because a model can crash or hang the interpreter.

    The process opens the bundle from the disk, which proves what was written there.
    `ignore_latency` leaves out the bundle's own time limit.
    Raises CanaryError if they do not answer, or not as on the host that built the bundle.
    """
    command = [
        sys.executable,
        "-m",
        "edgetl.runtime",
        "prove",
        str(bundle),
        "--json",
        *(["--ignore-latency"] if ignore_latency else []),
    ]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROOF_SECONDS)
    except subprocess.TimeoutExpired:
        raise CanaryError(f"the model did not answer within {PROOF_SECONDS} seconds; build a smaller one") from None
    if done.returncode < 0:
        raise CanaryError(f"the model crashed the interpreter (signal {-done.returncode}); build it for this device")
    if done.returncode:
        complaint = done.stderr.decode(errors="replace").strip().splitlines() or ["it printed nothing"]
        raise CanaryError(complaint[-1].partition("edgetl: ")[2] or complaint[-1])
    return Replay.from_dict(json.loads(done.stdout))


def prove_slot(slots: Slots, slot: Slot) -> None:
    """Proves that the bundle of a slot is whole, may run here, and answers as on the host.

    Its speed is not judged: it was when it was installed, and now another bundle runs beside it.
    Raises BundleError, SignatureError, KeyFileError, CanaryError.
    """
    bundle = open_bundle(slot.bundle)
    if bundle.digest != slot.digest:
        raise IntegrityError(
            f"the slot {slot.digest[:12]} contains another bundle, {bundle.digest[:12]}; install a bundle instead"
        )
    check_signature(slots, bundle)
    prove(slot.bundle, ignore_latency=True)
