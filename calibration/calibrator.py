r"""What a known tone says of a measuring chain: a calibrator or pistonphone over the hydrophone, and its recording.

The recording is cut into pieces of one second. The tone is looked for within ``SEARCH`` of its nominal frequency; in
each piece its mean square ``m`` (re full scale squared) is the power of a Hann window's spectrum within three bins of
the peak, the mean of the bins beside taken off as noise. With the level ``L`` of the tone (mean-square sound pressure
level, dB re 1 µPa) the peak level of full scale is ``L - 10 lg m``, by the median over all pieces.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.errors import AudioFormatError, UsageError
from models.hann import hann

__all__ = ["Measured", "measure_tone"]

F32 = npt.NDArray[np.float32]

#: The tone lies within this share of its nominal frequency, and at least 3 Hz.
SEARCH, SEARCH_HZ = 0.03, 3.0
#: Bins of one second to either side of the peak that hold the tone, and those beside from which noise is told.
HALF, BESIDE = 3, 12
LEAST_PIECES = 3
#: A tone that stands out less from the noise beside it, dB, is none.
LEAST_SNR_DB = 20.0
#: Level at which the converter is as good as full.
FULL = 0.999


@dataclass(frozen=True, slots=True)
class Measured:
    """A known tone on one channel."""

    freq_hz: float
    level_db_re_fs: float
    """Mean-square level of the tone, dB re full scale squared."""
    spread_db: float
    """Standard deviation over the pieces."""
    snr_db: float
    """Over the noise in the bins beside it, within the same bandwidth."""
    n_pieces: int
    clipped: bool

    @property
    def problem(self) -> str:
        """Why it is not to be trusted, for people; empty: it is."""
        if self.snr_db < LEAST_SNR_DB:
            return f"no tone: {self.snr_db:.0f} dB over the noise, {LEAST_SNR_DB:.0f} are needed"
        if self.clipped:
            return "the converter was full: the tone is clipped, lower the gain and record again"
        if self.spread_db > 0.5:
            return f"not steady: its level scatters by {self.spread_db:.1f} dB; is the coupling tight?"
        return ""

    def full_scale_peak_db(self, level_db: float) -> float:
        """Peak level of full scale, dB re 1 µPa, if the tone has ``level_db``."""
        return level_db - self.level_db_re_fs

    def sensitivity_db(self, level_db: float, gain_db: float, adc_vpeak: float) -> float:
        """Sensitivity, dB re 1 V/µPa, of the hydrophone before that gain and converter."""
        return 20.0 * math.log10(adc_vpeak) - gain_db - self.full_scale_peak_db(level_db)


def measure_tone(x: F32, fs: int, freq_hz: float) -> Measured:
    """Measure a tone of about ``freq_hz`` in ``x`` ``(n_samples,)``, full scale 1, sampled at ``fs`` Hz.

    Raises
    ------
    UsageError
        If no such tone can be sampled at ``fs``.
    AudioFormatError
        If the recording is too short.
    """
    if not 2.0 * (HALF + BESIDE) <= freq_hz < 0.45 * fs:
        raise UsageError(f"a tone of {freq_hz:g} Hz cannot be measured at {fs} Hz: 30 Hz to 0.45 of the rate")
    n = x.size // fs
    if n < LEAST_PIECES:
        raise AudioFormatError(f"{x.size / fs:.1f} s is too short: record the tone for {LEAST_PIECES} s or longer")
    pieces = x[: n * fs].reshape(n, fs).astype(np.float64)
    pieces = pieces - pieces.mean(axis=1, keepdims=True)
    w = hann(fs)
    power = 2.0 * np.abs(np.fft.rfft(pieces * w, axis=1)) ** 2 / (fs * (w**2).sum())  # sums to the mean square
    reach = max(SEARCH * freq_hz, SEARCH_HZ)
    lo, hi = max(math.ceil(freq_hz - reach), HALF + BESIDE), min(math.floor(freq_hz + reach), fs // 2 - HALF - BESIDE)
    peak = lo + power[:, lo : hi + 1].mean(axis=0).argmax()
    tone = power[:, peak - HALF : peak + HALF + 1]
    beside = np.concatenate(
        [power[:, peak - BESIDE : peak - HALF], power[:, peak + HALF + 1 : peak + BESIDE + 1]], axis=1
    ).mean(axis=1)
    noise = (2 * HALF + 1) * beside
    level = 10.0 * np.log10(np.maximum(tone.sum(axis=1) - noise, 1e-30))
    bins = np.arange(peak - HALF, peak + HALF + 1)
    return Measured(
        freq_hz=float((tone.mean(axis=0) * bins).sum() / tone.mean(axis=0).sum()),
        level_db_re_fs=float(np.median(level)),
        spread_db=float(level.std()),
        snr_db=float(np.median(level - 10.0 * np.log10(np.maximum(noise, 1e-30)))),
        n_pieces=n,
        clipped=bool(np.abs(x).max() >= FULL),
    )
