"""Whether the daemon deserves a sign of life: the watchdog is fed for work done, never for a loop that merely turns.

A source must do one of these; else nothing is said, and the service manager ends the process:

- samples advance, and the records of their slots follow them: at most `SLOTS_BEHIND` steps of the grid after a
  window's length of sound, one slot of each channel is told, analysed or with a reason;
- it is through, or has not begun, or is a pipe or file that gives nothing: the loop turns;
- it is declared ``refused`` on status/;
- it is declared ``waiting`` there, and goes on trying: the count of attempts grows at least every `RETRY_S`; a card
  that is paused by the settings tries nothing, and says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["RETRY_S", "SLOTS_BEHIND", "Liveness", "Progress"]

SLOTS_BEHIND = 3
RETRY_S = 60.0
"""Longest wait between two attempts, the time to open a card, and as much again."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What has been done, counted since the start."""

    turned_s: float
    """When the processing loop turned last, CLOCK_MONOTONIC, s."""
    audio_s: float
    """Sound taken in, s."""
    n_slots: int
    """Records of slots, of all channels."""
    n_streams: int
    """Streams begun; one that is too short for a window has no slot."""
    streaming: bool
    """A stream is under way."""
    live: bool
    """Its samples come at the pace of the clock."""
    state: Literal["running", "waiting", "refused"]
    """As declared last on status/."""
    n_retries: int
    paused: bool
    """It waits to be told to try again."""


class Liveness:
    """Judges one daemon; fed by the supervising thread.

    Parameters
    ----------
    patience_s
        Without a turn of the loop, or without samples though nothing is declared, for so long it is not alive, s.
    window_s, hop_s
        Of the grid.
    """

    def __init__(self, patience_s: float, window_s: float, hop_s: float) -> None:
        self._patience_s, self._sound_s = patience_s, window_s + SLOTS_BEHIND * hop_s
        # slots told and streams begun, and the sound taken in when that changed last
        self._slots: tuple[tuple[int, int], float] | None = None
        self._audio: tuple[float, float] | None = None  # sound taken in, and when it grew last
        self._retries: tuple[int, float] | None = None

    def complaint(self, p: Progress, now_s: float) -> str | None:
        """Why the daemon is not alive; None: it is."""
        if now_s - p.turned_s >= self._patience_s:
            return f"the processing loop has not turned for {now_s - p.turned_s:.1f} s"
        if self._slots is None or (p.n_slots, p.n_streams) != self._slots[0] or not p.streaming:
            self._slots = (p.n_slots, p.n_streams), p.audio_s
        if self._audio is None or p.audio_s > self._audio[0]:
            self._audio = p.audio_s, now_s
        if self._retries is None or p.n_retries != self._retries[0] or p.state != "waiting" or p.paused:
            self._retries = p.n_retries, now_s
        if p.state == "refused":
            return None
        if p.state == "waiting":
            tried_s = now_s - self._retries[1]
            return f"the source waits, and nothing was tried for {tried_s:.0f} s" if tried_s > RETRY_S else None
        silent_s = p.audio_s - self._slots[1]
        if silent_s > self._sound_s:
            return f"{silent_s:.1f} s of sound came, and no window of it was told"
        if p.streaming and p.live and now_s - self._audio[1] >= self._patience_s:
            return f"no sample came for {now_s - self._audio[1]:.1f} s, and the source is not declared waiting"
        return None
