"""From features to verdicts: composes the static graphs and numpy steps.

1. The graph ``classify`` runs on all windows; line tracks are found in all spectra.
2. Network and line templates together say which classes sound (`models.hearing`). A class without a template is
   detected as the network's likeliest label, unless it is less probable than calibrated. A window without a detection
   is unknown if it is like nothing known (`models.rejection`; in a bundle without one, if its embedding lies farther
   from the nearest representative than calibrated), ambient otherwise.
3. For each detection the score map is made (`models.score_map`). Its part that comes from the network is either the
   *student*'s, one pass of a small network distilled from the slow explanation, or, in mode ``full``, the slow
   explanation itself: Score-CAM mixed with the class mask, and insertion and deletion of each track.

A bundle without templates, or windows given without spectra, are explained by the network alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from models.bundle import Bundle
from models.engines.base import Engine
from models.errors import BundleError
from models.hearing import Heard, LeastEvidence, hear
from models.line_evidence import line_evidence
from models.line_template import Fit, TemplateFitter
from models.manifest import AMBIENT, EXPLAINER
from models.regions import region_scores
from models.score_map import score_map
from models.tracks import TrackFinder, Tracks
from models.verdict import Detection, Verdict

__all__ = ["GRAPHS", "Detection", "Explainer", "Mode", "Verdict", "graphs_of", "nearest"]

F32 = npt.NDArray[np.float32]

#: The graphs every explainer runs.
GRAPHS = ("classify", "explain")
#: ``live``: the student where the bundle has one. ``full``: Score-CAM and region scores.
Mode = Literal["live", "full"]
STUDENT = "student"


def graphs_of(bundle: Bundle) -> tuple[str, ...]:
    """The graphs that an explainer of this bundle may run."""
    return (*GRAPHS, STUDENT) if STUDENT in bundle.graph_names("f32") else GRAPHS


@dataclass(frozen=True, slots=True, eq=False)
class _Ask:
    """One map to be made."""

    window: int
    """Index in the batch."""
    label: int
    fit: Fit | None


@dataclass(frozen=True, slots=True, eq=False)
class _Made:
    """The map made."""

    score: F32
    cam: F32 | None


class Explainer:
    """Verdicts of one bundle by one engine. Holds no state between calls.

    Parameters
    ----------
    mode
        Where the network's part of the score map comes from, see `Mode`.

    Raises
    ------
    BundleError
        If the bundle asks for another way of explaining.
    """

    def __init__(self, bundle: Bundle, engine: Engine, mode: Mode = "live") -> None:
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
        self._limits = t
        self._least = LeastEvidence.of(t.evidence)
        self._rejection = bundle.rejection
        self._finder = TrackFinder(bundle.spec)
        self._fitter = TemplateFitter(bundle.templates, bundle.spec)
        self._student = mode == "live" and STUDENT in engine.graphs

    @property
    def max_batch(self) -> int:
        """Windows the engine takes at once; more are cut into pieces."""
        return self._engine.max_batch

    def explain(
        self,
        features: F32 | Sequence[F32],
        spectra_db: F32 | Sequence[F32] | None = None,
        *,
        by_network: bool = True,
    ) -> list[Verdict]:
        """One verdict per window.

        Parameters
        ----------
        features
            ``(n, n_planes, n_freq, n_time)`` in 0..1, or a sequence of n windows; n may be 0.
        spectra_db
            ``(n, n_freq, n_time)`` their spectra, dB; without them no line is tracked and the network decides alone.
        by_network
            Whether the network explains what it found; if not, score maps come from tracks and templates alone, and
            that of a class without a template is empty.

        Raises
        ------
        ValueError
            If the shape is not that of the bundle's front end.
        EngineError
            If the engine fails.
        """
        x = self._stack(features)
        tracks = self._tracks(spectra_db, len(x))
        verdicts: list[Verdict] = []
        for i in range(0, len(x), self.max_batch):
            part = slice(i, i + self.max_batch)
            verdicts += self._explain_batch(x[part], tracks[part], by_network=by_network)
        return verdicts

    def explain_all(
        self, features: F32 | Sequence[F32], cls: npt.ArrayLike, spectra_db: F32 | Sequence[F32] | None = None
    ) -> tuple[F32, F32]:
        """``cam`` and score map, each ``(n, n_freq, n_time)``, of every window for the given class, whatever it holds.

        Where the student stands in for Score-CAM, ``cam`` is the student's map.

        Parameters
        ----------
        features, spectra_db
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
        tracks = self._tracks(spectra_db, len(x))
        cam = np.empty((len(x), *self._spec.shape[1:]), np.float32)
        score = np.empty_like(cam)
        for i in range(0, len(x), self.max_batch):
            n = min(self.max_batch, len(x) - i)
            trunk = None if self._student else self._engine.run("classify", {"features": x[i : i + n]})["trunk"]
            asks = [_Ask(j, int(wanted[i + j]), self._fit(int(wanted[i + j]), tracks[i + j])) for j in range(n)]
            explained = self._explained(x[i : i + n], trunk, asks)
            for j, ask in enumerate(asks):
                made = self._score(x[i : i + n], ask, tracks[i + j], explained, j)
                cam[i + j], score[i + j] = explained[0][j], made
        return cam, score

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

    def _tracks(self, spectra_db: F32 | Sequence[F32] | None, n: int) -> list[Tracks | None]:
        if spectra_db is None:
            return [None] * n
        if len(spectra_db) != n:
            raise ValueError(f"{len(spectra_db)} spectra of {n} windows")
        return list(self._finder.find_all(list(spectra_db)))

    def _fit(self, label: int, tracks: Tracks | None) -> Fit | None:
        name = self._labels[label]
        return None if tracks is None or name not in self._fitter.labels else self._fitter.fit(name, tracks)

    def _explain_batch(self, x: F32, tracks: Sequence[Tracks | None], *, by_network: bool) -> list[Verdict]:
        out = self._engine.run("classify", {"features": x})
        probs = np.array(out["probs"], np.float32)  # a copy: views of the engine live until its next call
        index, distance = nearest(np.asarray(out["embedding"], np.float32), self._known)
        probs.setflags(write=False)
        heard = [None if t is None else self._hear(t, p) for t, p in zip(tracks, probs, strict=True)]
        strange = self._strange(x, out["logits"], out["embedding"])
        found = [self._detected(probs[i], float(distance[i]), heard[i], strange[i]) for i in range(len(x))]
        asks = [
            _Ask(i, label, None if fit is None else self._fitter.with_expected(self._labels[label], fit))
            for i, (sounding, _) in enumerate(found)
            for label, _, fit in sounding
        ]
        if by_network:
            explained = self._explained(x, None if self._student else out["trunk"], asks)
        else:
            nothing = np.zeros((len(asks), *self._spec.shape[1:]), np.float32)
            explained = nothing, nothing
        made = [
            _Made(
                _read_only(self._score(x, a, tracks[a.window], explained, j, by_network=by_network)),
                self._cam(explained, j) if by_network else None,
            )
            for j, a in enumerate(asks)
        ]
        maps = iter(made)
        return [
            self._verdict(probs[i], self._names[index[i]], float(distance[i]), tracks[i], heard[i], *found[i], maps)
            for i in range(len(x))
        ]  # fmt: skip

    def _hear(self, tracks: Tracks, probs: F32) -> Heard:
        return hear(
            tracks, self._fitter, probs, self._labels, self._ambient, self._least, self._limits.min_probability
        )  # fmt: skip

    def _strange(self, x: F32, logits: F32, embedding: F32) -> list[bool | None]:
        """Whether each window is like nothing known; None where the bundle cannot tell."""
        if self._rejection is None:
            return [None] * len(x)
        unknown = self._rejection.unknown(logits, embedding, line_evidence(x, self._spec))
        return [bool(u) for u in unknown]

    def _detected(
        self, probs: F32, distance: float, heard: Heard | None, rejected: bool | None
    ) -> tuple[list[tuple[int, float, Fit | None]], bool]:
        """Labels that sound with their probabilities, and whether the window is unknown."""
        sounding: list[tuple[int, float, Fit | None]] = []
        templates: tuple[str, ...] = ()
        if heard is not None:
            templates = self._fitter.labels
            sounding += [(self._labels.index(label), p, fit) for label, p, fit in heard.sounding]
        likeliest = int(probs.argmax())
        if self._labels[likeliest] in templates or (likeliest == self._ambient and templates):
            # the templates have spoken for it or against it
            if rejected and heard is not None and heard.sounding:
                sure = heard.sounding[0][2].evidence >= self._least.sure
                sounding = sounding if sure else []
            if rejected is None:
                rejected = heard is not None and heard.unexplained >= self._least.unexplained
            rejected |= heard is not None and heard.stranger
            return sounding, not sounding and rejected
        if rejected is None:
            rejected = not distance <= self._max_distance[likeliest]  # a distance that is not a number is unknown, too
        unknown = rejected
        if likeliest != self._ambient:
            unknown |= not probs[likeliest] >= self._min_probability[likeliest]
            if not unknown:
                sounding.append((likeliest, float(probs[likeliest]), None))
        return sounding, unknown and not sounding

    def _explained(self, x: F32, trunk: F32 | None, asks: Sequence[_Ask]) -> tuple[F32, F32]:
        """``(cam, explanation)`` ``(n_asks, n_freq, n_time)``: Score-CAM and its mix, or twice the student's map."""
        shape = (len(asks), *self._spec.shape[1:])
        cam, mix = np.empty(shape, np.float32), np.empty(shape, np.float32)
        for i in range(0, len(asks), self.max_batch):
            part = asks[i : i + self.max_batch]
            rows = [a.window for a in part]
            cls = np.array([a.label for a in part], np.int32)
            if trunk is None:
                out = self._engine.run(STUDENT, {"features": x[rows], "cls": cls})
                cam[i : i + len(part)] = mix[i : i + len(part)] = out["map"]
            else:
                out = self._engine.run("explain", {"trunk": trunk[rows], "features": x[rows], "cls": cls})
                cam[i : i + len(part)], mix[i : i + len(part)] = out["cam"], out["mix"]
        return cam, mix

    def _score(
        self, x: F32, ask: _Ask, tracks: Tracks | None, explained: tuple[F32, F32], j: int, *, by_network: bool = True
    ) -> F32:
        mix: F32 = explained[1][j]
        if ask.fit is None or tracks is None:
            return mix
        regions = None
        if by_network and not self._student:
            regions = region_scores(self._engine, x[ask.window], tracks, ask.label, self._spec.fill)
        return score_map(tracks, ask.fit, mix, self._spec.row_lo, regions)

    def _cam(self, explained: tuple[F32, F32], j: int) -> F32 | None:
        return None if self._student else _read_only(explained[0][j])

    def _verdict(
        self,
        probs: F32,
        name: str,
        distance: float,
        tracks: Tracks | None,
        heard: Heard | None,
        sounding: Sequence[tuple[int, float, Fit | None]],
        unknown: bool,
        maps: Iterator[_Made],
    ) -> Verdict:
        detections = []
        for label, probability, fit in sounding:
            made = next(maps)
            evidence = None if fit is None else fit.evidence
            detections.append(Detection(self._labels[label], probability, made.score, made.cam, evidence))
        return Verdict(
            tuple(detections), not detections and not unknown, unknown, probs, name, distance, tracks,
            {} if heard is None else heard.own, 0.0 if heard is None else heard.unexplained,
        )  # fmt: skip

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
