"""Peers on a steady tone in white noise: all but the stated exceptions must rank its cells above the noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from calibration.experiments.scene import Method, Scene
from calibration.metrics import WindowTruth, score_metrics
from calibration.peers.filters import Bilateral, MedianFilter, bilateral
from calibration.peers.hpss import Hpss
from calibration.peers.line_enhancer import LineEnhancer, enhanced
from calibration.peers.noise_reduce import NoiseReduce
from calibration.peers.normalisers import MedianSubtraction, OrderTruncateAverage, Tpsw, truncated_mean
from calibration.peers.pcen import Pcen
from calibration.peers.rpca import RobustPca, low_rank
from calibration.peers.viterbi import HALF, ViterbiTracks, best_paths
from calibration.peers.wavelets import WaveletShrinkage
from calibration.peers.whistles import WhistleDenoiser

NOBODY = np.zeros(3, np.int64)

# A tone of 10 dB fills 3 rows of 64 columns, the outer two by the skirt of the Hann window (-6 dB): what averages over
# columns ranks nearly all of them above the noise, what looks at single cells about nine in ten.
PEERS: list[tuple[Callable[[np.ndarray], Method], float]] = [
    (lambda clip: Tpsw(), 0.85),
    (lambda clip: Tpsw(9), 0.95),
    (lambda clip: OrderTruncateAverage(), 0.85),
    (lambda clip: MedianSubtraction(), 0.85),
    (lambda clip: Hpss(), 0.95),
    (lambda clip: Hpss("level"), 0.9),
    (lambda clip: ViterbiTracks(Tpsw(9)), 0.95),
    (lambda clip: NoiseReduce(stationary=True, clip=clip, n_std=0.5), 0.8),
    (lambda clip: NoiseReduce(stationary=True, clip=clip, n_std=1.5), 0.8),
    (lambda clip: Pcen("frequency"), 0.8),
    (lambda clip: WaveletShrinkage(), 0.9),
    (lambda clip: RobustPca(), 0.9),
    (lambda clip: MedianFilter(), 0.95),
    (lambda clip: Bilateral(), 0.95),
    (lambda clip: WhistleDenoiser(), 0.9),
    (lambda clip: LineEnhancer(n_taps=256, n_runs=1), 0.9),
]


def auc(method: Method, scene: Scene, truth: WindowTruth) -> float:
    maps = method.maps(scene, NOBODY)
    assert maps.shape == (len(scene), *scene.spec.shape[1:])
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()
    return float(np.mean([score_metrics(m, truth)["tone_auc"] for m in maps]))


@pytest.mark.parametrize(("make", "least"), PEERS, ids=lambda v: v if isinstance(v, float) else v(None).name)
def test_a_steady_tone_ranks_above_noise(
    make: Callable[[np.ndarray], Method], least: float, tone: Scene, truth: WindowTruth, clip: np.ndarray
) -> None:
    assert auc(make(clip), tone, truth) > least


@pytest.mark.parametrize("stationary", [True, False])
def test_noisereduce_without_a_clip_takes_the_tone_for_noise(
    stationary: bool, tone: Scene, truth: WindowTruth, clip: np.ndarray
) -> None:
    alone = auc(NoiseReduce(stationary=stationary), tone, truth)
    helped = auc(NoiseReduce(stationary=True, clip=clip), tone, truth)
    assert alone < 0.75 < helped


def test_gain_along_time_turns_a_steady_tone_down(tone: Scene, truth: WindowTruth) -> None:
    assert auc(Pcen("time"), tone, truth) < 0.75 < auc(Pcen("frequency"), tone, truth)


@pytest.mark.parametrize("method", [Hpss(), RobustPca(), WhistleDenoiser(), LineEnhancer(n_taps=64, n_runs=1)])
def test_maps_do_not_depend_on_the_other_windows_or_the_class(method: Method, tone: Scene) -> None:
    together = method.maps(tone, NOBODY)
    alone = method.maps(tone.take([2]), np.ones(1, np.int64))
    # sums in another order: the last digits may differ
    np.testing.assert_allclose(alone[0], together[2], rtol=1e-3, atol=1e-3)


def test_truncated_mean_leaves_lines_out() -> None:
    power = np.ones((100, 4))
    power[50] = 1000.0
    np.testing.assert_allclose(truncated_mean(power, 12, 2.0), 1.0)


def test_low_rank_part_is_found_under_sparse_spikes() -> None:
    rng = np.random.default_rng(0)
    low = np.outer(rng.normal(size=60), rng.normal(size=40))
    spikes = np.where(rng.random(low.shape) < 0.05, 10.0 * rng.choice([-1.0, 1.0], low.shape), 0.0)
    # exact recovery is proven for low rank and few spikes (Candes et al., theorem 1.1)
    np.testing.assert_allclose(low_rank(low + spikes), low, atol=1e-3 * np.abs(low).max())
    assert not low_rank(np.zeros((5, 3))).any()


def test_bilateral_keeps_a_step_that_a_mean_would_smear() -> None:
    step = np.zeros((20, 40), np.float32)
    step[10:] = 30.0
    kept = bilateral(step, 2.0, 4.0, 3.0)
    # a neighbour 10 widths away in level counts exp(-50)
    np.testing.assert_allclose(kept, step, rtol=1e-6, atol=1e-6)
    noise = np.random.default_rng(0).normal(size=(50, 50)).astype(np.float32)
    assert bilateral(noise, 2.0, 2.0, 100.0).std() < 0.3 * noise.std()


def test_best_path_follows_a_drifting_line() -> None:
    level = np.zeros((60, 64), np.float32)
    drift = 30 + np.round(np.linspace(-2, 2, 64)).astype(int)
    level[drift, np.arange(64)] = 10.0
    paths, evidence = best_paths(level)
    np.testing.assert_array_equal(paths[30], drift)
    # four steps of one row at 0.6 dB each, over 64 columns
    assert evidence[30] == pytest.approx(10.0 - 4 * 0.6 / 64, abs=1e-5)
    assert np.abs(paths - np.arange(60)[:, None]).max() <= HALF


def test_line_enhancer_predicts_a_tone_but_not_noise() -> None:
    rng = np.random.default_rng(0)
    t = np.arange(8000) / 2000
    x = np.stack([np.sin(2 * np.pi * 100.0 * t), rng.normal(size=t.size)])
    y = enhanced(x, 64, 100, 0.05, 1)
    late = slice(6000, None)
    assert np.corrcoef(x[0, late], y[0, late])[0, 1] > 0.99
    # 2000 samples of unrelated noise correlate by 1 / sqrt(2000) = 0.022 or so
    assert abs(np.corrcoef(x[1, late], y[1, late])[0, 1]) < 0.1
