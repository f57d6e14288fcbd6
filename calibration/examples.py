"""The windows behind the names: what "looks like vessel_0/12" means, kept in the bundle so that it can be looked at.

A signature names the representative its embedding is nearest to; `representatives.npz` holds that one's embedding but
not the window. Here the windows are stored as one small file, ``report/examples.npz``: features in steps of half a dB
(at the default range) as ``uint8``, with the recording and the sample they came from. It lies under ``report/``, so the
manifest vouches for its bytes while a daemon that only listens never unpacks it::

    examples = Examples.of(windows.take(members), names)   # ashore, while the bundle is made
    examples.write(report_folder)
    read_examples(Bundle.load(folder))["vessel_0/12"].features
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibration.dataset import WindowSet
from models.bundle import Bundle
from models.bundle_files import pack_npz, read_bounded, read_npz
from models.errors import BundleError, UsageError
from models.feature_spec import FeatureSpec
from models.line_evidence import EVEN_EVIDENCE, line_evidence

__all__ = ["EXAMPLES", "Example", "Examples", "read_examples"]

F32 = npt.NDArray[np.float32]

#: Where the windows lie in a bundle.
EXAMPLES = "report/examples.npz"
#: Steps from 0 to 1 of the features; 30 of them are half a dB each over the default 15 dB.
N_STEPS = 30
#: Bytes kept of a name, as in `models.bundle`, and of the recording it came from.
NAME_BYTES, CLIP_BYTES = 64, 160


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One representative window."""

    name: str
    features: F32
    """``(n_planes, n_freq, n_time)`` in 0..1, rounded to `N_STEPS` steps."""
    clip: str
    """Recording it was cut from."""
    first_sample: int
    """Source samples from the start of the recording."""
    lines_hz: tuple[float, ...]
    """Its steady lines, strongest first."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """All representative windows of a bundle."""

    spec: FeatureSpec
    names: tuple[str, ...]
    steps: npt.NDArray[np.uint8]
    """``(n, n_planes, n_freq, n_time)``, features times `N_STEPS`."""
    clips: tuple[str, ...]
    first_sample: npt.NDArray[np.int64]
    """``(n,)``"""

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> Example:
        """The window of that name.

        Raises
        ------
        UsageError
            If there is none.
        """
        if name not in self.names:
            raise UsageError(f"no example '{name}': one of {', '.join(self.names[:8])}, ... ({len(self)} in all)")
        i = self.names.index(name)
        features = (self.steps[i] / np.float32(N_STEPS)).astype(np.float32)
        evidence = line_evidence(features[None], self.spec)[0]
        rows = [int(r) for r in np.argsort(-evidence, kind="stable") if evidence[r] >= EVEN_EVIDENCE]
        lines = tuple(float(self.spec.frequencies_hz[r]) for r in rows)
        return Example(name, features, self.clips[i], int(self.first_sample[i]), lines)

    @classmethod
    def of(cls, windows: WindowSet, names: tuple[str, ...]) -> Examples:
        """The windows of a set, in the order of ``names``.

        Raises
        ------
        ValueError
            If the numbers differ, a name comes twice, is empty or too long, or features are not finite.
        """
        if len(names) != len(windows) or len(set(names)) != len(names):
            raise ValueError(f"{len(set(names))} different names of {len(names)} for {len(windows)} windows")
        if bad := [n for n in names if not 0 < len(n.encode()) <= NAME_BYTES]:
            raise ValueError(f"name {bad[0]!r} of {len(bad[0].encode())} bytes: 1 to {NAME_BYTES} are allowed")
        if not np.isfinite(windows.features).all():
            raise ValueError("features hold values that are not finite")
        steps = np.round(np.clip(windows.features, 0.0, 1.0) * N_STEPS).astype(np.uint8)
        clips = tuple(_shortened(windows.clips[i].name) for i in windows.clip)
        return cls(windows.spec, tuple(names), steps, clips, windows.first_sample.astype(np.int64))

    def write(self, report_dir: Path) -> Path:
        """Write into the folder that becomes the bundle's ``report/``; the path written."""
        path = report_dir / Path(EXAMPLES).name
        arrays = {
            "steps": self.steps,
            "names": np.array([n.encode() for n in self.names], f"S{NAME_BYTES}"),
            "clips": np.array([c.encode() for c in self.clips], f"S{CLIP_BYTES}"),
            "first_sample": self.first_sample,
        }
        path.write_bytes(pack_npz(arrays))
        return path


def _shortened(clip: str) -> str:
    """The end of a clip's name, which tells most, within `CLIP_BYTES`."""
    return clip.encode()[-CLIP_BYTES:].decode(errors="ignore")


def read_examples(bundle: Bundle) -> Examples:
    """The representative windows of a bundle, checked against its manifest once more.

    Raises
    ------
    BundleError
        If the bundle was made without them, or the file was changed since the bundle was loaded.
    """
    info = bundle.manifest.files.get(EXAMPLES)
    if info is None:
        raise BundleError(f"bundle {bundle.path}: holds no {EXAMPLES}; calibrate it again to have its examples kept")
    try:
        data = read_bounded(bundle.path / EXAMPLES, info.size)
    except OSError as e:
        raise BundleError(f"bundle {bundle.path}: cannot read {EXAMPLES}: {e.strerror}") from e
    if hashlib.sha256(data).hexdigest() != info.sha256:
        raise BundleError(f"bundle {bundle.path}: {EXAMPLES} does not match its hash: fetch the bundle again")
    n = bundle.manifest.n_representatives
    want = {
        "steps": (np.uint8, (n, *bundle.spec.shape)),
        "names": (f"S{NAME_BYTES}", (n,)),
        "clips": (f"S{CLIP_BYTES}", (n,)),
        "first_sample": (np.int64, (n,)),
    }
    a = read_npz({EXAMPLES: data}, EXAMPLES, want)
    names = tuple(s.decode() for s in a["names"].tolist())
    if names != bundle.representatives.names:
        raise BundleError(f"bundle {bundle.path}: {EXAMPLES} names other windows than representatives.npz")
    if int(a["steps"].max(initial=0)) > N_STEPS:
        raise BundleError(f"bundle {bundle.path}: {EXAMPLES} holds features above 1")
    clips = tuple(s.decode() for s in a["clips"].tolist())
    return Examples(bundle.spec, names, a["steps"], clips, a["first_sample"])
