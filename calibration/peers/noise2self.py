"""Noise2Self in time as a peer, trained on windows without looking at labels or truth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.dataset import Progress, no_progress, simulated_clips
from calibration.experiments.scene import Scene, scene_of
from calibration.scenarios import AMBIENT, Scenario
from models.feature_spec import FeatureSpec
from models.noise2self import Noise2Self, Noise2SelfConfig, first_lag

__all__ = ["SelfDenoised", "trained_on", "training_scene"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

#: Level over background that maps to 0 and to 1, dB.
FLOOR_DB, CEIL_DB = -5.0, 20.0
#: Training recordings of each label, their length in s, slots between windows kept.
N_RECORDINGS, SECONDS, EVERY = 12, 41.0, 4
#: First training recording in the space ``train``, behind those of networks.
TRAIN_FIRST = 30_000_000


@dataclass(frozen=True, slots=True, eq=False)
class SelfDenoised:
    """Level over background as a denoiser sees it, dB."""

    model: Noise2Self
    name: str = "Noise2Self in time"

    def maps(self, scene: Scene, cls: I64) -> F32:
        """Level over background, dB; 0 below the first row in use."""
        out: F32 = FLOOR_DB + (CEIL_DB - FLOOR_DB) * self.model.denoise(_scaled(scene))
        out[:, : scene.spec.row_lo] = 0.0
        return out


def _scaled(scene: Scene) -> F32:
    over = (scene.spectrum_db - scene.background_db - FLOOR_DB) / (CEIL_DB - FLOOR_DB)
    over[:, : scene.spec.row_lo] = -FLOOR_DB / (CEIL_DB - FLOOR_DB)
    out: F32 = np.clip(over, 0.0, 1.0)
    return out


def training_scene(
    scenario: Scenario, spec: FeatureSpec, *, n_recordings: int = N_RECORDINGS, progress: Progress = no_progress
) -> Scene:
    """Unlabelled windows of the space ``train``, of all classes and of the empty sea."""
    clips = simulated_clips(scenario, "train", n_recordings, SECONDS, first=TRAIN_FIRST, fs=spec.fs_model)
    return scene_of(clips, spec, (*scenario.labels, AMBIENT), every=EVERY, progress=progress)


def trained_on(
    scene: Scene, config: Noise2SelfConfig | None = None, *, progress: Progress = no_progress
) -> SelfDenoised:
    """Train a denoiser on all windows of a scene."""
    config = config or Noise2SelfConfig(lag_lo=first_lag(scene.spec))
    return SelfDenoised(Noise2Self.fit(_scaled(scene), config, progress=progress))
