"""Score maps of a site's source-free windows, by channel and label, and the thresholds that follow.

The recordings are declared to be free of sources. Where a class of the bundle is detected all the same, the window is
either a passing vessel, which must not raise the thresholds, or a false detection, which is part of the empty sea and
belongs to them. Nobody can tell them apart without an ear. By default such windows are *left out*: a vessel let in
would raise the threshold and cost every later signature its weak tones, unseen, while what leaving out costs is bounded
and told: if all of the share ``e`` left out was empty sea after all, and its windows kept everything, the share removed
of all source-free cells is still ``(1 - e)`` times what was measured. Who knows the sea was empty keeps them. Where
more than `MAX_DETECTED` of the windows would be left out, the folder is refused: that is no empty sea.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.site_channel import ChannelCalibration, Detected
from calibration.site_estimate import MIN_SEGMENTS, MIN_WINDOWS, site_thresholds
from calibration.site_windows import SiteWindows, window_s
from models.bundle import Bundle
from models.errors import InputError
from models.explainer import Explainer
from models.score_map import vessel_map
from models.verdict import Verdict

__all__ = ["MAX_DETECTED", "VESSEL", "ChannelScores", "empty_scores", "measure", "score_maps", "vessel_maps"]

F32 = npt.NDArray[np.float32]

#: Share of windows with a detection above which a folder is not taken for empty sea.
MAX_DETECTED = 0.5
#: Stands for the vessel map where labels stand for theirs; no label can be empty.
VESSEL = ""


def score_maps(bundle: Bundle, explainer: Explainer, features: F32, spectrum_db: F32, label: str) -> F32:
    """Score maps ``(n, n_cells)`` of ``label`` in windows, whatever they hold; only the rows in use.

    The one place where a site's calibration asks for the map that thresholds apply to.
    """
    spectra = spectrum_db if bundle.templates.groups else None  # without templates no line is tracked
    _, maps = explainer.explain_all(features, bundle.labels.index(label), spectra)
    return maps[:, bundle.spec.row_lo :].reshape(len(maps), -1)


def vessel_maps(bundle: Bundle, verdicts: Sequence[Verdict]) -> F32:
    """Vessel maps ``(n, n_cells)`` of windows that were given with their spectra; only the rows in use."""
    spec = bundle.spec
    out = np.empty((len(verdicts), (spec.n_freq - spec.row_lo) * spec.n_time), np.float32)
    for i, v in enumerate(verdicts):
        if v.tracks is None:
            raise ValueError("a vessel map needs line tracks: give the spectra")
        out[i] = vessel_map(v.tracks, v.own, spec.n_time, spec.row_lo)[spec.row_lo :].ravel()
    return out


@dataclass(slots=True, eq=False)
class ChannelScores:
    """What was measured on one channel; pieces of equal number of windows in each list."""

    scores: dict[str, list[F32]]
    """``{label: [(n, n_cells), ...]}``; under `VESSEL` those of the vessel map, where the bundle has one."""
    segments: list[str]
    recordings: set[str]
    seconds: float = 0.0
    n_detected: int = 0

    @property
    def n_windows(self) -> int:
        """Windows that count."""
        return len(self.segments)

    def removed(self, label: str, threshold: float) -> float:
        """Share of all cells that a threshold removes."""
        return float(np.mean([np.mean(w <= threshold) for s in self.scores[label] for w in s]))

    def calibrated(self, detected: Detected) -> ChannelCalibration:
        """Thresholds of the channel.

        Raises
        ------
        InputError
            If there are too few windows or independent pieces, or no empty sea.
        """
        n_segments = len(set(self.segments))
        n_heard = self.n_windows + (self.n_detected if detected == "left out" else 0)
        if n_heard and self.n_detected / n_heard > MAX_DETECTED and detected == "left out":
            raise InputError(
                f"a class of the bundle was detected in {self.n_detected} of {n_heard} windows: this is no empty sea; "
                f"give other recordings, or say --keep-detected if you know that no vessel was near"
            )
        if self.n_windows < MIN_WINDOWS:
            raise InputError(
                f"{self.n_windows} source-free windows, at least {MIN_WINDOWS} are needed: give more recordings"
            )
        if n_segments < MIN_SEGMENTS:
            raise InputError(
                f"{self.n_windows} windows from {n_segments} independent pieces (recordings, long ones cut every 2 "
                f"min, files named alike up to _partN taken as one), at least {MIN_SEGMENTS} are needed: "
                f"give recordings of other times"
            )
        found = {label: site_thresholds(np.concatenate(s), self.segments) for label, s in self.scores.items()}
        return ChannelCalibration(
            n_windows=self.n_windows, n_recordings=len(self.recordings), n_segments=n_segments, seconds=self.seconds,
            n_detected=self.n_detected, detected=detected,
            vessel=found.pop(VESSEL, {}), labels=found,
        )  # fmt: skip


def empty_scores(bundle: Bundle) -> ChannelScores:
    """Nothing measured yet."""
    names = [*bundle.thresholds.mix, *([VESSEL] if bundle.thresholds.vessel else [])]
    return ChannelScores({name: [] for name in names}, [], set())


def measure(
    bundle: Bundle, explainer: Explainer, windows: Iterable[SiteWindows], detected: Detected = "left out"
) -> dict[str, ChannelScores]:
    """Score maps of all windows that count, by channel."""
    out: dict[str, ChannelScores] = {}
    for w in windows:
        c = out.setdefault(w.channel, empty_scores(bundle))
        verdicts = explainer.explain(w.features, w.spectrum_db)
        hit = np.array([bool(v.detections) for v in verdicts])
        c.n_detected += int(hit.sum())
        keep = np.flatnonzero(~hit) if detected == "left out" else np.arange(hit.size)
        if not keep.size:
            continue
        for label, scores in c.scores.items():
            if label == VESSEL:
                scores.append(vessel_maps(bundle, [verdicts[i] for i in keep]))
            else:
                scores.append(score_maps(bundle, explainer, w.features[keep], w.spectrum_db[keep], label))
        c.segments += [w.segments[i] for i in keep]
        c.recordings.add(w.recording)
        c.seconds += keep.size * window_s(bundle)
    return out
