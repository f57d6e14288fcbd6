"""What one tile of samples says of each channel: level, peak, offset, clipping, bits, mains hum, likeness.

A tile is one second, ``x`` ``(n_channels, fs)``, full scale 1. Per channel c:

    dc = mean x        level = 10 lg mean (x - dc)²        clipped = share of samples with |x| >= 0.999
    bits: two's complement on 24 bits; a bit *moves* if it is not the same in all samples
    hum: x in bands of 1 Hz below 400 Hz (Hann); third strongest of the first five harmonics of 50 or 60 Hz, each over
         the median of its neighbourhood 3 to 8 Hz away
    likeness: correlation of first differences of 1024 samples; differences, because low sound is alike at all
         hydrophones of an array, and high sound and the noise of the converters is not

Bits look at 4096 samples spread over the tile, likeness at its first ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["CLIP_LEVEL", "Measured", "measure"]

F32 = npt.NDArray[np.float32]
Int = npt.NDArray[np.int64]
Bool = npt.NDArray[np.bool_]

CLIP_LEVEL = 0.999
"""Of full scale: 16-bit converters end at 0.99997."""
N_BITS = 24
"""A float32 sample holds no more."""
N_SPREAD = 4096
N_ALIKE = 1024
ONE_THREAD = 1 << 18
"""Products that OpenBLAS does without its threads, whose waiting costs ten times the work."""
N_HARMONICS, N_STANDING = 5, 3
MAINS_HZ = (50, 60)
HUM_FS = 1000


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One tile of all channels; each array ``(n_channels,)``."""

    level_db: F32
    """Mean square without the offset, dB re full scale squared; -inf for a flat line."""
    peak: F32
    """Largest magnitude."""
    dc: F32
    flat: Bool
    """All samples are the same."""
    clipped: F32
    """Share of samples at full scale, 0..1."""
    low_bit: Int
    """Lowest bit that moves, counted from 0 = 2**-23 of full scale; N_BITS where none does."""
    n_stuck: Int
    """Bits that never move between the lowest and the highest that do."""
    hum_db: F32
    """How far the third strongest harmonic of the mains stands above its neighbourhood; nan: rate too low."""
    alike: F32
    """Correlation with the most alike other channel, by magnitude; 0 for one channel or a flat line."""
    alike_to: Int
    """That channel."""


def measure(x: F32) -> Measured:
    """All of it, of one tile ``(n_channels, fs)`` of finite samples."""
    n = x.shape[1]
    high, low = x.max(axis=1), x.min(axis=1)
    peak = np.maximum(high, -low)
    flat = high == low
    dc = x.mean(axis=1)
    power = np.einsum("cn,cn->c", x, x) / np.float32(n) - dc * dc
    with np.errstate(divide="ignore"):
        level = 10.0 * np.log10(np.where(flat, 0.0, np.maximum(power, 0.0))).astype(np.float32)
    clipped = np.zeros(len(x), np.float32)
    for c in np.flatnonzero(peak >= CLIP_LEVEL):
        clipped[c] = np.mean(np.abs(x[c]) >= CLIP_LEVEL)
    low_bit, n_stuck = _bits(x[:, :: max(1, n // N_SPREAD)])
    alike, alike_to = _alike(x[:, : N_ALIKE + 1])
    return Measured(level, peak, dc, flat, clipped, low_bit, n_stuck, _hum(x), alike, alike_to)


def _bits(x: F32) -> tuple[Int, Int]:
    """Lowest moving bit, and the number of stuck bits above it."""
    whole = np.rint(np.clip(x, -128.0, 128.0) * np.float32(1 << (N_BITS - 1))).astype(np.int32)
    whole ^= whole[:, :1]
    moved = np.bitwise_or.reduce(whole, axis=1).astype(np.int64) & ((1 << N_BITS) - 1)
    is_moving = (moved[:, None] >> np.arange(N_BITS)) & 1  # (n_channels, N_BITS)
    n_moving = is_moving.sum(axis=1)
    any_moves = n_moving > 0
    lowest = np.where(any_moves, is_moving.argmax(axis=1), N_BITS)
    highest = N_BITS - 1 - is_moving[:, ::-1].argmax(axis=1)
    return lowest, np.where(any_moves, highest - lowest + 1 - n_moving, 0)


def _hum(x: F32) -> F32:
    """Third strongest harmonic of the mains over its neighbourhood, dB, the better of 50 and 60 Hz."""
    n_channels, n = x.shape
    q = max(1, n // HUM_FS)  # sums of q samples: a null at each multiple of their rate, enough below 400 Hz
    m = n // q
    if m < HUM_FS:
        return np.full(n_channels, np.nan, np.float32)
    y = x[:, : m * q].reshape(n_channels, m, q) @ np.full(q, 1.0 / q, np.float32)
    y -= y.mean(axis=1, keepdims=True)
    spectrum = np.fft.rfft(y * np.hanning(m).astype(np.float32), axis=1)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)  # (n_channels, about 1 Hz each)
    hz = n / (m * q)  # of one bin
    best = np.full(n_channels, -np.inf, np.float32)
    for mains in MAINS_HZ:
        standing = np.empty((n_channels, N_HARMONICS), np.float32)
        for k in range(N_HARMONICS):
            at = round(mains * (k + 1) / hz)
            around = np.r_[at - 8 : at - 2, at + 3 : at + 9]
            neighbourhood = np.maximum(np.median(power[:, around], axis=1), np.float32(1e-20))
            line = np.maximum(power[:, at - 1 : at + 2].max(axis=1), np.float32(1e-20))
            standing[:, k] = 10.0 * np.log10(line / neighbourhood)
        best = np.maximum(best, np.sort(standing, axis=1)[:, -N_STANDING])
    return best


def _alike(x: F32) -> tuple[F32, Int]:
    """Correlation of each channel's differences with the most alike other channel's."""
    n_channels = len(x)
    if n_channels == 1:
        return np.zeros(1, np.float32), np.zeros(1, np.int64)
    d = x[:, 1:] - x[:, :-1]
    d -= d.mean(axis=1, keepdims=True)
    length = np.sqrt(np.einsum("cn,cn->c", d, d))
    d /= np.where(length > 0, length, np.float32(np.inf))[:, None]
    r = np.zeros((n_channels, n_channels), np.float32)
    n_at_once = max(1, ONE_THREAD // n_channels**2)
    for k in range(0, d.shape[1], n_at_once):
        r += d[:, k : k + n_at_once] @ d[:, k : k + n_at_once].T
    np.fill_diagonal(r, 0.0)
    to = np.abs(r).argmax(axis=1)
    return r[np.arange(n_channels), to], to
