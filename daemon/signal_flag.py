"""A flag that a signal handler may set.

``threading.Event`` is no such flag: its lock is not reentrant, and a handler runs in the main thread between any two
steps, also while ``wait`` or ``clear`` holds that lock. Then ``set`` waits for ever for its own thread, or the lock is
released twice; a thousand SIGHUP in five seconds made a daemon hang.
"""

from __future__ import annotations

import time

__all__ = ["SignalFlag"]

LOOK_S = 0.05


class SignalFlag:
    """Set by handlers in the main thread, waited for by the main thread; holds no lock."""

    def __init__(self) -> None:
        self._is_set = False

    def set(self) -> None:
        """Set it; safe in a handler."""
        self._is_set = True

    def clear(self) -> None:
        """Take it back; what comes after is seen."""
        self._is_set = False

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def wait(self, timeout_s: float) -> bool:
        """Until it is set, at most so long; whether it is."""
        end = time.monotonic() + timeout_s
        while not self._is_set and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_S))
        return self._is_set
