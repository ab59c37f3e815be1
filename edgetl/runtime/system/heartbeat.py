"""Hides how a service manager is told that `edgetl run` is up, and still at work; without one, nobody is told.

The protocol is that of sd_notify(3): a datagram to the socket that $NOTIFY_SOCKET names.
"""

from __future__ import annotations

import contextlib
import os
import socket


def tell_ready() -> None:
    """The model is loaded; a restart of the service ends here."""
    _notify(b"READY=1")


def tell_alive() -> None:
    """The work goes on; where this stays away for the unit's WatchdogSec, the service is restarted."""
    _notify(b"WATCHDOG=1")


def _notify(message: bytes) -> None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):  # an abstract one, as unix(7) has it
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(message, address)
