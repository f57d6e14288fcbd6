"""From verdict to signatures: threshold the score map, gather the lines inside, name what has no class.

A window with a detection yields one signature per detection: the cells whose score exceeds the calibrated threshold of
that label, and the lines that run mostly inside. A window without one yields a signature ``unknown`` if it is rejected
or if coherent lines stand in what is taken for ambient noise: an unknown source is published with its lines, never
dropped.

In mode ``vessel`` the mask holds all coherent tracks of a vessel instead, whatever its class (`models.score_map`), and
there is one signature, of the likeliest label; each line tells which class most probably owns it.

Lines of the own ship are marked. A signature for which nothing but such lines speaks is marked, too: of a class, where
no other line inside its mask may be the class's; of ``unknown``, where the other lines are too few to hold a contact of
an unknown source.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

from calibration.own_ship import OwnShip
from daemon.frames import Mask, Signature, TonalLine, Verdict, Window
from daemon.line_score import line_score
from daemon.lines import LineTrace, lines_of
from models.features import FeatureSpec
from models.manifest import Thresholds
from models.score_map import vessel_map
from models.tracks import TrackFinder, Tracks

__all__ = ["UNKNOWN", "ExtractMode", "Extractor", "Limits", "Own"]

UNKNOWN = "unknown"
MIN_INSIDE = 0.5
"""Share of a line's cells inside the mask from which it belongs to the signature."""

ExtractMode = Literal["signature", "vessel"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What is published."""

    score: Mapping[str, float]
    """By label, score above which a cell belongs to it."""
    vessel: float | None
    """The same on the vessel map; None where the bundle was not calibrated for it."""
    min_snr_db: float
    """Least in-bin signal to noise ratio of a published line, dB."""
    n_lines_unknown: int
    """Lines from which an ambient window is published as unknown; 0: only what the verdict calls unknown."""

    @classmethod
    def of(cls, thresholds: Thresholds, nominal: str, min_snr_db: float, n_lines_unknown: int) -> Limits:
        """Limits at the ``nominal`` level of a bundle's thresholds."""
        scores = {label: levels[nominal] for label, levels in thresholds.mix.items()}
        return cls(scores, thresholds.vessel.get(nominal), min_snr_db, n_lines_unknown)


@dataclass(frozen=True, slots=True)
class Own:
    """The own ship, and what must be left beside it."""

    ship: OwnShip
    least_others: float = 1.0
    """Lines of others (`daemon.line_score`) beside which a window is ``unknown`` and not the own ship."""


class Extractor:
    """Stateless step from ``(Window, Verdict)`` to signatures.

    Raises
    ------
    ValueError
        If mode ``vessel`` is asked for without a threshold.
    """

    def __init__(
        self, spec: FeatureSpec, limits: Limits, mode: ExtractMode = "signature", own: Own | None = None
    ) -> None:
        if mode == "vessel" and limits.vessel is None:
            raise ValueError("mode 'vessel' without a threshold of the vessel map")
        self._spec, self._limits, self._mode, self._own = spec, limits, mode, own
        self._finder = TrackFinder(spec)

    def process(self, window: Window, verdict: Verdict) -> tuple[list[Signature], tuple[TonalLine, ...]]:
        """Signatures of one window, those of the own ship last, and all lines found in it."""
        is_own = None if self._own is None else partial(self._own.ship.owns, window.channel)
        tracks = verdict.tracks if verdict.tracks is not None else self._finder.find(window.spectrum_db)
        traces = lines_of(
            self._spec, window.fs, tracks, window.spectrum_db, self._limits.min_snr_db, verdict.own, is_own
        )
        lines = tuple(t.line for t in traces)
        signatures = [self._judged(s) for s in self._signatures(window, verdict, tracks, traces)]
        return sorted(signatures, key=lambda s: s.own_ship), lines

    def _judged(self, signature: Signature) -> Signature:
        """Marked, if nothing but the own ship speaks for it."""
        if self._own is None or not any(x.own_ship for x in signature.lines):
            return signature
        if signature.label == UNKNOWN:
            span_s = self._spec.n_time * self._spec.column_s
            foreign = line_score(signature.lines, span_s) >= self._own.least_others
        else:
            foreign = any(not x.own_ship and x.label in (None, signature.label) for x in signature.lines)
        return signature if foreign else dataclasses.replace(signature, own_ship=True)

    def _signatures(
        self, window: Window, verdict: Verdict, tracks: Tracks, traces: Sequence[LineTrace]
    ) -> list[Signature]:
        many = 0 < self._limits.n_lines_unknown <= sum(not t.line.own_ship for t in traces)
        strange = (verdict.unknown and bool(traces)) or many
        if not verdict.detections and not strange:
            return []
        if self._mode == "vessel":
            return [self._vessel(window, verdict, tracks, traces)]
        if verdict.detections:
            return [self._detected(window, verdict, traces, i) for i in range(len(verdict.detections))]
        best = float(verdict.probabilities.max())
        return [Signature(window, verdict, UNKNOWN, best, self._cells(traces), tuple(t.line for t in traces))]

    def _detected(self, window: Window, verdict: Verdict, traces: Sequence[LineTrace], i: int) -> Signature:
        detection = verdict.detections[i]
        mask = self._kept(detection.score, self._limits.score[detection.label])
        return Signature(window, verdict, detection.label, detection.probability, mask, _inside(traces, mask))

    def _vessel(self, window: Window, verdict: Verdict, tracks: Tracks, traces: Sequence[LineTrace]) -> Signature:
        assert self._limits.vessel is not None
        score = vessel_map(tracks, verdict.own, self._spec.n_time, self._spec.row_lo)
        mask = self._kept(score, self._limits.vessel)
        lines = _inside(traces, mask)
        if verdict.detections:
            first = verdict.detections[0]
            return Signature(window, verdict, first.label, first.probability, mask, lines, "vessel")
        return Signature(window, verdict, UNKNOWN, float(verdict.probabilities.max()), mask, lines, "vessel")

    def _kept(self, score: npt.NDArray[np.float32], least: float) -> Mask:
        mask: Mask = score > least
        mask[: self._spec.row_lo] = False
        return mask

    def _cells(self, traces: Sequence[LineTrace]) -> Mask:
        mask = np.zeros((self._spec.n_freq, self._spec.n_time), np.bool_)
        for t in traces:
            mask |= t.cells(self._spec.n_freq)
        return mask


def _inside(traces: Sequence[LineTrace], mask: Mask) -> tuple[TonalLine, ...]:
    return tuple(t.line for t in traces if _share_inside(t, mask) >= MIN_INSIDE)


def _share_inside(trace: LineTrace, mask: Mask) -> float:
    """Share of the ridge's active columns in which the mask covers the ridge itself."""
    columns = np.flatnonzero(trace.active)
    return float(mask[trace.rows[columns], columns].mean())
