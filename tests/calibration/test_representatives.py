"""Elbow on known curves; representatives of clusters that are known."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.representatives import cluster, cluster_counts, elbow


@pytest.mark.parametrize("knee", [4, 9, 20])
def test_elbow_of_two_straight_lines_is_where_they_meet(knee: int) -> None:
    k = list(range(2, 41))
    inertia = [100.0 - 90.0 * (i - 2) / (knee - 2) if i <= knee else 10.0 - 0.1 * (i - knee) for i in k]
    assert elbow(k, inertia) == knee


def test_elbow_of_a_hyperbola_is_the_geometric_mean_of_its_ends() -> None:
    # y = 1/x on [a, b] is farthest from its chord where its slope is that of the chord: at sqrt(a b)
    k = list(range(1, 37))
    assert elbow(k, [1.0 / i for i in k]) == 6


def test_elbow_refuses_curves_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="2 numbers of clusters, but 1"):
        elbow([1, 2], [1.0])
    with pytest.raises(ValueError, match="do not rise"):
        elbow([2, 2, 3], [3.0, 2.0, 1.0])


@pytest.mark.parametrize(("n", "last"), [(3, 1), (12, 2), (100, 20), (1000, 40)])
def test_cluster_counts_stop_at_a_fifth_of_the_windows(n: int, last: int) -> None:
    assert cluster_counts(n)[-1] == last


def blobs(sizes: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(5)
    centres = 50.0 * rng.standard_normal((len(sizes), 16))
    return np.concatenate([c + rng.standard_normal((n, 16)) for c, n in zip(centres, sizes, strict=True)]).astype("f4")


def test_cluster_finds_separate_blobs_their_sizes_and_central_members() -> None:
    sizes = (40, 25, 60, 15, 30)
    data = blobs(sizes)
    found = cluster(data)
    assert found.n == 5
    assert sorted(found.sizes) == sorted(sizes)
    owner = np.repeat(np.arange(5), sizes)
    assert len(set(owner[found.members])) == 5
    for member in found.members:
        own = data[owner == owner[member]]
        distance = np.linalg.norm(own - own.mean(axis=0), axis=1)
        assert np.linalg.norm(data[member] - own.mean(axis=0)) == pytest.approx(distance.min(), rel=1e-4)


def test_cluster_is_the_same_each_time() -> None:
    data = blobs((20, 20, 20))
    a, b = cluster(data), cluster(data)
    assert a.members.tolist() == b.members.tolist()
    assert a.inertia == b.inertia


def test_cluster_of_equal_embeddings_gives_one_member() -> None:
    found = cluster(np.ones((30, 4), np.float32))
    assert found.n == 1
    assert found.sizes.tolist() == [30]


def test_cluster_refuses_values_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match="not finite"):
        cluster(np.full((10, 4), np.nan, np.float32))
