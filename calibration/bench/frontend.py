"""The streaming front end against the limit: soxr in one shot and one batched FFT of the same frames.

Both sides get the same samples and channels, turn and turn about, on one thread. The front end is fed in blocks of
0.1 s, as a sound card does it; the limit has the whole recording at once, keeps nothing and takes away no mean and no
window. Of the two ways to call soxr (all channels interleaved, or one after the other) the faster counts.
"""

from __future__ import annotations

import importlib.metadata
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
import scipy.ndimage

from calibration.bench.rounds import ratio, timed
from calibration.dataset import Progress, no_progress
from models.demon import DemonFrontEnd, DemonSpec
from models.errors import UsageError
from models.feature_spec import FeatureSpec, resampler
from models.features import FrontEnd, windows_of
from models.normalise import POWER_FLOOR, Normaliser
from models.stft import Stft

__all__ = ["allocations", "bench_frontend", "ndimage_features", "one_shot", "sound"]

F32 = npt.NDArray[np.float32]

BLOCK_S = 0.1
N_TILES = 20
N_TRACED_STEPS = 4


def bench_frontend(
    rates: tuple[int, ...], n_channels: tuple[int, ...], seconds_each: float, progress: Progress = no_progress
) -> dict[str, Any]:
    """Measure; the result is what ``--json`` writes.

    Returns
    -------
    dict
        ``rows``: per rate and number of channels the milliseconds per second of sound of each stage and its limit, and
        ``ratio``, the median over the rounds of the stage's time over its limit's. ``allocations``: see `allocations`.

    Raises
    ------
    SampleRateError
        If a rate cannot be used.
    UsageError
        If soxr is not installed.
    """
    spec = FeatureSpec()
    rows = []
    for i, (fs, n) in enumerate(cells := [(fs, n) for fs in rates for n in n_channels]):
        progress("front end", i, len(cells))
        rows.append(_cell(spec, fs, n, seconds_each))
    progress("front end", len(cells), len(cells))
    return {
        "rows": rows,
        "allocations": allocations(spec, rates[0], max(n_channels)),
        "block_s": BLOCK_S,
        "soxr": f"{importlib.metadata.version('soxr')}, quality HQ",
        "units": "milliseconds per second of sound, all channels; medians over rounds, ratios paired by round",
    }


def sound(spec: FeatureSpec, fs: int, n_channels: int, n_tiles: int = N_TILES) -> F32:
    """Noise ``(n_channels, n_samples)`` that fills ``n_tiles`` tiles of the front end and not one sample more."""
    n = resampler(spec, fs).n_in((n_tiles * spec.n_time_step - 1) * spec.hop + spec.n_fft)
    return (0.01 * np.random.default_rng(7).standard_normal((n_channels, n))).astype(np.float32)


def one_shot(spec: FeatureSpec, fs: int, x: F32) -> list[Callable[[], npt.NDArray[np.complex64]]]:
    """Ways to the limit: spectra of all frames ``(n_channels, n_frames, n_fft / 2 + 1)`` of ``x``."""
    try:
        import soxr
    except ModuleNotFoundError as e:
        raise UsageError("bench frontend measures against soxr: pip install soxr") from e
    n_frames = N_TILES * spec.n_time_step
    interleaved = np.ascontiguousarray(x.T)

    def spectra(y: F32) -> npt.NDArray[np.complex64]:
        frames = np.lib.stride_tricks.sliding_window_view(y, spec.n_fft, axis=1)[:, :: spec.hop][:, :n_frames]
        out: npt.NDArray[np.complex64] = scipy.fft.rfft(frames, axis=2)
        return out

    return [
        lambda: spectra(soxr.resample(interleaved, fs, spec.fs_model).T),
        lambda: spectra(np.stack([soxr.resample(row, fs, spec.fs_model) for row in x])),
    ]


def ndimage_features(spec: FeatureSpec, power: F32) -> F32:
    """Features ``(..., n_freq)`` of ``power``, the split window as running means of `scipy.ndimage`.

    Equal to `models.normalise.Normaliser` where the split window does not reach beyond an end.
    """
    outer, inner = 2 * spec.tpsw_half + 1, 2 * spec.tpsw_gap + 1

    def split_mean(p: F32) -> F32:
        wide = scipy.ndimage.uniform_filter1d(p, outer, axis=-1, mode="nearest")
        narrow = scipy.ndimage.uniform_filter1d(p, inner, axis=-1, mode="nearest")
        mean: F32 = (np.float32(outer) * wide - np.float32(inner) * narrow) / np.float32(outer - inner)
        return mean

    mean = split_mean(power)
    clip = np.float32(spec.tpsw_clip)
    background = split_mean(np.where(power > clip * mean, mean, power)) / (np.float32(1.0) - clip * np.exp(-clip))
    floor = np.float32(POWER_FLOOR)
    over = np.float32(10.0) * (np.log10(power + floor) - np.log10(np.maximum(background, 0.0) + floor))
    out: F32 = np.clip((over - spec.floor_db) / (spec.ceil_db - spec.floor_db), 0.0, 1.0).astype(np.float32)
    return out


