"""From features to verdicts: composes the static graphs and numpy steps the manifest names.

``classify_explain``: the graph ``classify`` runs on all windows. A window is *unknown* if its embedding lies farther
from the nearest representative of any class than the calibrated distance of its likeliest label, or if that label is a
class but less probable than calibrated; *ambient* if that label is ambient; otherwise it holds one detection. The
costly graph ``explain`` runs on the windows with a detection only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.bundle import Bundle
from models.engines.base import Engine
from models.errors import BundleError
from models.manifest import AMBIENT, EXPLAINER

__all__ = ["GRAPHS", "Detection", "Explainer", "Verdict", "nearest"]

F32 = npt.NDArray[np.float32]

#: The graphs an explainer runs.
GRAPHS = ("classify", "explain")


@dataclass(frozen=True, slots=True)
class Detection:
    """One label above its threshold in one window."""

    label: str
    probability: float


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What the network says of one window."""

    detections: tuple[Detection, ...]
    """0..n classes; empty when ambient or unknown."""
    is_ambient: bool
    unknown: bool
    """Rejected: unlike anything the network was trained on."""
    probabilities: F32
    """``(n_labels,)`` in the order of the bundle's labels."""
    cam: F32 | None
    """``(n_freq, n_time)``, 0..1; None where no class was explained."""
    mix: F32 | None
    """``(n_freq, n_time)``, the score map that is thresholded: image CAM and class mask."""
    nearest: str
    """Representative whose embedding is nearest, e.g. ``vessel_0/12``."""
    distance: float
    """Euclidean distance to it, in the embedding."""


