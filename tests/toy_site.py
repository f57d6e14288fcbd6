"""A site calibration for the toy bundle."""

from __future__ import annotations

from calibration.site import ChannelCalibration, SiteCalibration, SiteThreshold
from calibration.thresholds import NOMINAL_LEVELS
from models.bundle import Bundle


def site_with(bundle: Bundle, value: float, version: int = 1, channels: tuple[str, ...] = ("ch0",)) -> SiteCalibration:
    levels = {q: SiteThreshold(value + 0.001 * i, 0.9, 0.8, 1.0) for i, q in enumerate(NOMINAL_LEVELS)}
    c = ChannelCalibration(
        n_windows=30, n_recordings=8, n_segments=8, seconds=70.0, n_detected=0, detected="left out",
        labels={"low": levels, "high": levels},
    )  # fmt: skip
    return SiteCalibration.now(bundle, "a test", dict.fromkeys(channels, c), version)
