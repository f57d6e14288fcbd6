"""Word to the service manager: the sd_notify datagrams of ``Type=notify`` (systemd's sd_notify(3))."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import MutableMapping

__all__ = ["ServiceManager"]


#: Longest that one step of such a build may take, s.
MORE_S = 600


class ServiceManager:
    """Sends states to ``$NOTIFY_SOCKET``; does nothing where no service manager listens.

    What it was told is taken out of the environment: programs started later are not meant, and some would speak, too
    (``timedatectl`` tells its exit status, jackd that it is ready), of which systemd complains each time.
    """

    def __init__(self, environ: MutableMapping[str, str] | None = None) -> None:
        env = os.environ if environ is None else environ
        address, usec, pid = (env.pop(key, "") for key in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"))
        self._address = "\0" + address[1:] if address.startswith("@") else address
        mine = pid in ("", str(os.getpid()))
        self.watchdog_s = int(usec) / 1e6 if usec.isdigit() and mine else None
        """Interval within which a sign of life is due, s; None: no watchdog."""

    def starting(self, status: str) -> None:
        """Still at it: a plan is built for a card, which takes minutes. Each call gives `MORE_S` more."""
        self._send(f"EXTEND_TIMEOUT_USEC={MORE_S * 1_000_000}\nSTATUS={status}")

    def ready(self, status: str) -> None:
        """The loop runs and the engine passed its golden test."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self, status: str) -> None:
        """Settings are read anew; `ready` says when that is through."""
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={usec}\nSTATUS={status}")

    def alive(self, status: str) -> None:
        """Sign of life, and a line for ``systemctl status``; never waits for a manager that does not read."""
        self._send(f"WATCHDOG=1\nSTATUS={status}", socket.MSG_DONTWAIT)

    def status(self, status: str) -> None:
        """A line for ``systemctl status``; no sign of life, and no waiting either."""
        self._send(f"STATUS={status}", socket.MSG_DONTWAIT)

    def stopping(self, status: str) -> None:
        """The end has begun."""
        self._send(f"STOPPING=1\nSTATUS={status}")

    def _send(self, text: str, flags: int = 0) -> None:
        if not self._address:
            return
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s,
            contextlib.suppress(BlockingIOError),  # its queue is full of our signs of life
        ):
            s.sendto(text.encode(), flags, self._address)
