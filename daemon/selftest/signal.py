"""The known signature of a class: its tonals, as the bundle's line templates have them, in white noise.

So it is known for every bundle with templates, also for one of real vessels, which tonals must come out, and as whose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.bundle import Bundle
from models.errors import BundleError, UsageError
from models.features import FeatureSpec

__all__ = ["Injection", "injections"]

F32 = npt.NDArray[np.float32]

SNR_DB = 12.0
"""In-bin signal to noise ratio of each tonal: plain, but not loud."""
NOISE_RMS = 0.01
LEAST_PRESENCE = 0.5
"""Lines that most recordings of the class have."""
HANN_BINS = 1.5
"""Noise bandwidth of the front end's window."""


@dataclass(frozen=True, slots=True, eq=False)
class Injection:
    """What is put in."""

    label: str
    """Class that must be named; empty: noise alone, no class may be named."""
    freq_hz: tuple[float, ...]
    """Tonals that must come out."""
    x: F32
    """``(n_channels, n_samples)``, full scale 1; noise and phases of each channel are its own."""

    @property
    def n_samples(self) -> int:
        """Per channel."""
        return int(self.x.shape[1])


def injections(
    bundle: Bundle, spec: FeatureSpec, fs: int, seconds: float, label: str | None = None, *, n_channels: int = 1
) -> list[Injection]:
    """One injection for each class with a template (or for ``label`` alone), and one of noise alone.

    Parameters
    ----------
    bundle : Bundle
    spec : FeatureSpec
    fs : int
        Hz.
    seconds : float
        Of each.
    label : str, optional
    n_channels : int

    Raises
    ------
    BundleError
        If the bundle has no line templates.
    UsageError
        If ``label`` has none, or ``seconds`` hold no window.
    """
    groups = bundle.templates.groups
    if not groups:
        raise BundleError("this bundle has no line templates, so no signature of it is known: calibrate it anew")
    if label is not None and label not in groups:
        raise UsageError(f"the bundle has no line template of {label!r}; it has {', '.join(groups)}")
    n = round(seconds * fs)
    if spec.n_windows(fs, n) < 1:
        raise UsageError(f"{seconds:g} s hold no window: give {spec.n_samples(fs) / fs:.1f} s or more")
    highest = spec.bin_hz * spec.n_freq
    made = []
    for i, name in enumerate(groups if label is None else [label]):
        freqs = sorted(
            f * float(np.exp(np.mean(group.shift)))
            for group in groups[name]
            for f, presence in zip(group.freq_hz, group.presence, strict=True)
            if presence >= LEAST_PRESENCE and f < highest
        )
        made.append(Injection(name, tuple(freqs), _sound(freqs, fs, (n_channels, n), spec.bin_hz, i)))
    made.append(Injection("", (), _sound([], fs, (n_channels, n), spec.bin_hz, len(made))))
    return made


def _sound(freqs: list[float], fs: int, shape: tuple[int, int], bin_hz: float, seed: int) -> F32:
    """Tonals of `SNR_DB` in white noise: ``A^2 / 2 = snr * noise power in one bin``."""
    rng = np.random.default_rng(seed)
    x = NOISE_RMS * rng.standard_normal(shape)
    noise_in_bin = 2.0 * NOISE_RMS**2 / fs * HANN_BINS * bin_hz
    amplitude = np.sqrt(2.0 * noise_in_bin * 10.0 ** (SNR_DB / 10.0))
    t = np.arange(shape[1]) / fs
    for f in freqs:
        x += amplitude * np.cos(2.0 * np.pi * f * t + rng.uniform(0.0, 2.0 * np.pi, (shape[0], 1)))
    sound: F32 = x.astype(np.float32)
    sound.setflags(write=False)
    return sound
