r"""Line tracks: the coherent ridges of one LOFARgram window, found without a class and without truth.

1. *Whitening.* Rows overlap with lines where a vessel has many of them close together, so a mean over neighbouring rows
   (the split window of the front end) takes lines for background there: on simulated vessels it reads the background
   below 60 Hz up to 4 dB too high. Here the window is first averaged over time (median of the block means, so that
   clicks and passing calls count little), then the background is a low quantile along frequency about a smooth trend,
   corrected for the quantile's own bias. ``W[f, t]`` is power over background, mean 1 on noise.
2. *Paths.* A Viterbi search over ``n_blocks`` block means: in each step a path stays or moves one row, at a penalty;
   the score of a block is the log-likelihood ratio of a raised level, capped.
3. *Evidence.* Along each path the block means are averaged, each limited to 2.5 times their median: a burst in one or
   two blocks proves no tonal. With ``n`` independent frames under the mean ``m``,

   .. math:: D = n (m - 1 - \ln m), \qquad m \ge 1

   is the log-likelihood ratio of "level raised by m" against "noise of level 1" (exponential power). A line present in
   one half of the window only may earn ``0.6 D_{half} - 4`` instead.
4. Local maxima are kept, strongest first, not nearer than ``MIN_APART`` rows to a kept one nor on its shoulder.

Pooling before the ratio is taken is what makes weak lines visible: the sum of block-wise ratios of pure noise reaches
12, the pooled one 5, while a line of 3 dB earns about 14 in either.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage
import scipy.special

from models.feature_spec import FeatureSpec
from models.hann import hann

__all__ = ["COHERENT", "EVIDENCE_WIDTH", "HALF_BAND", "N_BLOCKS", "TrackFinder", "Tracks", "tone_probability"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Blocks of columns in a window; a path may move one row from block to block.
N_BLOCKS = 8
#: Rows to either side of a track that belong to the line: the better part of the Hann window's main lobe.
HALF_BAND = 1.4
#: Tracks of one window keep at least so many rows apart.
MIN_APART = 2
#: Cap of a block's log-likelihood ratio and penalty of a move, in the path search.
CAP, MOVE = 6.0, 3.0
#: What stands within so many rows of a stronger track, with less than this share of its power, is its shoulder: the
#: window's main lobe ends two rows away, a line that wanders reaches a little farther.
SHADOW_ROWS, SHOULDER = 3, 0.1
#: Rows and quantile of the background along frequency.
ROWS, QUANTILE = 31, 0.15
#: Standard deviation of a row's level around the background, dB; the quantile is corrected for it.
SPREAD_DB = 0.85
#: Windows worked on at once: more no longer fit the processor's cache.
AT_ONCE = 4
#: Bits of a byte as `numpy.packbits` sets them, one for each block.
BITS = tuple(1 << (7 - b) for b in range(N_BLOCKS))
#: Least evidence of a track that is kept at all.
LEAST_EVIDENCE = 2.0
#: Evidence (nats) from which a track counts as a coherent line: noise alone gives 0.05 such tracks per window.
COHERENT = 10.0
#: Evidence at which a track is as likely a tone as noise, and the width of that passage (nats).
EVEN_EVIDENCE, EVIDENCE_WIDTH = 5.0, 1.2


def tone_probability(evidence: npt.NDArray[np.floating]) -> F64:
    """Probability that a track of that ``evidence`` (nats) is a tone of whatever origin, not noise."""
    out: F64 = scipy.special.expit((np.asarray(evidence, np.float64) - EVEN_EVIDENCE) / EVIDENCE_WIDTH)
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Tracks:
    """The line tracks of one window, strongest first."""

    rows: F32
    """``(n, n_time)`` fractional row of each track in each column."""
    evidence: F32
    """``(n,)`` log-likelihood ratio against noise, nats, at least `LEAST_EVIDENCE`."""
    snr_db: F32
    """``(n,)`` mean level over background of the strongest row, dB."""
    strength: F32
    """``(n_freq, N_BLOCKS)`` whitened block means of the whole window, 1 on noise; 0 below the first row in use."""
    background_db: F32
    """``(n_freq,)`` background of each row, unit of the spectrum; below the first row in use that of the first."""

    def __len__(self) -> int:
        return len(self.evidence)

    @property
    def row(self) -> F64:
        """``(n,)`` median row of each track."""
        out: F64 = np.median(self.rows, axis=1).astype(np.float64) if len(self) else np.zeros(0)
        return out

    def bands(self, half: float = HALF_BAND) -> Mask:
        """Cells ``(n, n_freq, n_time)`` within ``half`` rows of each track."""
        f = np.arange(self.strength.shape[0], dtype=np.float32)[:, None]
        inside: Mask = np.abs(f - self.rows[:, None, :]) <= half
        return inside

    def paint(self, values: npt.NDArray[np.floating], half: float = HALF_BAND) -> F32:
        """Map ``(n_freq, n_time)`` with each track's value, the largest where bands overlap, 0 elsewhere."""
        n_freq, n_time = self.strength.shape[0], self.rows.shape[1]
        out = np.zeros((n_freq, n_time), np.float32)
        order = np.argsort(values, kind="stable")  # the largest is written last and stays
        rows = self.rows[order][:, None]  # (n, 1, n_time)
        f = np.ceil(rows - half).astype(np.int64) + np.arange(math.floor(2 * half) + 1)[:, None]
        ok = (f >= 0) & (f < n_freq) & (f <= rows + half)
        columns = np.broadcast_to(np.arange(n_time), f.shape)
        value = np.broadcast_to(np.maximum(np.asarray(values, np.float32)[order], 0.0)[:, None, None], f.shape)
        out[f[ok], columns[ok]] = value[ok]
        return out