def allocations(spec: FeatureSpec, fs: int, n_channels: int) -> dict[str, float]:
    """Bytes that Python and numpy ask for in steady state, by `tracemalloc`.

    Returns
    -------
    dict
        Most bytes held at once, beyond what was held before: ``block`` by a block that only fills buffers, ``spectra``
        by resampling and STFT of one that completes a tile, ``window`` by the whole front end for it; ``handed_on``: of
        the latter, the arrays of the window itself; ``kept_per_block``: growth from block to block, over whole steps.
    """
    idle, spectra, _ = _traced(Stft(spec, fs, n_channels), spec, fs)
    idle_too, window, kept = _traced(FrontEnd(spec, fs, n_channels), spec, fs)
    window_of_one = next(windows_of(spec, spec.fs_model, sound(spec, spec.fs_model, 1)))
    arrays = (window_of_one.features, window_of_one.spectrum_db, window_of_one.background_db, window_of_one.level_db)
    return {
        "n_channels": n_channels, "fs": fs, "block": max(idle, idle_too), "spectra": spectra, "window": window,
        "handed_on": n_channels * sum(a.nbytes for a in arrays), "kept_per_block": kept,
    }  # fmt: skip


def _traced(stage: Stft | FrontEnd, spec: FeatureSpec, fs: int) -> tuple[int, int, float]:
    """Most bytes for a block without and with a result, and growth per block."""
    n_step = round(spec.step_s / BLOCK_S)
    n_warm = round(spec.n_samples(fs) / fs / BLOCK_S) + n_step
    idle, busy, begun, n = 0, 0, 0, 0
    tracemalloc.start()
    try:
        for i, block in enumerate(_blocks(fs, stage.n_channels, n_warm + N_TRACED_STEPS * n_step)):
            if i == n_warm:
                begun, n = tracemalloc.get_traced_memory()[0], 0
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            n_done = sum(1 for _ in stage.process(block))
            peak = tracemalloc.get_traced_memory()[1] - before
            if i >= n_warm:
                idle, busy, n = (idle, max(busy, peak), n + 1) if n_done else (max(idle, peak), busy, n + 1)
        kept = tracemalloc.get_traced_memory()[0] - begun
    finally:
        tracemalloc.stop()
    return idle, busy, kept / n


def _blocks(fs: int, n_channels: int, n_blocks: int) -> Iterator[F32]:
    n = round(BLOCK_S * fs)
    x = (0.01 * np.random.default_rng(8).standard_normal((n_channels, 7 * n))).astype(np.float32)
    for i in range(n_blocks):
        yield x[:, i % 7 * n : (i % 7 + 1) * n]


def _cell(spec: FeatureSpec, fs: int, n_channels: int, seconds_each: float) -> dict[str, Any]:
    x = sound(spec, fs, n_channels)
    blocks = [x[:, a : a + round(BLOCK_S * fs)] for a in range(0, x.shape[1], round(BLOCK_S * fs))]
    stft, whole, normalise = Stft(spec, fs, n_channels), FrontEnd(spec, fs, n_channels), Normaliser(spec, n_channels)
    demon = DemonFrontEnd(DemonSpec(), fs, n_channels)
    tiles = [power.copy() for block in blocks for _, power in stft.process(block)]
    assert len(tiles) == N_TILES
    power = np.concatenate(tiles, axis=1)
    n_hiss = x.shape[1] // (2 * demon.hop) * 2 * demon.hop
    hiss = np.lib.stride_tricks.sliding_window_view(x[:, :n_hiss], 2 * demon.hop, axis=1)[:, :: demon.hop]

    def fed(stage: Stft | FrontEnd | DemonFrontEnd) -> Callable[[], object]:
        def call() -> None:
            stage.reset()
            for block in blocks:
                for _ in stage.process(block):
                    pass

        return call

    def normalised() -> None:
        for tile in tiles:
            normalise(tile)

    calls: list[Callable[[], object]] = [
        fed(stft), normalised, fed(whole), fed(demon),
        *one_shot(spec, fs, x), lambda: ndimage_features(spec, power), lambda: scipy.fft.rfft(hiss, axis=2),
    ]  # fmt: skip
    seconds = timed(calls, seconds_each)
    per_s = 1e3 / (x.shape[1] / fs)
    limits = {"resampling + STFT": seconds[:, 4:6].min(axis=1), "normalisation": seconds[:, 6], "DEMON": seconds[:, 7]}
    stages = {"resampling + STFT": seconds[:, 0], "normalisation": seconds[:, 1], "DEMON": seconds[:, 3]}
    return {
        "fs": fs,
        "n_channels": n_channels,
        "n_rounds": len(seconds),
        "whole_ms": per_s * float(np.median(seconds[:, 2])),
        "soxr_interleaved_ms": per_s * float(np.median(seconds[:, 4])),
        "soxr_by_channel_ms": per_s * float(np.median(seconds[:, 5])),
        "stages": {
            name: {
                "ms": per_s * float(np.median(t)),
                "limit_ms": per_s * float(np.median(limits[name])),
                "ratio": ratio(t, limits[name]),
            }
            for name, t in stages.items()
        },
    }
