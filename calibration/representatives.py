r"""Representatives: the few windows of a class that stand for it.

Embeddings of one class (second dense layer) -> k-means++ for each k of a range -> elbow of the inertia -> for each
centroid the member nearest to it. The class mask is the mean of their Score-CAMs, weighted by cluster size.

**Elbow** (own form of kneedle; Satopaa et al., "Finding a 'kneedle' in a haystack", 2011). With ``x = (k - k_min) /
(k_max - k_min)`` and ``y = (I - I_min) / (I_max - I_min)`` of a falling convex curve ``I(k)``, the chord from (0, 1) to
(1, 0) lies ``1 - x - y`` above the curve; the elbow is the ``k`` of the largest distance.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Clusters", "cluster", "cluster_counts", "elbow"]

#: Most clusters tried.
MAX_CLUSTERS = 40
#: Fewest members per cluster on average.
MEMBERS_PER_CLUSTER = 5


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Result of `cluster` for one class."""

    members: npt.NDArray[np.int64]
    """``(n,)`` index of the member nearest to each centroid; no index twice."""
    sizes: npt.NDArray[np.int64]
    """``(n,)`` windows in each cluster: the weights of the class mask."""
    n_tried: tuple[int, ...]
    """Numbers of clusters tried."""
    inertia: tuple[float, ...]
    """Sum of squared distances to the nearest centroid, for each number tried."""

    @property
    def n(self) -> int:
        """The elbow: number of clusters taken."""
        return int(self.members.size)


def cluster_counts(n_windows: int) -> range:
    """Range of k tried for ``n_windows`` embeddings: 2 up to ``n / 5``, at most 40; just 1 for a handful."""
    last = min(MAX_CLUSTERS, n_windows // MEMBERS_PER_CLUSTER)
    return range(2, last + 1) if last > 1 else range(1, 2)


def elbow(n_tried: Sequence[int], inertia: Sequence[float]) -> int:
    """Elbow of a falling curve, by the distance to its chord (formula in the module text).

    Raises
    ------
    ValueError
        If the two differ in length, are empty, or ``n_tried`` does not rise.
    """
    x = np.asarray(n_tried, np.float64)
    y = np.asarray(inertia, np.float64)
    if x.size != y.size or not x.size:
        raise ValueError(f"{x.size} numbers of clusters, but {y.size} inertias")
    if np.any(np.diff(x) <= 0):
        raise ValueError(f"numbers of clusters do not rise: {list(n_tried)}")
    if x.size < 3 or y.max() == y.min():
        return int(n_tried[-1]) if x.size < 3 else int(n_tried[0])
    distance = 1 - (x - x[0]) / (x[-1] - x[0]) - (y - y.min()) / (y.max() - y.min())
    return int(n_tried[int(np.argmax(distance))])


def cluster(embeddings: npt.NDArray[np.float32], *, n_init: int = 3, seed: int = 0) -> Clusters:
    """Cluster the embeddings of one class and choose a member for each centroid.

    Parameters
    ----------
    embeddings
        ``(n, n_dims)``. Clustered as they are: the same Euclidean distance later decides what is unknown.
    n_init
        Starts of k-means++ per k, the best is kept. One start leaves bumps in the inertia that move the elbow; above
        three the elbow no longer moved on simulated classes.
    seed
        ``random_state`` of each k-means run.

    Raises
    ------
    ValueError
        If there are no embeddings, or some are not finite.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    if embeddings.ndim != 2 or not len(embeddings):
        raise ValueError(f"embeddings of shape {embeddings.shape}: expected (n, n_dims) with n > 0")
    if not np.isfinite(embeddings).all():
        raise ValueError("embeddings hold values that are not finite: the network diverged in training")
    data = np.asarray(embeddings, np.float64)
    n_distinct = len(np.unique(data, axis=0))
    counts = [k for k in cluster_counts(len(data)) if k <= n_distinct] or [1]
    with warnings.catch_warnings():
        # fewer distinct points than clusters within rounding: the surplus centroids are dropped below
        warnings.simplefilter("ignore", ConvergenceWarning)
        runs = [KMeans(k, init="k-means++", n_init=n_init, max_iter=300, random_state=seed).fit(data) for k in counts]
    inertia = [float(r.inertia_) for r in runs]
    best = runs[counts.index(elbow(counts, inertia))]
    members, sizes = [], []
    for c, centroid in enumerate(best.cluster_centers_):
        own = np.flatnonzero(best.labels_ == c)
        if own.size:  # members of different clusters differ, so no index comes twice
            members.append(own[np.argmin(((data[own] - centroid) ** 2).sum(axis=1))])
            sizes.append(own.size)
    assert sum(sizes) == len(data)
    return Clusters(np.array(members, np.int64), np.array(sizes, np.int64), tuple(counts), tuple(inertia))
