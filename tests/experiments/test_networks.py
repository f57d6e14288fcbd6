"""Networks side by side: the pooled one has fewer rows, masks come from as many representatives as asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calibration.dataset import AMBIENT, WindowSet, collect, simulated_clips
from calibration.experiments import networks
from calibration.scenarios import scenario_named
from models.feature_spec import FeatureSpec
from models.spec_cnn import SpecCnn, SpecCnnConfig

SPEC = FeatureSpec()
SEA = scenario_named("standard")


@pytest.fixture(scope="module")
def windows() -> WindowSet:
    clips = simulated_clips(SEA, "train", 2, 17.0, first=39_100_000, fs=2000)
    return collect(clips, SPEC, (*SEA.labels, AMBIENT), every=4)


def test_pooled_network_has_fewer_rows_and_fits_score_cam(windows: WindowSet) -> None:
    config = SpecCnnConfig(n_labels=5)
    x = torch.from_numpy(windows.features[:2])
    kept, pooled = SpecCnn(config).eval(), networks.PooledSpecCnn(config).eval()
    assert kept.trunk(x).shape[2:] == (256, 16)
    assert pooled.trunk(x).shape[2:] == (64, 16)
    assert pooled(x).shape == kept(x).shape
    maps = networks.Taught(pooled, SPEC).cams(windows.features[:2], np.array([0, 1]))
    assert maps.shape == (2, 256, 64)
    assert (maps.min(), maps.max()) == (0.0, 1.0)


@pytest.mark.parametrize("kind", networks.KINDS)
def test_masks_of_representatives_cover_classes_and_not_the_sea(windows: WindowSet, kind: str) -> None:
    taught = networks.teach(SpecCnn, windows, 0, n_steps=3)
    masks = networks.class_masks_of(taught, windows, 2, kind)
    assert masks.shape == (5, 256, 64)
    assert not masks[windows.labels.index(AMBIENT)].any()
    assert all(masks[c].max() == 1.0 for c in range(4))
    assert np.array_equal(masks, networks.class_masks_of(taught, windows, 2, kind))


def test_teaching_is_the_same_for_the_same_seed(windows: WindowSet) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        a, b = (networks.teach(networks.PooledSpecCnn, windows, 3, n_steps=2) for _ in range(2))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(p, q) for p, q in zip(a.network.parameters(), b.network.parameters(), strict=True))
