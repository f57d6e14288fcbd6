"""Which peers there are, in the order of the table, and what those that learn have learned from."""

from __future__ import annotations

import functools

from calibration.dataset import AMBIENT, Progress, no_progress, simulated_clips
from calibration.experiments.peers import Entry
from calibration.experiments.scene import Method
from calibration.peers.filters import Bilateral, MedianFilter
from calibration.peers.hpss import Hpss
from calibration.peers.line_enhancer import LineEnhancer
from calibration.peers.noise_reduce import F32, NoiseReduce
from calibration.peers.normalisers import MedianSubtraction, OrderTruncateAverage, Tpsw
from calibration.peers.pcen import Pcen
from calibration.peers.rpca import RobustPca
from calibration.peers.viterbi import ViterbiTracks
from calibration.peers.wavelets import WaveletShrinkage
from calibration.peers.whistles import WhistleDenoiser
from calibration.scenarios import Scenario
from models.feature_spec import FeatureSpec

__all__ = ["peer_entries", "source_free_clip", "tracks_entry"]

#: The source-free clip that noisereduce is given: recording of the space ``train``, and its length in s.
CLIP_INDEX, CLIP_SECONDS = 40_000_000, 60.0


def peer_entries(scenario: Scenario, spec: FeatureSpec, *, progress: Progress = no_progress) -> list[Entry]:
    """All peers; none is told truth or class, those that learn do so from windows of the space ``train``."""
    denoiser = _denoiser(scenario, spec, progress)
    clip = functools.cache(lambda: source_free_clip(scenario, spec))
    return [
        Entry("tpsw", Tpsw),
        Entry("tpsw_9", lambda: Tpsw(9)),
        Entry("ota", OrderTruncateAverage),
        Entry("median_subtraction", MedianSubtraction),
        Entry("hpss_mask", Hpss),
        Entry("hpss_level", lambda: Hpss("level")),
        Entry("noise2self", denoiser),
        Entry("viterbi_noise2self", lambda: ViterbiTracks(denoiser())),
        Entry("noisereduce_stationary", lambda: NoiseReduce(stationary=True)),
        Entry("noisereduce_non_stationary", lambda: NoiseReduce(stationary=False)),
        Entry("noisereduce_clip_15", lambda: NoiseReduce(stationary=True, clip=clip(), n_std=1.5)),
        Entry("noisereduce_clip_05", lambda: NoiseReduce(stationary=True, clip=clip(), n_std=0.5)),
        Entry("pcen_time", Pcen),
        Entry("pcen_frequency", lambda: Pcen("frequency")),
        Entry("wavelets", WaveletShrinkage),
        Entry("rpca", RobustPca),
        Entry("line_enhancer", LineEnhancer),
        Entry("median_filter", MedianFilter),
        Entry("bilateral", Bilateral),
        Entry("whistles", WhistleDenoiser),
    ]


def tracks_entry(key: str, scenario: Scenario, spec: FeatureSpec, *, progress: Progress = no_progress) -> Entry:
    """The class-blind line tracks alone."""
    denoiser = _denoiser(scenario, spec, progress)
    return Entry(key, lambda: ViterbiTracks(denoiser()))


def _denoiser(scenario: Scenario, spec: FeatureSpec, progress: Progress) -> functools._lru_cache_wrapper[Method]:
    """Trains when first called, once."""

    @functools.cache
    def make() -> Method:
        from calibration.peers.noise2self import trained_on, training_scene  # needs torch

        return trained_on(training_scene(scenario, spec, progress=progress), progress=progress)

    return make


def source_free_clip(scenario: Scenario, spec: FeatureSpec) -> F32:
    """Samples ``(n_samples,)`` of one source-free recording of the space ``train``, at ``fs_model``."""
    clips = simulated_clips(scenario, "train", 1, CLIP_SECONDS, first=CLIP_INDEX, fs=spec.fs_model)
    x, _ = next(c for c in clips if c.label == AMBIENT).load()
    out: F32 = x[0]
    return out
