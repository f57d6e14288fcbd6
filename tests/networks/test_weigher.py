"""The weigher: graph and reference agree, true weights give Score-CAM, few passes are chosen where few suffice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calibration.fidelity import fidelity
from calibration.weighing import fit_weigher, made_up
from models.graphs import build_graphs
from models.score_cam import score_cam
from models.spec_cnn import SpecCnn, SpecCnnConfig
from models.weigher import Weigher, quick_score_cam

N_LABELS, FILL = 3, 0.2
SIZE = (40, 32)


@pytest.fixture(scope="module")
def network() -> SpecCnn:
    torch.manual_seed(0)
    config = SpecCnnConfig(
        n_labels=N_LABELS, n_freq=SIZE[0], n_time=SIZE[1], channels=(4, 8), n_hidden=12, n_embedding=10
    )
    net = SpecCnn(config)
    for m in net.modules():
        if isinstance(m, torch.nn.Linear):
            torch.nn.init.normal_(m.weight, 0.0, 0.4)
    return net.eval()


def windows(n: int, seed: int) -> np.ndarray:
    """Lines in noise: windows without any structure have no weights to tell."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.0, 0.5, (n, 1, *SIZE)).astype(np.float32)
    for w in x:
        w[0, rng.choice(SIZE[0], 4, replace=False)] += 0.4
    return x


def some_weigher(k: int, pool: int, seed: int = 1) -> Weigher:
    rng = np.random.default_rng(seed)
    shape = (Weigher.n_inputs(k, 8, N_LABELS), 8 * N_LABELS)
    return Weigher(
        tuple(range(k)), pool, (0.05 * rng.standard_normal(shape)).astype(np.float32),
        rng.uniform(-3.0, -0.5, shape[1]).astype(np.float32),
    )  # fmt: skip


@pytest.mark.parametrize(("k", "pool"), [(1, 1), (3, 2), (8, 4)])
def test_graphs_give_what_the_reference_gives(network: SpecCnn, k: int, pool: int) -> None:
    x, weigher = torch.from_numpy(windows(5, 2)), some_weigher(k, pool)
    graphs = build_graphs(network, torch.zeros(N_LABELS, *SIZE), k, FILL, weigher=weigher)
    with torch.no_grad():
        *_, cls, cam, mix = graphs["fused"](x)
        want = quick_score_cam(network, x, cls.long(), fill=FILL, weigher=weigher)
        alone = graphs["explain"](network.trunk(x), x, cls)[0]
    np.testing.assert_allclose(cam, want, atol=2e-6)
    np.testing.assert_allclose(alone, want, atol=2e-6)
    np.testing.assert_allclose(mix, want / 2, atol=2e-6)


def test_fitted_maps_are_truer_than_few_channels_alone(network: SpecCnn) -> None:
    learn, judge = windows(150, 3), windows(20, 4)
    cls = np.zeros(20, np.int64)
    found = fit_weigher(network, learn, judge, cls, row_lo=2, fill=FILL, k=3)
    x = torch.from_numpy(judge)
    full = score_cam(network, x, torch.from_numpy(cls), fill=FILL).numpy()
    quick = quick_score_cam(network, x, torch.from_numpy(cls), fill=FILL, weigher=found.weigher).numpy()
    few = score_cam(network, x, torch.from_numpy(cls), fill=FILL, channels=3).numpy()
    assert found.weigher.k == 3
    assert fidelity(full, quick) > fidelity(full, few)
    assert fidelity(full, full) == pytest.approx((1.0, 1.0))


def test_passes_are_tried_from_the_cheapest_until_the_maps_are_true(network: SpecCnn) -> None:
    found = fit_weigher(network, windows(150, 5), windows(20, 6), np.ones(20, np.int64), row_lo=2, fill=FILL)
    cost = [row["k"] * row["n_columns"] for row in found.curve]
    assert cost == sorted(cost)
    assert found.weigher.k <= 8
    assert len({row["n_columns"] for row in found.curve}) >= 1


def test_made_up_windows_are_new_and_keep_the_rows_not_in_use() -> None:
    x = windows(6, 7)
    out = made_up(x, 40, 3, FILL, 0)
    assert out.shape == (40, *x.shape[1:])
    assert out.dtype == np.float32
    assert (out[:, :, :3] == np.float32(FILL)).all()
    assert 0.0 <= out.min() <= out.max() <= 1.0
    assert not any(np.array_equal(a[:, 3:], b[:, 3:]) for a in out for b in x)
    assert np.array_equal(made_up(x, 40, 3, FILL, 0), out)
    assert not np.array_equal(made_up(x, 40, 3, FILL, 1), out)
    assert np.array_equal(x, windows(6, 7)), "the windows it is made of stay as they are"


def test_weighers_that_do_not_fit_are_refused(network: SpecCnn) -> None:
    good = some_weigher(2, 1)
    for bad in ({"channels": (0, 0)}, {"pool": 0}, {"offset": np.zeros(3, np.float32)}):
        with pytest.raises(ValueError, match=r"channels|pool"):
            Weigher(**({"channels": good.channels, "pool": 1, "matrix": good.matrix, "offset": good.offset} | bad))
    with pytest.raises(ValueError, match="not finite"):
        Weigher((0, 1), 1, np.full_like(good.matrix, np.nan), good.offset)
    with pytest.raises(ValueError, match="not one of this network"):
        build_graphs(network, torch.zeros(N_LABELS, *SIZE), 2, FILL, weigher=some_weigher(3, 1).__class__(
            (0,), 1, good.matrix, good.offset))  # fmt: skip
