"""The maps of this project as methods: signature (live and in full), vessel, the student alone, templates alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.experiments.scene import Scene
from calibration.experiments.trial import Namer
from models.bundle import Bundle
from models.engines.base import Engine
from models.explainer import Explainer
from models.hearing import LeastEvidence, hear
from models.line_template import TemplateFitter, Templates
from models.manifest import AMBIENT
from models.score_map import score_map, vessel_map
from models.tracks import TrackFinder

__all__ = ["SignatureMap", "StudentMap", "TemplateMap", "VesselMap", "heard_namer", "template_namer", "vessel_of"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]

BATCH = 8


def heard_namer(explainer: Explainer) -> Namer:
    """Label of the first detection, window by window; ambient where nothing is published under a label."""

    def name(scene: Scene) -> I64:
        labels = scene.windows.labels
        heard = explainer.explain(scene.features, scene.spectrum_db)
        named = [labels.index(v.detections[0].label) if v.detections else labels.index(AMBIENT) for v in heard]
        return np.array(named, np.int64)

    return name


@dataclass(frozen=True, slots=True)
class SignatureMap:
    """The score map that the daemon thresholds in mode ``signature``."""

    name: str
    explainer: Explainer

    def maps(self, scene: Scene, cls: I64) -> F32:
        """Maps in 0..1."""
        return self.explainer.explain_all(scene.features, cls.astype(np.int32), scene.spectrum_db)[1]


@dataclass(frozen=True, slots=True)
class StudentMap:
    """What the student says on its own, in one forward pass, without tracks and templates."""

    name: str
    engine: Engine

    def maps(self, scene: Scene, cls: I64) -> F32:
        """Maps in 0..1."""
        out = np.empty((len(scene), *scene.spec.shape[1:]), np.float32)
        for i in range(0, len(scene), BATCH):
            part = slice(i, min(i + BATCH, len(scene)))
            tensors = {"features": np.ascontiguousarray(scene.features[part]), "cls": cls[part].astype(np.int32)}
            out[part] = self.engine.run("student", tensors)["map"]
        return out


class VesselMap:
    """The map of all coherent tracks of a vessel, as in mode ``vessel``; no network, no class asked for.

    Parameters
    ----------
    templates, least
        Of the bundle, or learned for the scenario at hand.
    """

    def __init__(self, name: str, templates: Templates, labels: tuple[str, ...], least: LeastEvidence) -> None:
        self.name, self._templates, self._labels, self._least = name, templates, labels, least

    def maps(self, scene: Scene, cls: I64) -> F32:  # noqa: ARG002  (it has no class)
        """Maps in 0..1."""
        spec = scene.spec
        finder, fitter = TrackFinder(spec), TemplateFitter(self._templates, spec)
        even = np.full(len(self._labels), 1.0 / len(self._labels))
        ambient = self._labels.index(AMBIENT)
        out = []
        for spectrum in scene.spectrum_db:
            tracks = finder.find(spectrum)
            heard = hear(tracks, fitter, even, self._labels, ambient, self._least, {})
            out.append(vessel_map(tracks, heard.own, spec.n_time, spec.row_lo))
        return np.stack(out)


def vessel_of(name: str, bundle: Bundle) -> VesselMap:
    """The vessel map of a bundle's templates."""
    return VesselMap(name, bundle.templates, bundle.labels, LeastEvidence.of(bundle.thresholds.evidence))


class TemplateMap:
    """The signature map of tracks and templates alone: no network at all."""

    def __init__(self, name: str, templates: Templates) -> None:
        self.name, self._templates = name, templates

    def maps(self, scene: Scene, cls: I64) -> F32:
        """Maps in 0..1; zero for a class without a template."""
        spec = scene.spec
        finder, fitter = TrackFinder(spec), TemplateFitter(self._templates, spec)
        nothing = np.zeros(spec.shape[1:], np.float32)
        out = []
        for spectrum, c in zip(scene.spectrum_db, cls, strict=True):
            label = scene.windows.labels[c]
            tracks = finder.find(spectrum)
            fit = fitter.fit(label, tracks) if label in fitter.labels else None
            out.append(score_map(tracks, fit, nothing, spec.row_lo))
        return np.stack(out)


def template_namer(templates: Templates, least: LeastEvidence) -> Namer:
    """Label of the class that templates alone find likeliest; ambient where none has enough evidence."""

    def name(scene: Scene) -> I64:
        labels = scene.windows.labels
        finder, fitter = TrackFinder(scene.spec), TemplateFitter(templates, scene.spec)
        even = np.full(len(labels), 1.0 / len(labels))
        ambient = labels.index(AMBIENT)
        named = []
        for spectrum in scene.spectrum_db:
            heard = hear(finder.find(spectrum), fitter, even, labels, ambient, least, {})
            named.append(labels.index(heard.sounding[0][0]) if heard.sounding else ambient)
        return np.array(named, np.int64)

    return name
