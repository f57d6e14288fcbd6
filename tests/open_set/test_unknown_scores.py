"""Peers of the rejection: known answers, and strangers far off score higher."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from calibration.experiments.unknown_scores import gaussian, k_nearest, network_scores, relative, residual
from calibration.experiments.unknowns import KINDS, Judged, compare, matched_limits
from calibration.open_set import RIDGE
from calibration.samples import Sample

N_LABELS, D = 3, 6


def sample(y: npt.ArrayLike, embedding: npt.ArrayLike, seed: int = 0, groups: npt.ArrayLike | None = None) -> Sample:
    labels = np.asarray(y)
    e = np.asarray(embedding, np.float64)
    rng = np.random.default_rng(seed)
    logits = 5.0 * np.eye(N_LABELS)[np.maximum(labels, 0)] * (labels >= 0)[:, None] + rng.normal(0, 0.3, (len(e), 3))
    own = np.arange(len(e)) if groups is None else np.asarray(groups)
    return Sample(labels, own, logits, e, np.zeros((len(e), 8)))


def known(n: int = 300, seed: int = 1) -> Sample:
    rng = np.random.default_rng(seed)
    y = np.arange(n) % N_LABELS
    return sample(y, 6.0 * np.eye(N_LABELS, D)[y] + rng.normal(0.0, 1.0, (n, D)), seed)


def strange(n: int = 60, seed: int = 2) -> Sample:
    rng = np.random.default_rng(seed)
    return sample(np.full(n, -1), 8.0 * np.eye(D)[4] + rng.normal(0.0, 1.0, (n, D)), seed)


def test_every_peer_tells_far_strangers_from_known_windows() -> None:
    train, test, far = known(), known(seed=5), strange()
    representatives = np.stack([train.embedding[train.y == c][:5] for c in range(N_LABELS)]).reshape(-1, D)
    peers = network_scores(train, N_LABELS, representatives.astype(np.float32))
    assert len(peers) == 9
    for name, score in peers.items():
        a, b = score(test), score(far)
        assert np.isfinite(a).all(), name
        assert np.isfinite(b).all(), name
        assert np.median(b) > np.quantile(a, 0.9), name


@pytest.mark.parametrize("kind", ["shared", "full", "diagonal"])
def test_gaussians_of_whitened_data_are_euclidean(kind: str) -> None:
    train = known(60_000)
    s = sample([0, 1], [[6.0, 0, 0, 0, 0, 0], [9.0, 0, 0, 4.0, 0, 0]])
    near, far = gaussian(train, N_LABELS, kind)(s)
    # unit covariance plus the ridge; 60000 draws leave 1 %
    assert far - near == pytest.approx((3.0**2 + 4.0**2) / (1 + RIDGE), rel=0.03)


def test_gaussian_refuses_an_unknown_kind() -> None:
    with pytest.raises(ValueError, match="shared, full, diagonal"):
        gaussian(known(), N_LABELS, "round")


def test_relative_distance_ignores_what_no_class_tells_apart() -> None:
    train = known(60_000)
    shifted = sample([0, 0], [[6.0, 0, 0, 0, 0, 0], [6.0, 0, 0, 7.0, 0, 0]])
    plain, rel = gaussian(train, N_LABELS, "shared")(shifted), relative(train, N_LABELS)(shifted)
    assert plain[1] - plain[0] > 40.0
    assert abs(rel[1] - rel[0]) < 2.0  # the same direction has the same variance within and over the classes


def test_k_nearest_is_zero_on_what_was_seen_k_times() -> None:
    e = np.repeat(np.eye(N_LABELS, D), 5, axis=0)
    train = sample(np.repeat([0, 1, 2], 5), e)
    s = sample([0, -1], [[2.0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 3.0]])
    np.testing.assert_allclose(k_nearest(train, 5)(s), [0.0, np.sqrt(2.0)], atol=1e-7)
    assert k_nearest(train, 6)(s)[0] == pytest.approx(np.sqrt(2.0))


def test_residual_measures_what_leaves_the_principal_directions() -> None:
    rng = np.random.default_rng(0)
    flat = np.zeros((400, D))
    flat[:, :2] = rng.normal(0.0, 3.0, (400, 2))
    flat[:, 2] = rng.normal(0.0, 0.1, 400)
    train = sample(np.arange(400) % 3, flat)
    logits = np.zeros((2, 3))
    s = Sample(np.array([0, -1]), np.arange(2), logits, np.array([[2.0, 2, 0, 0, 0, 0], [2.0, 2, 0, 5, 0, 0]]),
               np.zeros((2, 8)))  # fmt: skip
    inside, outside = residual(train, 2)(s)
    assert outside - inside > 100.0  # 5 against a mean of 0.08, in units of logits near 5


def judged(seed: int = 0, n: int = 100) -> tuple[Judged, npt.NDArray[np.float64]]:
    """Windows of all kinds and a score that tells strangers in part; strangers and ambient are named ambient."""
    rng = np.random.default_rng(seed)
    kind = np.repeat(np.arange(len(KINDS)), n)
    y = np.array([0, 2, -1, -1])[kind]
    named = np.array([0, 2, 2, 2])[kind]
    logits = 5.0 * np.eye(3)[named]
    groups = np.arange(len(kind)) // 4
    s = Sample(y, groups, logits, np.zeros((len(kind), D)), np.zeros((len(kind), 8)))
    return Judged(s, kind), rng.normal(0.0, 1.0, len(kind)) + np.array([0.0, 0.0, 2.0, 3.0])[kind]


def test_matched_limits_reject_no_more_than_the_share_and_are_the_least_such() -> None:
    test, s = judged()
    named_ambient = test.sample.named == 2
    cut = matched_limits(s, named_ambient, test, share=0.05)
    for side, kind in enumerate(("known", "ambient")):
        own = test.of(kind)
        assert np.count_nonzero(s[own] > cut[side]) == 5
        assert np.count_nonzero(s[own] >= cut[side]) == 6


def test_comparison_holds_its_conformal_share_and_orders_the_strangers() -> None:
    test, _ = judged()
    held, _ = judged(seed=9)
    known_part = held.sample.take(held.of("known", "ambient"))

    def good(s: Sample) -> npt.NDArray[np.float64]:
        rng = np.random.default_rng(len(s))
        return rng.normal(0.0, 1.0, len(s)) + 4.0 * (s.y < 0)

    def blind(s: Sample) -> npt.NDArray[np.float64]:
        return np.random.default_rng(len(s)).normal(0.0, 1.0, len(s))

    out = compare({"good": good, "blind": blind}, known_part, test, ("a", "b", "ambient"), n_boot=20)
    assert out["good"]["known_ambient_vs_strangers"]["auroc"] > 0.98
    assert abs(out["blind"]["known_ambient_vs_strangers"]["auroc"] - 0.5) < 0.1
    assert out["good"]["conformal"]["known"] <= 8.0  # 2 % of 100 held windows: 4 errors of a binomial
    assert out["good"]["conformal"]["strangers"] > 60.0 > 20.0 > out["blind"]["conformal"]["strangers"]
