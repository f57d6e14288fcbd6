"""When to try again after a card was lost."""

from __future__ import annotations

import math
import time
from typing import Literal, TypeAlias

__all__ = ["OnLoss", "Retry"]

OnLoss: TypeAlias = Literal["wait", "exit", "pause"]


class Retry:
    """Waits that double from ``first_s`` to ``most_s`` with each failure, until something was well.

    ``resume`` may be called by another thread.
    """

    def __init__(self, first_s: float, most_s: float) -> None:
        self._first_s, self._most_s = first_s, most_s
        self._n_failures = 0
        self._at = 0.0
        self._asked = False
        self.n = 0
        """Attempts since the card was there."""

    @property
    def due(self) -> bool:
        """The time has come, or somebody asked."""
        return self._asked or time.monotonic() >= self._at

    @property
    def paused(self) -> bool:
        """Nothing is tried until somebody asks."""
        return math.isinf(self._at) and not self._asked

    def failed(self, *, paused: bool) -> None:
        """Wait longer than the last time; ``paused``: until asked."""
        wait_s = min(self._most_s, self._first_s * 2.0 ** min(self._n_failures, 30))
        self._at = math.inf if paused else time.monotonic() + wait_s
        self._asked = False
        self._n_failures += 1
        self.n += 1

    def trying(self) -> None:
        """An attempt begins: whoever asked for it has it."""
        self._asked = False

    def was_well(self) -> None:
        """The next wait is the first again."""
        self._n_failures = 0

    def resume(self) -> None:
        """Ask for an attempt now; without effect while the card is there."""
        self._asked = True
