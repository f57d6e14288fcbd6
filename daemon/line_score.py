"""How much tonals speak for a source that no class vouches for: their number must."""

from __future__ import annotations

from collections.abc import Iterable

from daemon.frames import TonalLine

__all__ = ["line_score"]

MAINS_HZ = (50.0, 60.0)
HUM_HZ = 0.7
"""A line this near to a multiple of the mains may be hum: the grid keeps its frequency within 0.2 %, the line finder
reads it within 0.2 Hz; wider, lines of ships would go too (5 % of the band lies within)."""


def line_score(lines: Iterable[TonalLine], span_s: float) -> float:
    """Number of lines, each counted by its share of a window whose columns span ``span_s``.

    Lines on a multiple of 50 or 60 Hz count nothing: hum of the mains is heard in any hydrophone; nor do lines of the
    own ship.
    """
    return sum(min(1.0, (x.t_end_s - x.t_start_s) / span_s) for x in lines if not (x.own_ship or _is_hum(x)))


def _is_hum(line: TonalLine) -> bool:
    return any(abs(line.freq_hz - f * round(line.freq_hz / f)) < HUM_HZ for f in MAINS_HZ)
