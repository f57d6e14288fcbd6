"""Thresholds estimated anew while the daemon runs: a stage that listens to the ambient windows.

Of each channel the score maps of at most `N_KEPT` windows are kept, those of about the last refresh period: a window is
taken when it was heard as ambient and at least a `N_KEPT`-th of the period (and the length of a window) after the one
before. From each map every `THIN`-th order statistic is kept, the upper of its group, so that a threshold errs towards
removing more, by at most ``THIN`` cells of a window. Memory is bounded and nothing is drawn at random: the same sound
gives the same thresholds. Time is counted in samples; there is no clock here.

Windows in which a class is detected, or which are unknown, are never taken: see `calibration.site_scores` for what
that costs. So is nothing of a channel on which a vessel is always heard; its thresholds stay those it had.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from calibration.site import ChannelCalibration
from calibration.site_estimate import MIN_SEGMENTS, MIN_WINDOWS, segment_of, site_thresholds
from calibration.site_scores import VESSEL, empty_scores, score_maps, vessel_maps
from calibration.site_windows import window_s
from daemon.frames import Analysed, Record, StreamEnd, StreamStart
from models.bundle import Bundle
from models.explainer import Explainer

__all__ = ["N_KEPT", "THIN", "SiteEstimate", "SiteEstimator", "thinned"]

F32 = npt.NDArray[np.float32]

_LOGGER = logging.getLogger(__name__)

#: Windows kept of each channel, and one of how many order statistics of each score map.
N_KEPT, THIN = 96, 8


def thinned(cells: F32) -> F32:
    """Every `THIN`-th order statistic of ``(n_cells,)``, the highest of its group."""
    ordered = np.sort(cells)
    return (
        ordered[THIN - 1 :: THIN].copy()
        if ordered.size % THIN == 0
        else np.append(ordered[THIN - 1 :: THIN], ordered[-1])
    )


@dataclass(frozen=True, slots=True)
class SiteEstimate:
    """What was found of the channels that could be estimated."""

    data: str
    """What it comes from, for people."""
    channels: Mapping[str, ChannelCalibration]


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """One window."""

    segment: str
    stream: str
    scores: dict[str, F32]


@dataclass(slots=True, eq=False)
class _Channel:
    kept: deque[_Kept] = field(default_factory=lambda: deque(maxlen=N_KEPT))
    next_s: float = -math.inf
    """When the next window may be taken."""
    n_detected: int = 0
    """Windows that were due but held a class, since the last estimate."""


class SiteEstimator:
    """Stage behind the pipeline: records in, now and then thresholds.

    Parameters
    ----------
    refresh_s
        Time heard between two estimates, s.
    """

    def __init__(self, bundle: Bundle, explainer: Explainer, refresh_s: float) -> None:
        self._bundle, self._explainer, self._refresh_s = bundle, explainer, refresh_s
        self._every_s = max(window_s(bundle), refresh_s / N_KEPT)
        self.reset()

    def reset(self) -> None:
        """Forget all windows."""
        self._channels: dict[str, _Channel] = {}
        self._before_s = self._at_s = 0.0  # time heard in earlier streams; and now
        self._n_streams = 0
        self._due_s = self._refresh_s

    def process(self, record: Record) -> SiteEstimate | None:
        """New thresholds when it is time for them and there is enough to make them of, else None."""
        match record:
            case StreamStart():
                self._before_s = self._at_s
                self._n_streams += 1
            case Analysed():
                return self._analysed(record)
            case StreamEnd():
                self._before_s = self._at_s
        return None

    def _analysed(self, record: Analysed) -> SiteEstimate | None:
        w = record.window
        start_s = self._before_s + w.first_sample / w.fs
        self._at_s = max(self._at_s, start_s + w.n_samples / w.fs)
        channel = self._channels.setdefault(w.channel, _Channel())
        if start_s >= channel.next_s:
            channel.next_s = start_s + self._every_s
            if record.verdict.is_ambient:
                channel.kept.append(self._taken(record, w.first_sample / w.fs))
            else:
                channel.n_detected += 1
        if self._at_s < self._due_s:
            return None
        self._due_s = self._at_s + self._refresh_s
        return self._estimate()

    def _taken(self, record: Analysed, first_s: float) -> _Kept:
        w, scores = record.window, {}
        for label in empty_scores(self._bundle).scores:
            if label == VESSEL:
                maps = vessel_maps(self._bundle, [record.verdict])
            else:
                maps = score_maps(self._bundle, self._explainer, w.features[None], w.spectrum_db[None], label)
            scores[label] = thinned(maps[0])
        stream = f"{self._n_streams}/{w.source}/{w.epoch}"
        return _Kept(segment_of(stream, first_s), stream, scores)

    def _estimate(self) -> SiteEstimate | None:
        found: dict[str, ChannelCalibration] = {}
        for name, c in self._channels.items():
            n_segments = len({k.segment for k in c.kept})
            if len(c.kept) < MIN_WINDOWS or n_segments < MIN_SEGMENTS:
                _LOGGER.warning(
                    "site: channel %s has %d ambient windows of %d pieces, %d and %d are needed: thresholds stay",
                    name, len(c.kept), n_segments, MIN_WINDOWS, MIN_SEGMENTS,
                )  # fmt: skip
                continue
            found[name] = self._channel(c)
            c.n_detected = 0
        if not found:
            return None
        data = f"the running site, {self._refresh_s / 3600.0:g} h until {self._at_s / 3600.0:.2f} h after the start"
        return SiteEstimate(data, found)

    def _channel(self, c: _Channel) -> ChannelCalibration:
        segments = [k.segment for k in c.kept]
        found = {
            label: site_thresholds(np.stack([k.scores[label] for k in c.kept]), segments) for label in c.kept[0].scores
        }
        return ChannelCalibration(
            n_windows=len(c.kept), n_recordings=len({k.stream for k in c.kept}), n_segments=len(set(segments)),
            seconds=len(c.kept) * window_s(self._bundle), n_detected=c.n_detected, detected="left out",
            vessel=found.pop(VESSEL, {}), labels=found,
        )  # fmt: skip
