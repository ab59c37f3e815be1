"""Reports to the service manager that a service is ready and still working, by the protocol of sd_notify(3).

Each report is a datagram to the socket named by $NOTIFY_SOCKET. Without that variable, nothing is sent.
"""

from __future__ import annotations

import contextlib
import os


def notify_ready() -> None:
    """Reports that the model is loaded; systemd then considers the service started."""
    _notify(b"READY=1")


def notify_alive() -> None:
    """Reports that work continues; without a report for the unit's WatchdogSec, systemd restarts the service."""
    _notify(b"WATCHDOG=1")


def _notify(message: bytes) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    import socket  # only a service needs it, and it would slow down every other start

    if address.startswith("@"):  # an abstract socket, see unix(7)
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(message, address)