class TrackFinder:
    """Finds the tracks of windows of one front end; holds no state between calls.

    Raises
    ------
    ValueError
        If the columns of a window cannot be shared out evenly among the blocks.
    """

    def __init__(self, spec: FeatureSpec) -> None:
        if spec.n_time % N_BLOCKS:
            raise ValueError(f"n_time={spec.n_time} is not a multiple of {N_BLOCKS} blocks")
        self._spec = spec
        self._n_block = _independent(spec, spec.n_time // N_BLOCKS)
        self._n_whole = _independent(spec, spec.n_time)
        self._n_half = _independent(spec, spec.n_time // 2)
        x = np.log(np.arange(max(spec.row_lo, 1), spec.n_freq))
        x = (x - x.mean()) / x.std()
        self._trend = np.stack([x**k for k in range(4)], axis=1)  # (rows in use, 4)
        self._bias_db = SPREAD_DB * math.sqrt(2.0) * float(scipy.special.erfinv(2 * QUANTILE - 1))
        self._centres = (np.arange(N_BLOCKS) + 0.5) * (spec.n_time // N_BLOCKS) - 0.5

    def find(self, spectrum_db: npt.NDArray[np.floating]) -> Tracks:
        """Tracks of one window.

        Parameters
        ----------
        spectrum_db
            ``(n_freq, n_time)`` level of each cell, dB re anything.

        Raises
        ------
        ValueError
            If the shape is not that of the front end.
        """
        return self.find_all([spectrum_db])[0]

    def find_all(self, spectra_db: Sequence[npt.NDArray[np.floating]]) -> list[Tracks]:
        """Tracks of each window, as `find` finds them; several at once cost less than one by one.

        Raises
        ------
        ValueError
            If a shape is not that of the front end.
        """
        spec = self._spec
        for spectrum in spectra_db:
            if spectrum.shape != spec.shape[1:]:
                raise ValueError(f"spectrum of shape {spectrum.shape}, the front end gives {spec.shape[1:]}")
        return [t for i in range(0, len(spectra_db), AT_ONCE) for t in self._find(spectra_db[i : i + AT_ONCE])]

    def _find(self, spectra_db: Sequence[npt.NDArray[np.floating]]) -> Iterator[Tracks]:
        spec = self._spec
        blocks, background_db = self._whitened_blocks(np.stack([s[spec.row_lo :] for s in spectra_db]))
        paths = self._paths(blocks)
        values = np.take_along_axis(blocks, paths, axis=1)  # (n, n_freq, N_BLOCKS)
        evidence, mean = self._evidence(values)
        evidence[:, : spec.row_lo + 1] = 0.0  # paths along the first rows lean on what is not in use
        evidence[:, -1] = 0.0
        peaks = (evidence >= LEAST_EVIDENCE) & _ridges(blocks, paths)
        for i, peak in enumerate(peaks):
            chosen, proof = self._strongest(np.flatnonzero(peak), paths[i], values[i], evidence[i], mean[i] - 1.0)
            rows = self._fractional(blocks[i], paths[i, chosen])
            snr_db = 10.0 * np.log10(np.maximum(mean[i, chosen] - 1.0, 1e-3))
            out = (rows, np.array(proof), snr_db, blocks[i], background_db[i])
            yield Tracks(*(a.astype(np.float32) for a in out))

    def _whitened_blocks(self, spectra_db: npt.NDArray[np.floating]) -> tuple[F64, F64]:
        """Block means ``(n, n_freq, N_BLOCKS)`` of power over background, and the background ``(n, n_freq)``, dB.

        ``spectra_db`` ``(n, n_rows, n_time)`` are the rows in use.
        """
        lo, n_freq, n_time = self._spec.row_lo, self._spec.n_freq, self._spec.n_time
        power = np.exp(spectra_db.astype(np.float64) * (math.log(10.0) / 10.0))
        blocks = power.reshape(len(power), n_freq - lo, N_BLOCKS, n_time // N_BLOCKS)
        # 1.03: the median of block means of noise lies that much below their mean
        level = 10.0 * np.log10(1.03 * _median(blocks.mean(axis=3)) + 1e-30)
        over = np.stack([self._over_trend(row) for row in level])
        floor = np.stack(
            [scipy.ndimage.percentile_filter(row, 100 * QUANTILE, size=ROWS, mode="reflect") for row in over]
        )
        floor = scipy.ndimage.uniform_filter1d(floor, 9, axis=1, mode="nearest")
        background_db = level - over + floor - self._bias_db
        power *= np.exp(background_db * (-math.log(10.0) / 10.0))[:, :, None]
        column = _median(np.ascontiguousarray(power.transpose(0, 2, 1))) / math.log(2.0)  # a click lifts all rows
        power /= np.maximum(column, 1e-6)[:, None]
        out = np.zeros((len(power), n_freq, N_BLOCKS))
        out[:, lo:] = blocks.mean(axis=3)
        return out, np.concatenate([np.repeat(background_db[:, :1], lo, axis=1), background_db], axis=1)

    def _over_trend(self, level: F64) -> F64:
        """Level ``(n_rows,)`` over a smooth trend; lines, which stand above it, count little in fitting it."""
        trend = self._trend[-len(level) :]
        weight = np.ones(len(level))
        over = level
        for _ in range(8):
            weighted = trend.T * weight**2  # (4, n_rows)
            over = level - trend @ np.linalg.solve(weighted @ trend, weighted @ level)
            before, weight = weight, np.where(over > 1.0, 0.1, 1.0)
            if np.array_equal(before, weight):
                break
        return over

    def _paths(self, blocks: F64) -> npt.NDArray[np.int64]:
        """Best path ``(n, n_freq, N_BLOCKS)`` that ends in each row."""
        n, n_freq = blocks.shape[:2]
        raised = np.maximum(blocks, 1.0)
        gain = np.minimum(self._n_block * (raised - 1.0 - np.log(raised)), CAP)
        score = gain[:, :, 0].copy()
        step = np.zeros((N_BLOCKS, n, n_freq), np.int64)
        options = np.full((3, n, n_freq), -np.inf)
        for b in range(1, N_BLOCKS):
            options[0, :, 1:] = score[:, :-1] - MOVE
            options[1] = score
            options[2, :, :-1] = score[:, 1:] - MOVE
            step[b] = options.argmax(axis=0) - 1
            score = options.max(axis=0) + gain[:, :, b]
        paths = np.empty((n, n_freq, N_BLOCKS), np.int64)
        row = np.broadcast_to(np.arange(n_freq), (n, n_freq))
        for b in range(N_BLOCKS - 1, -1, -1):
            paths[:, :, b] = row
            row = row + np.take_along_axis(step[b], row, axis=1)
        return paths

    def _evidence(self, values: F64) -> tuple[F64, F64]:
        """Evidence and mean level of paths with block means ``values`` ``(..., N_BLOCKS)``."""
        half = N_BLOCKS // 2
        whole, mean = _pooled(values, self._n_whole)
        parts = np.maximum(_pooled(values[..., :half], self._n_half)[0], _pooled(values[..., half:], self._n_half)[0])
        return np.maximum(whole, 0.6 * parts - 4.0), mean

    def _strongest(
        self, candidates: npt.NDArray[np.int64], paths: npt.NDArray[np.int64], values: F64, evidence: F64, excess: F64
    ) -> tuple[npt.NDArray[np.int64], list[float]]:
        """Paths kept, by their last row, strongest first, and the evidence of each."""
        rows = candidates[np.argsort(-evidence[candidates], kind="stable")]
        path = paths[rows].astype(np.int16)
        apart = np.abs(path[:, None] - path)  # (n, n, N_BLOCKS)
        # which blocks of a path run beside another and in its shadow, a bit for each
        beside, shadowed = (np.packbits(apart <= far, axis=2)[..., 0].tolist() for far in (MIN_APART - 1, SHADOW_ROWS))
        level, found, over = values[rows].tolist(), evidence[rows].tolist(), excess[rows].tolist()
        kept: list[int] = []
        for k in range(len(rows)):
            taken, near = 0, beside[k]
            for j in kept:
                taken |= near[j]
            if taken.bit_count() > N_BLOCKS // 2:
                continue
            if taken:  # where it runs along a stronger track it proves nothing of its own
                rest = [1.0 if taken & bit else v for v, bit in zip(level[k], BITS, strict=True)]
                proof, mean = _pooled_path(rest, self._n_whole)
                found[k], over[k] = min(proof, found[k]), mean - 1.0
            if found[k] >= LEAST_EVIDENCE and over[k] >= SHOULDER * _shadow(shadowed[k], kept, over):
                kept.append(k)
        return rows[kept], [found[k] for k in kept]

    def _fractional(self, blocks: F64, paths: npt.NDArray[np.int64]) -> F64:
        """Fractional row ``(n, n_time)``: centroid of the three rows around the path, straight between blocks."""
        columns = np.arange(N_BLOCKS)
        near = np.clip(paths[None] + np.arange(-1, 2)[:, None, None], 0, len(blocks) - 1)  # (3, n, N_BLOCKS)
        over = np.maximum(blocks[near, columns] - 1.0, 1e-3)
        centroid = (near * over).sum(axis=0) / over.sum(axis=0)
        centroid = scipy.ndimage.uniform_filter1d(centroid, 3, axis=1, mode="nearest")
        x = np.clip(np.arange(self._spec.n_time), self._centres[0], self._centres[-1])
        left = np.minimum(np.searchsorted(self._centres, x, side="right") - 1, N_BLOCKS - 2)
        share = (x - self._centres[left]) / (self._centres[left + 1] - self._centres[left])
        out: F64 = centroid[:, left] * (1.0 - share) + centroid[:, left + 1] * share
        return out


def _median(x: F64) -> F64:
    """Median along the last axis, of an even or odd number of values; numpy's costs several times as much."""
    ranked = np.sort(x, axis=-1)
    middle = x.shape[-1] // 2
    out: F64 = ranked[..., middle] if x.shape[-1] % 2 else 0.5 * (ranked[..., middle - 1] + ranked[..., middle])
    return out


def _ridges(blocks: F64, paths: npt.NDArray[np.int64]) -> Mask:
    """Whether each path is as high as those one row beside it, ``(n, n_freq)``."""
    level = np.log(np.maximum(blocks, 1e-3))
    own = np.take_along_axis(level, paths, axis=1).sum(axis=2)
    lower = np.take_along_axis(level, np.maximum(paths - 1, 0), axis=1).sum(axis=2)
    upper = np.take_along_axis(level, np.minimum(paths + 1, blocks.shape[1] - 1), axis=1).sum(axis=2)
    high: Mask = (own >= lower) & (own >= upper)
    return high


def _shadow(shadowed: list[int], kept: list[int], over: list[float]) -> float:
    """Mean over the blocks of the strongest excess among the kept tracks that a path runs close to, 0 where none."""
    near = [(shadowed[j], over[j]) for j in kept if shadowed[j]]
    if not near:
        return 0.0
    return sum(max([e for bits, e in near if bits & bit], default=0.0) for bit in BITS) / N_BLOCKS


def _pooled(values: F64, n: float) -> tuple[F64, F64]:
    """Log-likelihood ratio of the mean of ``values`` ``(..., n_blocks)``, bursts limited, and that mean."""
    limit = 2.5 * _median(values)[..., None]
    mean = np.maximum(np.minimum(values, limit).mean(axis=-1), 1.0)
    return n * (mean - 1.0 - np.log(mean)), mean


def _pooled_path(values: list[float], n: float) -> tuple[float, float]:
    """As `_pooled`, of one path; numpy costs more than the eight numbers do."""
    ranked = sorted(values)
    middle = len(ranked) // 2
    limit = 2.5 * 0.5 * (ranked[middle - 1] + ranked[middle])
    mean = max(sum(min(v, limit) for v in values) / len(values), 1.0)
    return n * (mean - 1.0 - math.log(mean)), mean


def _independent(spec: FeatureSpec, n_columns: int) -> float:
    """Independent frames that average as well as ``n_columns`` overlapping Hann frames (Welch 1967)."""
    w = hann(spec.n_fft)
    energy = float((w**2).sum())
    total = 1.0
    for k in range(1, n_columns):
        if (shift := k * spec.hop) >= spec.n_fft:
            break
        rho = float((w[shift:] * w[: spec.n_fft - shift]).sum()) / energy
        total += 2.0 * (1.0 - k / n_columns) * rho**2
    return n_columns / total
