"""The overload ladder: what a daemon leaves out, step by step, when sound comes faster than it can analyse it.

Sound that is not analysed yet waits in the capture ring; how much of it waits is the *backlog*. Long before the ring is
full, and samples would be lost, the daemon does less for each window:

====  ==============  =========================================================================================
step  name            what is left out
====  ==============  =========================================================================================
0     `whole`         nothing
1     `templates`     the network's explanation and its check: score maps come from line tracks and templates alone
2     `half`          every second slot, too: it is published as not analysed, reason ``overload``
3     `names`         of the slots left, all but the network's probabilities; no lines, no signatures
====  ==============  =========================================================================================

After the process was stopped, or the machine asleep, much sound waits at once and is soon worked off: while the backlog
falls fast enough, nothing is left out.

Each step is taken back when hardly anything has waited for a while. If overload returns soon after, that while grows,
so that a machine at its limit does not swing to and fro. Time is counted in seconds of sound, so nothing here reads a
clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

__all__ = ["STEPS", "Ladder", "Step"]

Step: TypeAlias = Literal["whole", "templates", "half", "names"]
STEPS: Final[tuple[Step, ...]] = ("whole", "templates", "half", "names")

#: Backlog in shares of what the source can hold: above the i-th the daemon goes to step i + 1, at the least.
RISE = (0.15, 0.25, 0.35)
#: Backlog, in the same share, below which hardly anything waits.
CALM = 0.05
#: Sound between two steps up, s: what the last one brings must be given time to show.
SETTLE_S = 1.0
#: A backlog is watched over so much sound, s; if it falls by this part of the sound taken in, it is being worked off.
TREND_S, WORKED_OFF = 0.5, 0.3
#: Sound without backlog after which a step is taken back, s; and the longest.
HOLD_S, LONGEST_HOLD_S = 30.0, 600.0


class Ladder:
    """Where the daemon stands on the ladder.

    Parameters
    ----------
    patience_s
        Sound that the source can hold before it loses samples, s.
    """

    def __init__(self, patience_s: float) -> None:
        if not patience_s > 0.0:
            raise ValueError(f"{patience_s=} is not positive")
        self._patience_s, self._hold_s = patience_s, HOLD_S
        self.n = 0
        """Step at present, 0..3."""
        self._changed_at = self._calm_since = 0.0
        self._fell_at: float | None = None
        self._seen: tuple[float, float] | None = None  # sound taken in and waiting, when last looked at

    @property
    def step(self) -> Step:
        """Its name."""
        return STEPS[self.n]

    def process(self, backlog_s: float, audio_s: float) -> bool:
        """Whether the step changed.

        Parameters
        ----------
        backlog_s
            Sound that waits, s.
        audio_s
            Sound taken in since the start, s; never less than at the last call.
        """
        share = backlog_s / self._patience_s
        if share >= CALM:
            self._calm_since = audio_s
        wanted = sum(share > least for least in RISE)
        if wanted <= self.n:
            self._seen = None
        elif self._is_worked_off(backlog_s, audio_s):
            return False
        if wanted > self.n and (audio_s - self._changed_at >= SETTLE_S or self.n == 0 or share > RISE[-1]):
            returned = self._fell_at is not None and audio_s - self._fell_at < 2.0 * self._hold_s
            self._hold_s = min(2.0 * self._hold_s, LONGEST_HOLD_S) if returned else HOLD_S
            self._fell_at = None
            return self._go(self.n + 1, audio_s)
        if self.n and audio_s - max(self._calm_since, self._changed_at) >= self._hold_s:
            self._fell_at = audio_s
            return self._go(self.n - 1, audio_s)
        return False

    def _is_worked_off(self, backlog_s: float, audio_s: float) -> bool:
        """Whether the backlog falls; also while that is not yet known."""
        if self._seen is None:
            self._seen = audio_s, backlog_s
            return True
        elapsed, fallen = audio_s - self._seen[0], self._seen[1] - backlog_s
        if elapsed < TREND_S:
            return True
        self._seen = audio_s, backlog_s
        return fallen >= WORKED_OFF * elapsed

    def words(self, backlog_s: float) -> str:
        """For people."""
        left_out: Sequence[str] = (
            "every window is analysed and explained in full again",
            "windows are explained by line tracks and templates alone, no longer by the network",
            "every second window is left out, the others are explained by line tracks and templates alone",
            "every second window is left out, of the others only the network's probabilities are published",
        )
        where = f"overload step {self.n} of {len(STEPS) - 1} ({self.step}), {backlog_s:.1f} s of sound wait"
        return f"{where}: {left_out[self.n]}"

    def _go(self, n: int, audio_s: float) -> bool:
        self.n, self._changed_at = n, audio_s
        return True
