r"""Shaft and blade rate from DEMON envelopes, and how sure that is.

**Modulation spectrum.** Each band's envelope is divided by its own slow level (2 s), so that a passing ship or a swell
is no modulation, and clipped at six standard deviations, so that a click is none. Its power spectra over segments of at
most `SEGMENT_S`, half overlapping, are averaged and divided by their running median; the mean over the bands is
``z(f)``, 1 where nothing modulates. Its scatter tells how many independent values ``n`` a mean is made of.

**Family.** For a shaft rate ``f`` and ``N`` blades lines are expected at ``k f``: strong and likely where ``N`` divides
``k``, weaker and less likely elsewhere, fading with ``k``. Mean powers of noise are Gamma distributed, so a line of
signal to noise ratio ``s`` at ``z`` has the log-likelihood ratio ``n (z s / (1 + s) - ln(1 + s))``, here averaged over
a range of ``s`` and capped, so that no single line makes a family. The evidence adds ``ln(1 - p + p e^{l})`` over
``k``, and what is known of ships: shafts turn about twice a second (a factor of 1.6 either way) and most propellers
have four or five blades. Every half or third of a shaft rate explains the same lines, but expects more that are not
there.

Pulses at an even pace (a sounder, a clicking recorder) have all harmonics alike, which no propeller has: a family of
which nearly every harmonic stands out, by about as much, is ``pulses``.

The best family counts as found from `LEAST_SCORE` nats on; see ``docs/demon.md`` for what that means on noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.ndimage

from models.hann import hann

__all__ = ["LEAST_SCORE", "Modulation", "ModulationLine", "modulation", "modulation_spectrum"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

SEGMENT_S = 24.0
PAD = 4
SLOW_S, BACKGROUND_HZ = 2.0, 3.0
CLIP_SDS = 6.0
#: Shaft rates tried, Hz, and their relative step; highest modulation frequency looked at.
SHAFT_HZ, SHAFT_STEP, F_MAX_HZ = (0.6, 8.0), 0.0015, 50.0
#: Ships' shafts: most common rate, Hz, and deviation of its logarithm; share of propellers by number of blades.
USUAL_HZ, USUAL_LOG = 2.0, 0.5
BLADES: Mapping[int, float] = {3: 0.2, 4: 0.4, 5: 0.25, 6: 0.1, 7: 0.05}
#: Chance of a line at a multiple of the blade rate, and at another one of the shaft rate; loss from one to the next.
P_BLADE, P_SHAFT, FADE = 0.85, 0.4, 0.7
S_BLADE = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
S_SHAFT = (0.3, 0.6, 1.2, 2.4, 5.0, 10.0)
MAX_HARMONIC = 40
CAP = 12.0
#: Evidence of a family, nats.
LEAST_SCORE = 12.0
#: A line of the family that is told: so many times the background.
LEAST_RATIO = 2.0
#: Share of all harmonics that stand out, and spread (10 to 90 %, dB) below which they are alike: no propeller.
PULSES_SHARE, PULSES_SPREAD_DB = 0.7, 8.0


@dataclass(frozen=True, slots=True)
class ModulationLine:
    """One line of the modulation spectrum that belongs to the family."""

    harmonic: int
    """Times the shaft rate."""
    freq_hz: float
    snr_db: float
    """Over the background of the modulation spectrum, less the background itself."""


@dataclass(frozen=True, slots=True)
class Modulation:
    """What the envelopes of one channel say."""

    found: bool
    """Whether the evidence for a propeller suffices; the numbers below are the best guess in any case."""
    pulses: bool
    """Evenly paced pulses instead, ``shaft_hz`` of them per second."""
    score: float
    """Evidence of the family, nats."""
    shaft_hz: float
    shaft_err_hz: float
    """Standard error, from the resolution of the spectrum and the highest line seen."""
    blades: int
    lines: tuple[ModulationLine, ...]

    @property
    def blade_hz(self) -> float:
        """Blade rate."""
        return self.shaft_hz * self.blades


def modulation_spectrum(envelope: F32, fs_mod: float) -> tuple[F64, F64, float]:
    """Mean modulation spectrum over the bands.

    Parameters
    ----------
    envelope
        ``(n_bands, n)`` power.
    fs_mod
        Values per second.

    Returns
    -------
    freq_hz, z, n_mean
        ``(n_out,)``, ``(n_out,)`` times the background, and of how many independent values each ``z`` is the mean.
    """
    n = envelope.shape[1]
    n_segment = min(n, round(SEGMENT_S * fs_mod))
    slow = hann(2 * (round(SLOW_S * fs_mod) // 2) + 1, symmetric=True)[1:-1]
    weight = _smoothed(np.ones(n), slow)
    window = hann(n_segment, symmetric=True)
    starts = range(0, n - n_segment + 1, max(1, n_segment // 2))
    freq = np.fft.rfftfreq(PAD * n_segment, 1.0 / fs_mod)
    freq = freq[freq < F_MAX_HZ + BACKGROUND_HZ]
    z = np.zeros(freq.size)
    n_used = 0
    for band in envelope.astype(np.float64):
        level = _smoothed(band, slow) / weight
        if not level.min() > 0.0:
            continue  # digital silence says nothing
        u = band / level - 1.0
        u = np.minimum(u, CLIP_SDS * u.std())
        power = np.zeros(freq.size)
        for a in starts:
            part = u[a : a + n_segment]
            spectrum = np.fft.rfft((part - part.mean()) * window, PAD * n_segment)[: freq.size]
            power += spectrum.real**2 + spectrum.imag**2
        z += power / np.maximum(_running_median(power, round(0.5 * BACKGROUND_HZ / freq[1])), 1e-30)
        n_used += 1
    if not n_used:
        return freq.astype(np.float64), np.ones(freq.size), 1.0
    looked_at = (freq > 1.0) & (freq < F_MAX_HZ)
    middle = float(np.median(z[looked_at]))
    z /= middle
    over = z[looked_at] - 1.0  # lines are few; what noise of ships and sea adds to the upper tail is not
    scatter = max(1.4826 * float(np.median(np.abs(over))), float(np.quantile(over, 0.9)) / 1.2816)
    return freq.astype(np.float64), z, float(np.clip(1.0 / max(scatter, 1e-3) ** 2, 1.0, 400.0))


def modulation(envelope: F32, fs_mod: float) -> Modulation:
    """The best family of shaft and blade rate in ``(n_bands, n)`` envelopes of ``fs_mod`` values per second."""
    freq, z, n_mean = modulation_spectrum(envelope, fs_mod)
    shafts = np.exp(np.arange(np.log(SHAFT_HZ[0]), np.log(SHAFT_HZ[1]), SHAFT_STEP))
    gain = {True: _line_gain(z, n_mean, S_BLADE), False: _line_gain(z, n_mean, S_SHAFT)}
    harmonics = np.arange(1, MAX_HARMONIC + 1)
    at = harmonics[:, None] * shafts  # (n_harmonics, n_shafts)
    inside = at < F_MAX_HZ
    told = {blade: np.interp(at, freq, g) for blade, g in gain.items()}
    best: tuple[float, int, int] | None = None
    for n_blades, share in BLADES.items():
        is_blade = harmonics % n_blades == 0
        p = np.where(is_blade, P_BLADE, P_SHAFT) * FADE ** ((harmonics - 1) // n_blades)
        p = p[:, None]
        each = np.log(1.0 - p + p * np.exp(np.where(is_blade[:, None], told[True], told[False])))
        total = np.where(inside, each, 0.0).sum(axis=0) + np.log(share)
        total -= 0.5 * (np.log(shafts / USUAL_HZ) / USUAL_LOG) ** 2
        i = int(total.argmax())
        if best is None or total[i] > best[0]:
            best = (float(total[i]), i, n_blades)
    assert best is not None
    score, i, n_blades = best
    lines = _lines(freq, z, float(shafts[i]))
    shaft, error = _refined(lines, float(shafts[i]), freq[1] * PAD)
    n_possible = min(MAX_HARMONIC, int(F_MAX_HZ / shaft))
    alike = len(lines) >= PULSES_SHARE * n_possible and _spread_db(lines) < PULSES_SPREAD_DB
    pulses = score >= LEAST_SCORE and alike
    return Modulation(score >= LEAST_SCORE and not pulses, pulses, score, shaft, error, n_blades, lines)


def _smoothed(x: F64, weights: F64) -> F64:
    """``x`` ``(n,)`` convolved with an odd number of ``weights``, same length, as ``scipy.signal`` does it."""
    n = x.size + weights.size - 1
    n_fast = scipy.fft.next_fast_len(n, True)
    whole = scipy.fft.irfft(scipy.fft.rfft(x, n_fast) * scipy.fft.rfft(weights, n_fast), n_fast)
    first = (weights.size - 1) // 2
    out: F64 = whole[first : first + x.size]
    return out


def _running_median(power: F64, half: int) -> F64:
    """Running median over ``2 half + 1`` bins, scaled to the mean of noise; every `PAD`-th bin is enough for it."""
    own = power[::PAD]
    half = max(1, half // PAD)
    mode: Literal["mirror", "nearest"] = "mirror" if own.size > half else "nearest"
    median = scipy.ndimage.median_filter(own, 2 * half + 1, mode=mode) / np.log(2.0)
    out: F64 = np.interp(np.arange(power.size), np.arange(own.size) * PAD, median)
    return out


def _line_gain(z: F64, n_mean: float, ratios: tuple[float, ...]) -> F64:
    """Log-likelihood ratio of a line of one of ``ratios`` against none, per bin, at most `CAP`."""
    s = np.array(ratios)
    each = n_mean * (z[:, None] * (1.0 - 1.0 / (1.0 + s)) - np.log1p(s))
    out: F64 = np.minimum(np.log(np.exp(np.clip(each, -80.0, 80.0)).mean(axis=1)), CAP)
    return out


def _lines(freq: F64, z: F64, shaft: float) -> tuple[ModulationLine, ...]:
    """Lines within half a resolution of a multiple of the shaft rate."""
    found = []
    for k in range(1, MAX_HARMONIC + 1):
        if k * shaft >= F_MAX_HZ:
            break
        i = round(k * shaft / freq[1])
        near = slice(max(1, i - PAD // 2), i + PAD // 2 + 1)
        j = near.start + int(z[near].argmax())
        if z[j] >= LEAST_RATIO:
            found.append(ModulationLine(k, float(freq[j]), float(10.0 * np.log10(z[j] - 1.0))))
    return tuple(found)


def _spread_db(lines: tuple[ModulationLine, ...]) -> float:
    low, high = np.quantile([line.snr_db for line in lines], (0.1, 0.9)) if lines else (0.0, np.inf)
    return float(high - low)


def _refined(lines: tuple[ModulationLine, ...], shaft: float, resolution: float) -> tuple[float, float]:
    """Shaft rate by least squares over the lines, each as good as its signal to noise ratio; and its error."""
    if not lines:
        return shaft, 0.5 * resolution
    k = np.array([line.harmonic for line in lines], np.float64)
    f = np.array([line.freq_hz for line in lines])
    weight = 10.0 ** (np.array([line.snr_db for line in lines]) / 10.0)
    told = float((weight * k * f).sum() / (weight * k * k).sum())
    if abs(told / shaft - 1.0) > 0.01:
        told = shaft  # lines beside the comb: trust the comb
    return told, float(0.3 * resolution / k.max())
