"""A bundle as a method: its network names windows, its graphs explain them, its class masks are laid over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.experiments.scene import Scene
from calibration.experiments.trial import Namer
from models.bundle import Bundle
from models.explainer import Explainer

__all__ = ["OVERLAYS", "BundleMap", "Cams", "namer"]

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]


def _average(cam: F32, mask: F32) -> F32:
    out: F32 = (0.5 * (cam + mask)).astype(np.float32)
    return out


def _add(cam: F32, mask: F32) -> F32:
    out: F32 = np.minimum(cam + mask, np.float32(1.0))
    return out


def _max(cam: F32, mask: F32) -> F32:
    out: F32 = np.maximum(cam, mask)
    return out


OVERLAYS: dict[str, Callable[[F32, F32], F32]] = {"average": _average, "add": _add, "max": _max}
"""How image CAM and class mask, both in 0..1, become one map.

A sum that is stretched to 0..1 afterwards is the average. So ``add`` is what adding two pictures does: it saturates
at white.
"""


def namer(explainer: Explainer) -> Namer:
    """Label that the network of a bundle finds most probable, window by window."""

    def name(scene: Scene) -> I64:
        probs, _ = explainer.classify(scene.features)
        out: I64 = probs.argmax(axis=1)
        return out

    return name


class Cams:
    """Score-CAM of a bundle's network, computed once for each scene and labels asked for: overlays share it."""

    def __init__(self, bundle: Bundle, explainer: Explainer) -> None:
        self.class_masks = bundle.class_masks
        self._explainer = explainer
        self._known: dict[tuple[int, bytes], tuple[Scene, F32]] = {}

    def __call__(self, scene: Scene, cls: I64) -> F32:
        """Maps ``(n, n_freq, n_time)`` in 0..1 for the labels ``cls`` ``(n,)``."""
        key = id(scene), cls.tobytes()
        if key not in self._known:
            cam, _ = self._explainer.explain_all(scene.features, cls)
            self._known[key] = scene, cam  # the scene too: another one must not get its id
        return self._known[key][1]


@dataclass(frozen=True, slots=True)
class BundleMap:
    """Score-CAM for the class asked for, overlaid with the class mask: what the network alone can say."""

    name: str
    cams: Cams
    overlay: str = "average"
    """Of `OVERLAYS`."""

    def maps(self, scene: Scene, cls: I64) -> F32:
        """Maps in 0..1."""
        return OVERLAYS[self.overlay](self.cams(scene, cls), self.cams.class_masks[cls])