class Explainer:
    """Verdicts of one bundle by one engine. Holds no state between calls.

    Raises
    ------
    BundleError
        If the bundle asks for another way of explaining.
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        if bundle.explainer != EXPLAINER:
            raise BundleError(f"explainer '{bundle.explainer}' is unknown, this tonald knows '{EXPLAINER}'")
        self._engine, self._spec = engine, bundle.spec
        self._labels = bundle.labels
        self._ambient = bundle.labels.index(AMBIENT)
        self._names, self._known = bundle.representatives.names, bundle.representatives.embeddings
        t = bundle.thresholds
        # where the calibration states none for ambient, an ambient window is never unknown
        self._max_distance = np.array([t.unknown_distance.get(label, np.inf) for label in self._labels])
        self._min_probability = np.array([t.min_probability.get(label, 0.0) for label in self._labels])

    @property
    def max_batch(self) -> int:
        """Windows the engine takes at once; more are cut into pieces."""
        return self._engine.max_batch

    def explain(self, features: F32 | Sequence[F32]) -> list[Verdict]:
        """One verdict per window.

        Parameters
        ----------
        features
            ``(n, n_planes, n_freq, n_time)`` in 0..1, or a sequence of n windows; n may be 0.

        Raises
        ------
        ValueError
            If the shape is not that of the bundle's front end.
        EngineError
            If the engine fails.
        """
        x = self._stack(features)
        return [v for i in range(0, len(x), self.max_batch) for v in self._explain_batch(x[i : i + self.max_batch])]

    def explain_all(self, features: F32 | Sequence[F32], cls: npt.ArrayLike) -> tuple[F32, F32]:
        """``cam`` and ``mix``, each ``(n, n_freq, n_time)``, of every window for the given class, whatever it holds.

        Parameters
        ----------
        features
            As for `explain`.
        cls
            Index of a label, one for all windows or ``(n,)``.

        Raises
        ------
        ValueError
            If the shape does not fit the front end, or an index lies outside the labels.
        EngineError
            If the engine fails.
        """
        x = self._stack(features)
        wanted = np.broadcast_to(np.asarray(cls, np.int32), (len(x),))
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < len(self._labels):
            raise ValueError(f"cls={wanted.min()}..{wanted.max()} is not in 0..{len(self._labels) - 1}")
        cam = np.empty((len(x), *self._spec.shape[1:]), np.float32)
        mix = np.empty_like(cam)
        for i in range(0, len(x), self.max_batch):
            part = slice(i, i + self.max_batch)
            trunk = self._engine.run("classify", {"features": x[part]})["trunk"]
            maps = self._engine.run("explain", {"trunk": trunk, "features": x[part], "cls": wanted[part]})
            cam[part], mix[part] = maps["cam"], maps["mix"]
        return cam, mix

    def classify(self, features: F32 | Sequence[F32]) -> tuple[F32, F32]:
        """Probabilities ``(n, n_labels)`` and embeddings ``(n, n_embedding)`` of every window."""
        x = self._stack(features)
        probs = np.empty((len(x), len(self._labels)), np.float32)
        embeddings = np.empty((len(x), self._known.shape[1]), np.float32)
        for i in range(0, len(x), self.max_batch):
            part = slice(i, i + self.max_batch)
            out = self._engine.run("classify", {"features": x[part]})
            probs[part], embeddings[part] = out["probs"], out["embedding"]
        return probs, embeddings

    def _explain_batch(self, x: F32) -> list[Verdict]:
        out = self._engine.run("classify", {"features": x})
        probs = np.array(out["probs"], np.float32)  # a copy: views of the engine live until its next call
        index, distance = nearest(np.asarray(out["embedding"], np.float32), self._known)
        likeliest = probs.argmax(axis=1)
        unknown = ~(distance <= self._max_distance[likeliest])  # a distance that is not a number is unknown, too
        ambient = (likeliest == self._ambient) & ~unknown
        unknown |= ~ambient & ~(probs[np.arange(len(x)), likeliest] >= self._min_probability[likeliest])
        detected = np.flatnonzero(~ambient & ~unknown)
        maps: dict[int, tuple[F32, F32]] = {}
        if detected.size:
            inputs = {
                "trunk": out["trunk"][detected], "features": x[detected], "cls": likeliest[detected].astype(np.int32)
            }  # fmt: skip
            explained = self._engine.run("explain", inputs)
            cam, mix = (_read_only(explained[name]) for name in ("cam", "mix"))
            maps = {int(i): (cam[j], mix[j]) for j, i in enumerate(detected)}
        probs.setflags(write=False)
        verdicts = []
        for i in range(len(x)):
            c = int(likeliest[i])
            found = (Detection(self._labels[c], float(probs[i, c])),) if i in maps else ()
            own_cam, own_mix = maps.get(i, (None, None))
            verdicts.append(
                Verdict(
                    found,
                    bool(ambient[i]),
                    bool(unknown[i]),
                    probs[i],
                    own_cam,
                    own_mix,
                    self._names[index[i]],
                    float(distance[i]),
                )
            )
        return verdicts

    def _stack(self, features: F32 | Sequence[F32]) -> F32:
        if not len(features):
            return np.empty((0, *self._spec.shape), np.float32)
        x = np.ascontiguousarray(features, np.float32)
        if x.shape[1:] != self._spec.shape:
            raise ValueError(f"windows of shape {x.shape[1:]}, the bundle's front end gives {self._spec.shape}")
        return x


def nearest(embeddings: F32, known: F32) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Index of and Euclidean distance to the nearest of ``known`` ``(n_known, n_embedding)``, each ``(n,)``.

    Differences are squared and added in float64, row by row: the result for a window does not depend on the batch, and
    small distances between long vectors keep their digits (``|a|^2 - 2ab + |b|^2`` would lose them).
    """
    index = np.empty(len(embeddings), np.int64)
    distance = np.empty(len(embeddings), np.float64)
    wide = known.astype(np.float64)
    for i, e in enumerate(embeddings):
        squares = ((wide - e) ** 2).sum(axis=1)
        index[i] = squares.argmin()
        distance[i] = np.sqrt(squares[index[i]])
    return index, distance


def _read_only(a: npt.NDArray[np.generic]) -> F32:
    out = np.array(a, np.float32)
    out.setflags(write=False)
    return out
