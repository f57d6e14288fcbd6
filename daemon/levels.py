"""Calibrated levels of records: which channel has which measuring chain, and what its windows and lines amount to.

Levels are worked out when a record goes out: features, networks and detections never see them, so a chain that is set,
changed or wrong changes no detection.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from calibration.hydrophone import Hydrophone
from calibration.hydrophone_files import read_chains_csv, with_response
from daemon.config import Config
from daemon.frames import TonalLine, Window
from models.errors import ConfigError
from models.feature_spec import FeatureSpec
from models.hann import hann

__all__ = ["Levels", "enbw_bins", "enbw_db", "levels_of", "settled"]


@dataclass(frozen=True, slots=True)
class Levels:
    """Measuring chains by channel; a channel without one is not calibrated, its levels re 1 µPa are not known."""

    chains: Mapping[str, Hydrophone] = field(default_factory=dict)

    @property
    def id(self) -> str | None:
        """Sixteen hex digits over all that enters a level; None: no channel is calibrated."""
        if not self.chains:
            return None
        return hashlib.sha256(json.dumps(self.numbers(), sort_keys=True, allow_nan=False).encode()).hexdigest()[:16]

    def numbers(self) -> tuple[dict[str, Any], ...]:
        """All that enters a level, by channel, as JSON holds it."""
        return tuple(self.chains[name].numbers() for name in sorted(self.chains))

    def line_db(self, channel: str, line: TonalLine) -> float | None:
        """Mean-square sound pressure level of a tonal, dB re 1 µPa; None: the channel is not calibrated."""
        chain = self.chains.get(channel)
        return None if chain is None else chain.level_db(line.level_db, line.freq_hz)

    def noise_db(self, channel: str, line: TonalLine, spec: FeatureSpec) -> float | None:
        """Mean-square sound pressure spectral density level of the noise under a line, dB re 1 µPa²/Hz."""
        chain = self.chains.get(channel)
        if chain is None or line.noise_db is None:
            return None
        return chain.level_db(line.noise_db, line.freq_hz) - enbw_db(spec)

    def window_db(self, window: Window, spec: FeatureSpec) -> float | None:
        """Mean-square sound pressure level in the band of the front end, dB re 1 µPa; None: not calibrated."""
        chain = self.chains.get(window.channel)
        if chain is None:
            return None
        if not chain.response_hz:
            return window.level_db + chain.full_scale_peak_db
        power = (10.0 ** (window.spectrum_db[spec.row_lo :].astype(np.float64) / 10.0)).mean(axis=1)
        return chain.band_level_db(power / enbw_bins(spec.n_fft), spec.frequencies_hz[spec.row_lo :])

    def words(self, spec: FeatureSpec) -> tuple[str, ...]:
        """One line for each channel that is calibrated, for people."""
        return tuple(self.chains[name].words(spec.f_lo_hz, spec.f_hi_hz) for name in sorted(self.chains))


@functools.lru_cache(maxsize=8)
def enbw_bins(n_fft: int) -> float:
    """Equivalent noise bandwidth of the front end's window, bins."""
    w = hann(n_fft).astype(np.float64)
    return float(n_fft * (w**2).sum() / w.sum() ** 2)


def enbw_db(spec: FeatureSpec) -> float:
    """The same in Hz, as a level."""
    return 10.0 * float(np.log10(enbw_bins(spec.n_fft) * spec.bin_hz))


def levels_of(config: Config) -> Levels:
    """Chains as the settings have them, their response files read.

    Raises
    ------
    ConfigError
        If a file cannot be read or a value does not fit.
    """
    chains, folder = config.hydrophone, Path()
    if config.hydrophones:
        path = Path(config.hydrophones)
        folder, chains = path.parent, _of_file(path)
    out: dict[str, Hydrophone] = {}
    for chain in chains:
        if chain.channel in out:
            raise ConfigError(f"{config.hydrophones or 'hydrophone'}: channel {chain.channel} stands there twice")
        out[chain.channel] = with_response(chain, folder)
    return Levels(out)


def settled(config: Config) -> Config:
    """``config`` with what it names in files written into it, so that it needs none of them any more."""
    return dataclasses.replace(config, hydrophones="", hydrophone=tuple(levels_of(config).chains.values()))


def _of_file(path: Path) -> tuple[Hydrophone, ...]:
    if path.suffix.lower() == ".csv":
        return read_chains_csv(path)
    chains = Config.load(path)
    if chains != Config(hydrophone=chains.hydrophone):
        raise ConfigError(f"{path}: of all settings only [[hydrophone]] tables belong here")
    if not chains.hydrophone:
        raise ConfigError(f"{path}: holds no [[hydrophone]] table")
    return chains.hydrophone
