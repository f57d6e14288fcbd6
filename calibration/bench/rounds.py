"""Timing on a machine that is not ours alone: all contestants in turn, round by round.

Within a round every contestant has one turn, in an order drawn anew. Whatever slows the machine for a while slows the
turns of that round alike, so the ratio of two turns of one round says more than either. What is stated is the median
over the rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["fastest", "ratio", "timed"]

Call = Callable[[], object]
Told = Callable[[int, int], None]

#: A call of so many seconds is not made slower by the turn of another before it.
LONG_S = 0.5


def timed(
    calls: Sequence[Call],
    seconds_each: float,
    *,
    n_rounds: tuple[int, int] = (5, 15),
    seed: int = 0,
    told: Told = lambda _done, _total: None,
) -> npt.NDArray[np.float64]:
    """Seconds of one call ``(n_rounds, n_calls)``, each the mean over one turn.

    A turn of short calls begins with one that is not counted: it wakes the runtime's threads.

    Parameters
    ----------
    calls
        One per contestant; everything they need is ready.
    seconds_each
        Time to spend on each, all rounds together. A call that takes longer is still made once a round.
    n_rounds
        Fewest and most rounds; as many as the slowest call fits into ``seconds_each``, within these.
    seed
        Of the order of the turns.
    told
        Called with the turns done and their number.
    """
    first = [_mean_seconds(call, 1) for call in calls]
    fewest, most = n_rounds
    rounds = int(np.clip(seconds_each / max(max(first), 1e-9), fewest, most))
    repeats = [max(1, round(seconds_each / rounds / max(s, 1e-9))) for s in first]
    rng = np.random.default_rng(seed)
    out = np.empty((rounds, len(calls)))
    done = 0
    for r in range(rounds):
        for i in rng.permutation(len(calls)):
            if first[i] < LONG_S:
                calls[i]()
            out[r, i] = _mean_seconds(calls[i], repeats[i])
            done += 1
            told(done, out.size)
    return out


def fastest(calls: Sequence[Call]) -> int:
    """Index of the fastest of several calls that do the same; those clearly slower are not tried again."""
    best = np.full(len(calls), np.inf)
    left = list(range(len(calls)))
    # the first call of each prepares much: only those far behind are out
    for behind in (2.0, 1.3, 1.3):
        if len(left) == 1:
            break
        for i in left:
            best[i] = min(best[i], _mean_seconds(calls[i], 1))
        left = [i for i in left if best[i] <= behind * best.min()]
    return int(best.argmin()) if len(calls) > 1 else 0


def ratio(slow: npt.NDArray[np.float64], fast: npt.NDArray[np.float64]) -> float:
    """Median over the rounds of ``slow / fast``, both ``(n_rounds,)``."""
    return float(np.median(slow / fast))


def _mean_seconds(call: Call, n: int) -> float:
    begin = time.perf_counter()
    for _ in range(n):
        call()
    return (time.perf_counter() - begin) / n
