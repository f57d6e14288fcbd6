"""Tonals of one contact followed from window to window.

A track expects its line on the straight through its last ``N_SLOPE`` windows (least squares). Lines and tracks are
paired one to one, nearest first, if they are no farther apart than the tolerance; what is left of the lines begins
tracks of its own, and a track that found none in ``n_lost`` windows is lost. The tolerance is one row of the LOFARgram:
the line finder tells lines apart from two rows on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from daemon.frames import ContactLine, TonalLine

__all__ = ["LineTracks"]

N_SLOPE = 8
"""Windows behind the expected drift: at 1 s between them as long as one window."""
MIN_SLOPE = 3
"""Windows from which a drift is believed; below that a track expects its line where it was."""
MIN_KEPT = 3
"""A lost track heard in fewer windows was no line."""
MAX_LOST = 64
"""Lost tracks remembered, the longest; so a contact of many days stays small."""


class _Track:
    """One line over windows; times in s from the contact's first sample, moments kept as by Welford."""

    def __init__(self, number: int, line: TonalLine, t_s: float) -> None:
        self.number, self.n, self.n_missed = number, 0, 0
        self.first_hz = line.freq_hz
        self._mean_t = self._mean_f = self._var_t = self._cov = self._snr = 0.0
        self._recent: deque[tuple[float, float]] = deque(maxlen=N_SLOPE)
        self._own_drift = line.drift_hz_per_s
        self.add(line, t_s)

    def add(self, line: TonalLine, t_s: float) -> None:
        self.n += 1
        self.n_missed = 0
        self.last_hz = line.freq_hz
        dt = t_s - self._mean_t
        self._mean_t += dt / self.n
        self._var_t += dt * (t_s - self._mean_t)
        self._cov += (t_s - self._mean_t) * (line.freq_hz - self._mean_f)
        self._mean_f += (line.freq_hz - self._mean_f) / self.n
        self._snr += (line.snr_db - self._snr) / self.n
        self._recent.append((t_s, line.freq_hz))
        self._straight = self._fitted()

    def expected_hz(self, t_s: float) -> float:
        """Where the line should stand at ``t_s``."""
        at_s, f_hz, slope = self._straight
        return f_hz + slope * (t_s - at_s)

    def _fitted(self) -> tuple[float, float, float]:
        """Straight through the last windows: a time, the frequency there, and the slope."""
        n = len(self._recent)
        if n < MIN_SLOPE:
            return 0.0, self.last_hz, 0.0
        mean_t = sum(t for t, _ in self._recent) / n
        mean_f = sum(f for _, f in self._recent) / n
        var = sum((t - mean_t) ** 2 for t, _ in self._recent)
        slope = sum((t - mean_t) * (f - mean_f) for t, f in self._recent) / var if var > 0.0 else 0.0
        return mean_t, mean_f, slope

    def told(self, *, alive: bool) -> ContactLine:
        drift = self._cov / self._var_t if self.n > 1 and self._var_t > 0.0 else self._own_drift
        return ContactLine(
            self.number, self._mean_f, self.first_hz, self.last_hz, drift, self._snr, self.n, alive
        )  # fmt: skip


class LineTracks:
    """Line tracks of one contact.

    Parameters
    ----------
    tolerance_hz : float
        Farthest a line may lie from where its track expects it.
    n_lost : int
        Windows without it after which a track is lost.
    """

    def __init__(self, tolerance_hz: float, n_lost: int) -> None:
        if not tolerance_hz > 0.0 or n_lost < 1:
            raise ValueError(f"{tolerance_hz=} or {n_lost=} is not positive")
        self._tolerance_hz, self._n_lost = tolerance_hz, n_lost
        self._alive: list[_Track] = []
        self._lost: list[ContactLine] = []
        self._n = 0

    def process(self, lines: Sequence[TonalLine], t_window_s: float) -> None:
        """Take in the lines of one window that begins at ``t_window_s`` after the contact's first sample."""
        times = [t_window_s + 0.5 * (line.t_start_s + line.t_end_s) for line in lines]
        pairs = sorted(
            (abs(line.freq_hz - track.expected_hz(t)), track.number, i)
            for i, (line, t) in enumerate(zip(lines, times, strict=True))
            for track in self._alive
        )
        by_number = {track.number: track for track in self._alive}
        free_lines, free_tracks = set(range(len(lines))), set(by_number)
        for distance, number, i in pairs:
            if distance > self._tolerance_hz:
                break
            if i in free_lines and number in free_tracks:
                free_lines.remove(i)
                free_tracks.remove(number)
                by_number[number].add(lines[i], times[i])
        for number in free_tracks:
            by_number[number].n_missed += 1
        self._drop_lost()
        for i in sorted(free_lines, key=lambda i: lines[i].freq_hz):
            self._alive.append(_Track(self._n, lines[i], times[i]))
            self._n += 1

    def _drop_lost(self) -> None:
        gone = [t for t in self._alive if t.n_missed >= self._n_lost]
        self._alive = [t for t in self._alive if t.n_missed < self._n_lost]
        self._lost += [t.told(alive=False) for t in gone if t.n >= MIN_KEPT]
        self._lost = sorted(self._lost, key=lambda line: (-line.n_windows, line.number))[:MAX_LOST]

    @property
    def alive(self) -> tuple[ContactLine, ...]:
        """Tracks that are followed at present, by rising mean frequency."""
        return _by_frequency([t.told(alive=True) for t in self._alive])

    @property
    def all(self) -> tuple[ContactLine, ...]:
        """Those, and the lost ones that were heard in at least ``MIN_KEPT`` windows."""
        return _by_frequency([t.told(alive=True) for t in self._alive] + self._lost)


def _by_frequency(lines: list[ContactLine]) -> tuple[ContactLine, ...]:
    return tuple(sorted(lines, key=lambda line: (line.freq_hz, line.number)))
