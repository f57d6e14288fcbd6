"""What a site calibration holds of one channel: its thresholds, and what they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from calibration.thresholds import NOMINAL_LEVELS
from models.errors import BundleError
from models.strict_json import StrictMap

__all__ = ["ChannelCalibration", "Detected", "SiteThreshold", "channel_of_map", "channel_to_dict", "check_channel"]

Detected = Literal["left out", "kept"]


@dataclass(frozen=True, slots=True)
class SiteThreshold:
    """One threshold, and what it removes of source-free cells it was not set on."""

    value: float
    """On the score map: a cell above it is kept."""
    removed: float
    """Share 0..1 of source-free cells removed, mean over recordings, each by the threshold of all others."""
    low: float
    high: float
    """95 % interval of ``removed``, over recordings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelCalibration:
    """Thresholds of one channel, and what they come from."""

    n_windows: int
    n_recordings: int
    """Files, or streams of a running daemon."""
    n_segments: int
    """Independent pieces that the interval counts: recordings, long ones cut."""
    seconds: float
    """Time under the windows."""
    n_detected: int
    """Windows in which a class of the bundle was detected."""
    detected: Detected
    """What became of them."""
    labels: Mapping[str, Mapping[str, SiteThreshold]]
    """``{label: {nominal level: threshold}}``."""
    vessel: Mapping[str, SiteThreshold] = field(default_factory=dict)
    """``{nominal level: threshold}`` on the vessel map; empty where the bundle has none."""

    def scores(self, nominal: str) -> dict[str, float]:
        """Threshold of each label at a nominal level."""
        return {label: levels[nominal].value for label, levels in self.labels.items()}

    @property
    def share_detected(self) -> float:
        """Share of all windows heard in which a class was detected."""
        n_all = self.n_windows + (self.n_detected if self.detected == "left out" else 0)
        return self.n_detected / n_all


def channel_to_dict(c: ChannelCalibration) -> dict[str, Any]:
    """Plain values, for JSON."""
    return {
        "n_windows": c.n_windows, "n_recordings": c.n_recordings, "n_segments": c.n_segments, "seconds": c.seconds,
        "n_detected": c.n_detected, "detected": c.detected,
        "labels": {label: _levels_to_dict(by) for label, by in c.labels.items()},
        "vessel": _levels_to_dict(c.vessel),
    }  # fmt: skip


def _levels_to_dict(by: Mapping[str, SiteThreshold]) -> dict[str, dict[str, float]]:
    return {q: {"value": t.value, "removed": t.removed, "low": t.low, "high": t.high} for q, t in by.items()}


def channel_of_map(m: StrictMap) -> ChannelCalibration:
    """Inverse of `channel_to_dict`, strict.

    Raises
    ------
    BundleError
        Naming the key that is missing, unknown or of another kind.
    """
    detected = m.of("detected", str)
    if detected not in ("left out", "kept"):
        raise BundleError(f"{m.where}: detected is {detected!r}, expected 'left out' or 'kept'")
    out = ChannelCalibration(
        n_windows=m.of("n_windows", int), n_recordings=m.of("n_recordings", int), n_segments=m.of("n_segments", int),
        seconds=m.number("seconds"), n_detected=m.of("n_detected", int),
        detected="left out" if detected == "left out" else "kept",
        labels={label: {q: _threshold(t) for q, t in by.maps()} for label, by in m.map("labels").maps()},
        vessel={q: _threshold(t) for q, t in m.map("vessel").maps()},
    )  # fmt: skip
    m.done()
    return out


def _threshold(m: StrictMap) -> SiteThreshold:
    out = SiteThreshold(m.number("value"), m.number("removed"), m.number("low"), m.number("high"))
    m.done()
    return out


def check_channel(name: str, c: ChannelCalibration) -> None:
    """Refuse what single values cannot tell: levels that lack, thresholds that fall, shares that are none.

    Raises
    ------
    BundleError
        Naming channel and label.
    """
    if c.n_windows < 1 or c.n_segments < 1 or c.n_recordings < 1 or c.n_detected < 0 or not c.seconds > 0.0:
        raise BundleError(f"channel {name}: counts {c.n_windows}, {c.n_recordings}, {c.n_segments} are impossible")
    maps = dict(c.labels) | ({"vessel map": c.vessel} if c.vessel else {})
    for label, levels in maps.items():
        if set(levels) != set(NOMINAL_LEVELS):
            raise BundleError(f"channel {name} {label}: has levels {sorted(levels)}, expected {NOMINAL_LEVELS}")
        values = [levels[q].value for q in NOMINAL_LEVELS]
        if values != sorted(values) or values[0] < 0.0:
            raise BundleError(f"channel {name} {label}: thresholds {values} do not rise with their level")
        if any(not 0.0 <= t.low <= t.removed <= t.high <= 1.0 for t in levels.values()):
            raise BundleError(f"channel {name} {label}: a share removed lies outside its interval or 0..1")
