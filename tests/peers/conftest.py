"""Windows that hold one steady tone in white noise, and what is known of them."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.dataset import Clip
from calibration.experiments.scene import Scene, scene_of
from calibration.metrics import WindowTruth
from calibration.truth import LineTrack, Truth
from models.features import FeatureSpec

SPEC = FeatureSpec()
FS, TONE_HZ, SNR_DB = 2000, 200.0, 10.0
N_CLIPS = 3


def recording(seed: int, snr_db: float | None) -> tuple[np.ndarray, Truth]:
    """9 s of white noise of unit variance, with a tone of that SNR in a Hann bin of 2 Hz (ENBW 3 Hz)."""
    rng = np.random.default_rng(seed)
    t = np.arange(9 * FS) / FS
    x = rng.normal(size=t.size)
    lines: tuple[LineTrack, ...] = ()
    if snr_db is not None:
        density = 2.0 / FS
        amplitude = np.sqrt(10 ** (snr_db / 10) * 2.0 * density * 3.0)
        x += amplitude * np.sin(2 * np.pi * TONE_HZ * t + rng.uniform(0, 6.28))
        ends = np.array([0.0, 9.0])
        lines = (LineTrack("ship", ends, np.full(2, TONE_HZ), np.full(2, snr_db)),)
    return (0.01 * x).astype(np.float32)[None], Truth(("ship",) if lines else (), lines)


def scene(snr_db: float | None, first_seed: int = 0) -> Scene:
    label = "ambient" if snr_db is None else "ship"
    clips = [
        Clip(f"{label}/{i}", label, f"{label}/{i}", FS, lambda i=i: recording(first_seed + i, snr_db))
        for i in range(N_CLIPS)
    ]
    return scene_of(clips, SPEC, ("ship", "ambient"))


@pytest.fixture(scope="session")
def tone() -> Scene:
    return scene(SNR_DB)


@pytest.fixture(scope="session")
def truth(tone: Scene) -> WindowTruth:
    known = tone.windows.truths[0]
    assert known is not None
    return WindowTruth.of(known, SPEC, FS, 0, "ship")


@pytest.fixture(scope="session")
def clip() -> np.ndarray:
    return np.concatenate([recording(100 + i, None)[0][0] for i in range(3)])
