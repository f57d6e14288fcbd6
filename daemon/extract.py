"""From verdict to signatures: threshold the score map, gather the lines inside, name what has no class.

A window with a detection yields one signature per detection: the cells whose score (image CAM mixed with the class
mask) exceeds the calibrated threshold of that label, and the lines that run mostly inside. A window without one yields
a signature ``unknown`` if the network rejects it or if coherent lines stand in what it takes for ambient noise: an
unknown source is published with its lines, never dropped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from daemon.frames import Mask, Signature, TonalLine, Verdict, Window
from daemon.lines import LineTrace, find_lines
from models.features import FeatureSpec

__all__ = ["UNKNOWN", "Extractor"]

UNKNOWN = "unknown"
MIN_INSIDE = 0.5
"""Share of a line's cells inside the mask from which it belongs to the signature."""


class Extractor:
    """Stateless step from ``(Window, Verdict)`` to signatures.

    Parameters
    ----------
    spec : FeatureSpec
    thresholds : mapping label -> float
        Score above which a cell belongs to the label.
    min_snr_db : float
        Least in-bin signal to noise ratio of a published line, dB.
    n_lines_unknown : int
        Lines from which an ambient window is published as unknown.
    """

    def __init__(
        self, spec: FeatureSpec, thresholds: Mapping[str, float], min_snr_db: float, n_lines_unknown: int
    ) -> None:
        self._spec, self._thresholds = spec, dict(thresholds)
        self._min_snr_db, self._n_lines_unknown = min_snr_db, n_lines_unknown

    def process(self, window: Window, verdict: Verdict) -> tuple[list[Signature], tuple[TonalLine, ...]]:
        """Signatures of one window, and all lines found in it."""
        traces = find_lines(self._spec, window.fs, window.spectrum_db, window.background_db, self._min_snr_db)
        lines = tuple(t.line for t in traces)
        if verdict.detections:
            return [self._detected(window, verdict, traces, i) for i in range(len(verdict.detections))], lines
        if (verdict.unknown and traces) or len(traces) >= self._n_lines_unknown:
            best = float(verdict.probabilities.max())
            return [Signature(window, verdict, UNKNOWN, best, self._cells(traces), lines)], lines
        return [], lines

    def _detected(self, window: Window, verdict: Verdict, traces: Sequence[LineTrace], i: int) -> Signature:
        detection = verdict.detections[i]
        if verdict.mix is None:
            raise ValueError(f"detection of {detection.label} without a score map")
        mask = verdict.mix > self._thresholds[detection.label]
        mask[: self._spec.row_lo] = False
        inside = [t.line for t in traces if _share_inside(t, mask) >= MIN_INSIDE]
        return Signature(window, verdict, detection.label, detection.probability, mask, tuple(inside))

    def _cells(self, traces: Sequence[LineTrace]) -> Mask:
        mask = np.zeros((self._spec.n_freq, self._spec.n_time), np.bool_)
        for t in traces:
            mask |= t.cells(self._spec.n_freq)
        return mask


def _share_inside(trace: LineTrace, mask: npt.NDArray[np.bool_]) -> float:
    """Share of the ridge's active columns in which the mask covers the ridge itself."""
    columns = np.flatnonzero(trace.active)
    return float(mask[trace.rows[columns], columns].mean())
