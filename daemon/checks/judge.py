"""From measured values to states: which checks a channel fails, and for how long it must to be called bad."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from daemon.checks.measure import N_BITS, Measured
from daemon.config import ChecksConfig
from daemon.frames import Quality

__all__ = ["CHECKS", "Judge", "State", "worst"]

Bool = npt.NDArray[np.bool_]
State: TypeAlias = Literal["ok", "suspect", "bad"]

STATES: tuple[State, ...] = ("ok", "suspect", "bad")


@dataclass(frozen=True, slots=True)
class Check:
    """One of them."""

    name: str
    may_be_bad: bool
    """False: it never goes beyond suspect, because a sound channel can look like this."""


CHECKS = (
    Check("dead", may_be_bad=True),
    Check("clipped", may_be_bad=True),
    Check("dc", may_be_bad=True),
    Check("stuck_bits", may_be_bad=True),
    Check("coarse", may_be_bad=False),
    Check("hum", may_be_bad=False),
    Check("identical", may_be_bad=True),
    Check("level_low", may_be_bad=True),
    Check("level_high", may_be_bad=True),
)

RELEASE_DB = 2.0
"""Levels and hum must fall so far below the limit to count as good again."""
RELEASE = 0.8
"""The same of shares and offsets, as a factor."""


def worst(quality: Quality) -> State:
    """The worst state of any check."""
    return max((state for _, state in quality), key=STATES.index, default="ok")


class Judge:
    """States of all channels: for each check a count that a failed tile raises and a passed one lowers.

    At ``suspect_s`` it is suspect, at ``bad_s``, where the count ends, bad; and it stays so until the count is back
    at 0. So what comes and goes is not told each time.
    """

    def __init__(self, limits: ChecksConfig, n_channels: int) -> None:
        self._limits = limits
        self._count = np.zeros((len(CHECKS), n_channels), np.int64)
        self._level = np.zeros((len(CHECKS), n_channels), np.int64)
        self._finest = N_BITS
        self._most = np.array([[2 if check.may_be_bad else 1] for check in CHECKS])

    def process(self, m: Measured, known: Bool) -> Bool:
        """Judge a tile; where not ``known`` ``(n_channels,)``, samples are unfit and all stays. Whose state changed."""
        limits, before = self._limits, self._level
        fails = self._fails(m)
        step = np.where(fails, 1, -1) * known
        self._count = np.clip(self._count + step, 0, limits.bad_s)
        risen = (self._count >= limits.suspect_s).astype(np.int64) + (self._count >= limits.bad_s)
        level = np.minimum(np.maximum(before, risen), self._most)
        self._level = np.where(self._count == 0, 0, level)
        changed: Bool = (self._level != before).any(axis=0)
        return changed

    def quality(self, channel: int) -> Quality:
        """Checks that the channel fails at present."""
        return tuple((CHECKS[k].name, STATES[self._level[k, channel]]) for k in np.flatnonzero(self._level[:, channel]))

    def _fails(self, m: Measured) -> Bool:
        """``(n_checks, n_channels)``; what is already suspect is held against the limit that releases."""
        limits, held = self._limits, self._level > 0
        share, db = np.where(held, RELEASE, 1.0), np.where(held, RELEASE_DB, 0.0)
        by_name = {check.name: k for k, check in enumerate(CHECKS)}
        alive = ~m.flat
        if alive.any():
            self._finest = min(self._finest, int(m.low_bit[alive].min()))
        return np.stack([
            m.flat,
            m.clipped >= limits.clipped_share * share[by_name["clipped"]],
            np.abs(m.dc) >= limits.dc * share[by_name["dc"]],
            m.n_stuck > 0,
            alive & (m.low_bit > self._finest),
            np.nan_to_num(m.hum_db, nan=-np.inf) >= limits.hum_db - db[by_name["hum"]],
            np.abs(m.alike) >= limits.identical,
            alive & (m.level_db < limits.level_min_db_re_fs + db[by_name["level_low"]]),
            m.level_db > limits.level_max_db_re_fs - db[by_name["level_high"]],
        ])  # fmt: skip
