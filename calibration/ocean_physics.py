r"""Formulas of the simulated ocean, each with its source. Levels are one-sided spectral densities in µPa²/Hz (linear).

``log`` means log10, ``f`` is in Hz, ``c = 1500`` m/s.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

__all__ = [
    "CHUNK_S", "ENBW_HZ", "SOUND_SPEED", "Passage", "ShapedNoise", "Walk", "cavitation_pattern", "jomopans_echo",
    "lloyd_mirror", "rng_of", "wenz",
]  # fmt: skip

F64 = npt.NDArray[np.float64]

#: Speed of sound in sea water, m/s.
SOUND_SPEED = 1500.0
#: Noise bandwidth of a Hann frame with bins of 2 Hz: 1.5 bins.
ENBW_HZ = 3.0
#: Everything is generated in chunks of this length, whatever blocks are asked for, s.
CHUNK_S = 2


def rng_of(seed_name: str, *key: int) -> np.random.Generator:
    """Independent generator for each ``(seed_name, key)``; the name is hashed, so names never collide by arithmetic."""
    entropy = int.from_bytes(hashlib.sha256(seed_name.encode()).digest()[:16], "big")
    return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=key))


def wenz(f_hz: F64, wind_kn: float, shipping: float) -> F64:
    """Ambient noise after Wenz, J. Acoust. Soc. Am. 34 (1962), in the closed form of USML ``ambient_wenz.cc``.

    In dB re 1 µPa²/Hz, added as powers: turbulence ``107 - 30 log f``; shipping
    ``76 - 20 (log f - log 30)^2 + 5 (s - 4)``; wind of ``U`` knots ``44 + sqrt(21 U) + 17 (3 - log f)(log f - 2)``
    below 1 kHz and ``95 + sqrt(21 U) - 17 log f`` above; thermal ``-75 + 20 log f``.

    Parameters
    ----------
    f_hz : array
        Values below 1 Hz read as 1 Hz.
    wind_kn : float
        Wind speed, knots.
    shipping : float
        Shipping index ``s``, 1 to 7.

    Returns
    -------
    array, µPa²/Hz, shape of ``f_hz``.
    """
    lf = np.log10(np.maximum(f_hz, 1.0))
    gust = np.sqrt(21.0 * wind_kn)
    parts = (
        107.0 - 30.0 * lf,
        76.0 - 20.0 * (lf - np.log10(30.0)) ** 2 + 5.0 * (shipping - 4.0),
        np.where(lf < 3.0, 44.0 + gust + 17.0 * (3.0 - lf) * (lf - 2.0), 95.0 + gust - 17.0 * lf),
        -75.0 + 20.0 * lf,
    )
    out: F64 = np.sum([10.0 ** (p / 10.0) for p in parts], axis=0)
    return out


def jomopans_echo(f_hz: F64, v_kn: float, v_cruise_kn: float, length_m: float, d_low: float | None) -> F64:
    """Broadband source level of a ship, JOMOPANS-ECHO: MacGillivray & de Jong, J. Mar. Sci. Eng. 9(4):369 (2021).

    ``191 - 20 log f1 - 10 log[(1 - f/f1)^2 + D^2] + 60 log(v/vc) + 20 log(l/91.44)`` with ``f1 = 480/vc``, ``D = 3``;
    cargo classes below 100 Hz ``208 - 40 log g + 10 log f - 10 log[(1 - (f/g)^2)^2 + d_low^2]`` with ``g = 600/vc`` and
    the same two last terms. Speeds in knots, length in metres.

    Returns
    -------
    array, µPa²/Hz at 1 m (monopole), shape of ``f_hz``.
    """
    f = np.maximum(f_hz, 2.0)
    f1 = 480.0 / v_cruise_kn
    level = 191.0 - 20.0 * np.log10(f1) - 10.0 * np.log10((1.0 - f / f1) ** 2 + 9.0)
    if d_low is not None:
        g = 600.0 / v_cruise_kn
        low = 208.0 - 40.0 * np.log10(g) + 10.0 * np.log10(f) - 10.0 * np.log10((1.0 - (f / g) ** 2) ** 2 + d_low**2)
        level = np.where(f < 100.0, low, level)
    level = level + 60.0 * np.log10(v_kn / v_cruise_kn) + 20.0 * np.log10(length_m / 91.44)
    out: F64 = 10.0 ** (level / 10.0)
    return out


def lloyd_mirror(f_hz: F64, r_m: F64, z_source_m: float, z_receiver_m: float, reflection: float) -> F64:
    """Power gain of direct plus surface-reflected path: Lloyd's mirror (Jensen et al., Comp. Ocean Acoustics).

    ``|exp(i k R1)/R1 - g exp(i k R2)/R2|^2`` with ``R1,2 = sqrt(r^2 + (zr -+ zs)^2)`` and ``k = 2 pi f / c``.

    Parameters
    ----------
    f_hz, r_m : array
        Frequency and horizontal range; broadcast against each other.
    reflection : float
        Magnitude ``g`` of the surface reflection, 0..1.

    Returns
    -------
    array, 1/m², broadcast shape.
    """
    r1 = np.hypot(r_m, z_receiver_m - z_source_m)
    r2 = np.hypot(r_m, z_receiver_m + z_source_m)
    phase = (2.0 * np.pi / SOUND_SPEED) * f_hz * (r2 - r1)
    out: F64 = 1.0 / r1**2 + (reflection / r2) ** 2 - (2.0 * reflection / (r1 * r2)) * np.cos(phase)
    return out


def cavitation_pattern(n_blades: int, depth: float, n: int = 4096) -> F64:
    """One turn of the DEMON envelope of cavitation noise, mean square 1, shape ``(n + 1,)``, first = last.

    ``a0 + sum_k a_k cos(k phi)``, ``k = 1..3 Nb``, ``a_k = ceil(k/Nb)^-0.7``, times 2.2 where the blade number divides
    ``k``; ``a0 = sum a_k / depth``; scaled to ``a0^2 + sum a_k^2 / 2 = 1`` (after the LPS/UFRJ sonar synthesis code).
    """
    k = np.arange(1, 3 * n_blades + 1)
    a = np.ceil(k / n_blades) ** -0.7 * np.where(k % n_blades == 0, 2.2, 1.0)
    a0 = a.sum() / depth
    phi = np.linspace(0.0, 2.0 * np.pi, n + 1)
    pattern = a0 + (a[:, None] * np.cos(k[:, None] * phi)).sum(axis=0)
    out: F64 = pattern / np.sqrt(a0**2 + (a**2).sum() / 2.0)
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """Random walk as standard-normal knots every ``step_s``, straight between them, so that its integral is exact."""

    knots: F64
    step_s: float
    _sum: F64

    @classmethod
    def draw(cls, rng: np.random.Generator, duration_s: float, step_s: float) -> Walk:
        """Walk over ``[0, duration_s]`` and ten seconds more (for travel time)."""
        knots = rng.standard_normal(int((duration_s + 10.0) / step_s) + 3)
        return cls(knots, step_s, np.concatenate([[0.0], np.cumsum((knots[1:] + knots[:-1]) / 2.0)]))

    def _at(self, t_s: F64) -> tuple[npt.NDArray[np.intp], F64]:
        u = t_s / self.step_s
        i = np.clip(u.astype(np.intp), 0, self.knots.size - 2)
        return i, u - i

    def value(self, t_s: F64) -> F64:
        """Value at ``t_s``, shape of ``t_s``."""
        i, u = self._at(t_s)
        out: F64 = self.knots[i] + (self.knots[i + 1] - self.knots[i]) * u
        return out

    def integral(self, t_s: F64) -> F64:
        """Integral from 0 to ``t_s``, seconds, shape of ``t_s``."""
        i, u = self._at(t_s)
        out: F64 = self.step_s * (self._sum[i] + self.knots[i] * u + (self.knots[i + 1] - self.knots[i]) * u**2 / 2.0)
        return out


@dataclass(frozen=True, slots=True)
class Passage:
    """A vessel to and fro past the hydrophone: along-track place ``y = Y sin(v t / Y + phi)`` at ``cpa_m`` abeam.

    Near the middle of a leg it is the straight pass-by ``r = sqrt(rc^2 + v^2 (t - tc)^2)``; the turns keep an endless
    recording in range.
    """

    cpa_m: float
    leg_m: float
    v_m_s: float
    phase: float

    def range_m(self, t_s: F64) -> F64:
        """Horizontal range, shape of ``t_s``."""
        out: F64 = np.hypot(self.cpa_m, self.leg_m * np.sin(self.v_m_s * t_s / self.leg_m + self.phase))
        return out

    def range_rate(self, t_s: F64) -> F64:
        """Derivative of the range, m/s, shape of ``t_s``."""
        angle = self.v_m_s * t_s / self.leg_m + self.phase
        out: F64 = self.leg_m * np.sin(angle) * self.v_m_s * np.cos(angle) / self.range_m(t_s)
        return out

    def emission_s(self, t_s: F64) -> F64:
        """Time at the source of what is heard at ``t_s``, counted from what is heard at 0.

        Its derivative ``1 - r'/c`` is the Doppler factor.
        """
        r0 = float(self.range_m(np.zeros(1))[0])
        out: F64 = t_s - (self.range_m(t_s) - r0) / SOUND_SPEED
        return out


@functools.lru_cache(maxsize=8)
def _sine_window(n: int) -> F64:
    w = np.sin(np.pi * (np.arange(n) + 0.5) / n)
    w.setflags(write=False)
    return w


class ShapedNoise:
    r"""Endless Gaussian noise of a given, slowly changing spectrum, addressable by chunk.

    Frame ``j`` is Gaussian noise with ``E|Z_k|^2 = S_j(f_k) fs n / 2`` shaped in the frequency domain, two chunks long,
    centred at the start of chunk ``j``, under a sine window; neighbours overlap by half. Frames are independent and
    ``sin^2 + cos^2 = 1``, so the density is ``S`` at every instant and the seams do not show.

    Parameters
    ----------
    fs : int
        Hz.
    seed_name : str
    key : tuple of int
        Which noise of that seed.
    density : callable
        Frame index to one-sided density at ``frequencies_hz``, µPa²/Hz.
    """

    def __init__(self, fs: int, seed_name: str, key: tuple[int, ...], density: Callable[[int], F64]) -> None:
        self._fs, self._seed_name, self._key, self._density = fs, seed_name, key, density
        self._n = CHUNK_S * fs
        self._kept: tuple[int, F64] | None = None

    @staticmethod
    def frequencies_hz(fs: int) -> F64:
        """Frequencies at which ``density`` is asked, Hz."""
        out: F64 = np.arange(CHUNK_S * fs + 1) / (2.0 * CHUNK_S)
        return out

    def _frame(self, j: int) -> F64:
        if self._kept is not None and self._kept[0] == j:
            return self._kept[1]
        n = 2 * self._n
        rng = rng_of(self._seed_name, *self._key, j)
        scale = np.sqrt(self._density(j) * (self._fs * n / 4.0))
        z = rng.standard_normal((2, scale.size))
        shaped: F64 = np.asarray(scipy.fft.irfft((z[0] + 1j * z[1]) * scale, n), np.float64)
        frame: F64 = shaped * _sine_window(n)
        self._kept = (j, frame)
        return frame

    def chunk(self, k: int) -> F64:
        """Samples ``[k, k + 1) * CHUNK_S * fs``, shape ``(CHUNK_S * fs,)``, µPa."""
        before = self._frame(k)[self._n :]
        out: F64 = before + self._frame(k + 1)[: self._n]
        return out
