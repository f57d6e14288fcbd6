"""What comes again and again is logged a few times, then counted: a source that dies all day does not fill the disk."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass

__all__ = ["SayOnce"]


@dataclass(slots=True)
class _Said:
    t_first_s: float
    n: int


class SayOnce:
    """Counts lines by their words, numbers left out.

    Parameters
    ----------
    n_burst : int
        Lines alike that pass within a span.
    span_s : float
        Then they pass anew, and the first says how many were left out.
    n_kept : int
        Different lines remembered.
    """

    def __init__(self, n_burst: int = 3, span_s: float = 600.0, n_kept: int = 200) -> None:
        self._n_burst, self._span_s, self._n_kept = n_burst, span_s, n_kept
        self._said: OrderedDict[str, _Said] = OrderedDict()

    def passes(self, line: str, now_s: float) -> str | None:
        """Return the line as it is to be logged at ``now_s`` (s, monotonic); None: only count it."""
        key = re.sub(r"\d+(\.\d+)?", "#", line)
        said = self._said.get(key)
        left_out = 0
        if said is None or now_s - said.t_first_s >= self._span_s:
            left_out = 0 if said is None else max(0, said.n - self._n_burst)
            said = self._said[key] = _Said(now_s, 0)
            self._said.move_to_end(key)
            while len(self._said) > self._n_kept:
                self._said.popitem(last=False)
        said.n += 1
        if said.n > self._n_burst:
            return None
        if left_out:
            return f"{line} (the same {left_out} times in between, not logged)"
        return f"{line} (more of these within {self._span_s:g} s are counted only)" if said.n == self._n_burst else line
