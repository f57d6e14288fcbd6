"""The paper's network beside ours, representatives by number and kind, and how long its auto-encoder trains.

**Networks.** The same layers, trained alike on the same windows; one pools two by two, as the paper's Spec-CNN does,
the other along time alone. Judged by how many windows they name rightly, and by the paper's map (image CAM and class
mask averaged).

**Representatives.** Class masks of ours, made from more and more training windows of a class: those nearest to the
centroids of k-means++, each counting as much as its cluster is large or all alike, and windows drawn at random.

**Auto-encoder.** The class masks of decoded centroids after 40 epochs, as in ``table1``, and after the paper's 200.

Needs torch and scikit-learn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn import functional

from calibration.dataset import AMBIENT, Progress, WindowSet, collect, no_progress, simulated_clips
from calibration.experiments.judge import LEVELS
from calibration.experiments.peers import Entry, run_rows
from calibration.experiments.scene import Scene
from calibration.experiments.trial import Trial
from calibration.masks import minmax
from calibration.representatives import Clusters, cluster
from calibration.scenarios import Scenario
from models.features import FeatureSpec
from models.score_cam import score_cam
from models.spec_cnn import SpecCnn, SpecCnnConfig

__all__ = ["KINDS", "NUMBERS", "PooledSpecCnn", "Taught", "class_masks_of", "run", "teach"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

#: Training recordings of each label in the space ``train``, their length in s, first of them, slots between windows.
N_RECORDINGS, SECONDS, FIRST, EVERY = 24, 40.0, 31_000_000, 8
N_STEPS, BATCH, RATE, DECAY = 300, 32, 3e-3, 1e-3
SEEDS = (0,)
NUMBERS, KINDS, N_DRAWS = (1, 2, 4, 8, 16), ("weighted", "nearest", "random"), 2
#: Training windows of each class whose maps representatives are taken from.
N_POOL = 64


class PooledSpecCnn(SpecCnn):
    """The same layers with pooling two by two: rows are lost as columns are (the paper's form)."""

    def __init__(self, config: SpecCnnConfig) -> None:
        super().__init__(config)
        layers = [nn.MaxPool2d(2) if isinstance(layer, nn.MaxPool2d) else layer for layer in self.features]
        self.features = nn.Sequential(*layers)
        self.pool = nn.MaxPool2d(2)
        n_rows = config.n_freq // 2 ** len(config.channels)
        self.hidden = nn.Linear(config.n_reduced * n_rows, config.n_hidden)


@dataclass(eq=False)
class Taught:
    """A trained network, its maps of scenes kept."""

    network: SpecCnn
    spec: FeatureSpec
    _known: dict[tuple[int, bytes], tuple[Scene, F32]] = field(default_factory=dict)

    def __call__(self, scene: Scene, cls: I64) -> F32:
        """Score-CAM ``(n, n_freq, n_time)`` of a scene for the labels ``cls``, by all maps."""
        key = id(scene), cls.tobytes()
        if key not in self._known:
            self._known[key] = scene, self.cams(scene.features, cls)
        return self._known[key][1]

    def cams(self, features: F32, cls: I64) -> F32:
        """The same of windows."""
        parts = zip(torch.split(torch.from_numpy(features), 4), torch.split(torch.from_numpy(cls), 4), strict=True)
        out: F32 = torch.cat([score_cam(self.network, x, c, fill=self.spec.fill) for x, c in parts]).numpy()
        return out

    @torch.no_grad()
    def told(self, features: F32) -> tuple[I64, F32]:
        """Label ``(n,)`` and embedding ``(n, d)`` of windows."""
        both = [self.network.head(self.network.trunk(x)) for x in torch.split(torch.from_numpy(features), 32)]
        return torch.cat([z for z, _ in both]).argmax(1).numpy(), torch.cat([e for _, e in both]).numpy()


@dataclass(frozen=True, eq=False)
class _Overlay:
    """The paper's map: image CAM and class mask, averaged."""

    name: str
    taught: Taught
    masks: F32

    def maps(self, scene: Scene, cls: I64) -> F32:
        out: F32 = (0.5 * (self.taught(scene, cls) + self.masks[cls])).astype(np.float32)
        return out


def teach(network: type[SpecCnn], windows: WindowSet, seed: int, n_steps: int = N_STEPS) -> Taught:
    """Train for a fixed number of steps; the same seed gives the same weights on one thread."""
    spec = windows.spec
    config = SpecCnnConfig(n_labels=len(windows.labels), n_planes=spec.n_planes, n_freq=spec.n_freq, n_time=spec.n_time)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        net = network(config).train()
        optimiser = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=n_steps)
        x, y = torch.from_numpy(windows.features), torch.from_numpy(windows.y)
        order = torch.zeros(0, dtype=torch.int64)
        for _ in range(n_steps):
            if len(order) < BATCH:
                order = torch.cat([order, torch.randperm(len(x), generator=generator)])
            index, order = order[:BATCH], order[BATCH:]
            part: Tensor = x[index].roll(int(torch.randint(spec.n_time, (1,), generator=generator)), 3)
            loss = functional.cross_entropy(net(part), y[index], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
    return Taught(net.eval(), spec)


def class_masks_of(
    taught: Taught, windows: WindowSet, number: int | None, kind: str = "weighted", seed: int = 0
) -> F32:
    """Class masks ``(n_labels, n_freq, n_time)`` from ``number`` representatives of each class; None: the elbow."""
    masks = np.zeros((len(windows.labels), *windows.spec.shape[1:]), np.float32)
    rng = np.random.default_rng(seed)
    for c, label in enumerate(windows.labels):
        if label == AMBIENT:
            continue
        own = windows.of_label(label).features[:N_POOL]
        members, weight = _chosen(taught.told(own)[1], number, kind, rng)
        maps = taught.cams(own[members], np.full(len(members), c, np.int64))
        mean = np.average(maps, axis=0, weights=weight)
        masks[c] = minmax(np.broadcast_to(mean.mean(axis=1, keepdims=True), mean.shape))
    return masks


def _chosen(embedding: F32, number: int | None, kind: str, rng: np.random.Generator) -> tuple[I64, npt.NDArray[Any]]:
    """Representatives and their weights."""
    if number is None:
        found = cluster(embedding)
        return found.members, found.sizes
    number = min(number, len(embedding))
    if kind == "random":
        return rng.choice(len(embedding), number, replace=False), np.ones(number)
    k = KMeans(number, init="k-means++", n_init=3, max_iter=300, random_state=0).fit(embedding.astype(np.float64))
    members, sizes = [], []
    for i, centroid in enumerate(k.cluster_centers_):
        own = np.flatnonzero(k.labels_ == i)
        if own.size:
            members.append(int(own[np.argmin(((embedding[own] - centroid) ** 2).sum(axis=1))]))
            sizes.append(own.size)
    return np.array(members), np.array(sizes if kind == "weighted" else np.ones(len(members)))


def run(trial: Trial, scenario: Scenario, spec: FeatureSpec, *, progress: Progress = no_progress) -> dict[str, Any]:
    """All three parts; the map is ready for JSON. ``elbows``: of each class, numbers tried, inertia, number taken."""
    labels = trial.labels
    clips = simulated_clips(scenario, "train", N_RECORDINGS, SECONDS, first=FIRST, fs=spec.fs_model)
    windows = collect(clips, spec, labels, every=EVERY, what="training windows", progress=progress)
    networks: dict[str, Any] = {}
    ours: Taught | None = None
    for name, kind in (("frequency kept", SpecCnn), ("pooled, the paper's", PooledSpecCnn)):
        rows = []
        for seed in SEEDS:
            progress(f"network '{name}'", seed, len(SEEDS))
            taught = teach(kind, windows, seed)
            ours = ours or taught
            entry = Entry(name, _made(name, taught, class_masks_of(taught, windows, None)), gated=True)
            row = run_rows([entry], trial, levels=LEVELS, failures=(), progress=progress)[name]
            right = float(np.mean(taught.told(trial.test.features)[0] == trial.test.windows.y))
            rows.append(row | {"seed": seed, "accuracy": 100.0 * right})
        networks[name] = {"name": name, "seeds": rows}
    assert ours is not None
    entries = [
        Entry(f"{kind} {n}" + (f", draw {d}" if kind == "random" else ""),
              _made(f"{n} {kind}", ours, class_masks_of(ours, windows, n, kind, d)), gated=True)
        for kind in KINDS for n in NUMBERS for d in range(N_DRAWS if kind == "random" else 1)
    ]  # fmt: skip
    representatives = run_rows(entries, trial, levels=LEVELS, failures=(), progress=progress)
    return {
        "networks": networks,
        "representatives": {k: _short(r) for k, r in representatives.items()},
        "elbows": {label: _elbow(c) for label, c in _clusters(ours, windows).items()},
    }


def _made(name: str, taught: Taught, masks: F32) -> Any:  # noqa: ANN401  (a maker of methods)
    return lambda: _Overlay(name, taught, masks)


def _short(row: dict[str, Any]) -> dict[str, Any]:
    keys: Sequence[str] = ("tone_auc", "ot_at_rn_86", "ot_at_rn_95")
    free = row["threshold_free"]
    return {k: free[k] for name in keys for k in (name, f"{name}_se") if k in free}


def _clusters(taught: Taught, windows: WindowSet) -> dict[str, Clusters]:
    return {
        label: cluster(taught.told(windows.of_label(label).features)[1]) for label in windows.labels if label != AMBIENT
    }


def _elbow(c: Clusters) -> dict[str, Any]:
    return {"n_tried": list(c.n_tried), "inertia": list(c.inertia), "n": c.n}
