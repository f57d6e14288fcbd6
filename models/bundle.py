"""A bundle: one folder with all that a vessel needs to recognise and explain, hash-checked before anything is parsed.

::

    manifest.json             what it holds; size and hash of every file (models.manifest)
    graphs/NAME.PRECISION.onnx
    class_masks.npz           masks float32 [n_labels, n_freq, n_time]
    rejection.npz             what is like nothing known (models.rejection); may be absent
    representatives.npz       embeddings float32 [n, n_embedding], label_index int32 [n], names UTF-8 S64 [n]
    golden.npz                inputs and reference outputs of each graph; arrays shared by several are stored once
    manifest.sig              signature (models.bundle_signature); may be absent, asked for only with a trusted key
    report/                   pages and pictures of the calibration, hashed like the rest

A bundle never changes: a new calibration is a new bundle. Nothing in it is pickled.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.bundle_files import Arrays, files_in, new_folder, pack_npz, read_bounded, read_npz, write_synced
from models.bundle_signature import MAX_SIGNATURE, SIGNATURE, verify
from models.errors import BundleError
from models.features import FeatureSpec
from models.line_template import NO_TEMPLATES, Templates
from models.manifest import (
    EXPLAINER,
    MANIFEST,
    FileInfo,
    GraphInfo,
    Manifest,
    TensorInfo,
    Thresholds,
    parse_manifest,
    render_manifest,
)  # fmt: skip
from models.rejection import Rejection

__all__ = ["Bundle", "Representatives", "Thresholds", "write_bundle"]

F32 = npt.NDArray[np.float32]

REJECTION = "rejection.npz"
#: No manifest is longer.
MAX_MANIFEST = 8 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Representatives:
    """The windows that stand for the classes."""

    names: tuple[str, ...]
    """One per representative, e.g. ``vessel_0/12``."""
    label_index: npt.NDArray[np.int32]
    """``(n,)``, index into the bundle's labels."""
    embeddings: F32
    """``(n, n_embedding)``."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Bundle:
    """A bundle in memory: everything was hash-checked, the folder is not read again."""

    path: Path
    id: str
    """First 16 hex digits of the SHA-256 of ``manifest.json``; with it every record names its bundle."""
    manifest: Manifest
    class_masks: F32
    """``(n_labels, n_freq, n_time)``, 0..1."""
    representatives: Representatives
    rejection: Rejection | None
    """What is like nothing known; None in a bundle calibrated without."""
    _graphs: Mapping[str, bytes]
    _golden: Arrays

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r}, id={self.id!r})"

    @property
    def labels(self) -> tuple[str, ...]:
        """Classes in the order of the network's outputs, ``ambient`` among them."""
        return self.manifest.labels

    @property
    def spec(self) -> FeatureSpec:
        """The front end the network was trained with."""
        return self.manifest.spec

    @property
    def k(self) -> int:
        """Channels of the trunk that Score-CAM weighs."""
        return self.manifest.k

    @property
    def explainer(self) -> str:
        """Which composition of graphs explains a window."""
        return self.manifest.explainer

    @property
    def templates(self) -> Templates:
        """Line templates of the classes."""
        return self.manifest.templates

    @property
    def thresholds(self) -> Thresholds:
        """What counts, per label."""
        return self.manifest.thresholds

    @property
    def tolerances(self) -> Mapping[tuple[str, str], Mapping[str, float]]:
        """``{(graph, precision): {output: largest absolute difference}}``."""
        return self.manifest.tolerances

    def graph_bytes(self, name: str, precision: str) -> bytes:
        """The ONNX file of one graph.

        Raises
        ------
        BundleError
            If the bundle holds no such graph.
        """
        return self._graphs[self.manifest.graph(name, precision).file]

    def graph_names(self, precision: str) -> tuple[str, ...]:
        """Graphs that exist in ``precision``."""
        return tuple(g.name for g in self.manifest.graphs if g.precision == precision)

    def golden(self, graph: str) -> tuple[dict[str, npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]:
        """Inputs and reference outputs of one graph, the batch on axis 0.

        Raises
        ------
        BundleError
            If there are none for the graph.
        """
        if graph not in self.manifest.golden:
            raise BundleError(f"bundle '{self.manifest.name}' holds no golden data for graph '{graph}'")
        inputs, outputs = self.manifest.golden[graph]
        return {n: self._golden[a] for n, a in inputs.items()}, {n: self._golden[a] for n, a in outputs.items()}

    @classmethod
    def shipped(cls) -> Path:
        """Folder of the bundle that comes with tonald, trained on the simulated ocean alone."""
        return Path(__file__).parent / "bundles" / "simulated"

    @classmethod
    def load(cls, path: Path | str, *, signed_by: bytes | None = None) -> Bundle:
        """Read a bundle, every file hash-checked before it is parsed; the signature before anything else, if asked for.

        Parameters
        ----------
        path : path
        signed_by : bytes, optional
            Public key (PEM) of who must have signed it.

        Raises
        ------
        BundleError
            If a file is missing, unlisted, changed, a link, or does not fit the manifest, or it is not signed by whom
            it should be; the message names it.
        """
        root = Path(path)
        try:
            return _load(root, signed_by)
        except BundleError as e:
            raise BundleError(f"bundle {root}: {e}") from e
        except OSError as e:
            raise BundleError(f"bundle {root}: cannot read {e.filename}: {e.strerror}") from e


def _load(root: Path, signed_by: bytes | None) -> Bundle:
    if not root.is_dir():
        raise BundleError("no such folder" if not root.exists() else "is no folder; a bundle is one")
    if not (root / MANIFEST).is_file():
        raise BundleError(f"holds no {MANIFEST}, so it is no bundle")
    present = files_in(root)
    raw = read_bounded(root / MANIFEST, MAX_MANIFEST)
    if signed_by is not None:
        signature = read_bounded(root / SIGNATURE, MAX_SIGNATURE) if SIGNATURE in present else None
        verify(raw, signature, signed_by, datetime.datetime.now(datetime.timezone.utc))
    manifest = parse_manifest(raw)
    if missing := sorted(set(manifest.files) - present):
        raise BundleError(f"{missing[0]} is missing: fetch or calibrate the bundle again")
    if extra := sorted(present - set(manifest.files) - {MANIFEST, SIGNATURE}):
        raise BundleError(f"{extra[0]} is not listed in {MANIFEST}: remove it")
    contents = {}
    for name, info in manifest.files.items():
        data = read_bounded(root / name, info.size)
        if len(data) != info.size or hashlib.sha256(data).hexdigest() != info.sha256:
            raise BundleError(f"{name} is damaged, it does not match its hash: fetch or calibrate the bundle again")
        if not name.startswith("report/"):
            contents[name] = data
    graphs = {g.file: contents[g.file] for g in manifest.graphs}
    spec = manifest.spec
    masks = read_npz(contents, "class_masks.npz", {"masks": (np.float32, (len(manifest.labels), *spec.shape[1:]))})
    return Bundle(
        root, hashlib.sha256(raw).hexdigest()[:16], manifest, masks["masks"], _representatives(contents, manifest),
        _rejection(contents, manifest),
        graphs, read_npz(contents, "golden.npz", _golden_shapes(manifest)),
    )  # fmt: skip


def _representatives(files: Mapping[str, bytes], m: Manifest) -> Representatives:
    n, name = m.n_representatives, "representatives.npz"
    a = read_npz(
        files, name,
        {"embeddings": (np.float32, (n, m.n_embedding)), "label_index": (np.int32, (n,)), "names": ("S64", (n,))},
    )  # fmt: skip
    if n < 1 or a["label_index"].min() < 0 or a["label_index"].max() >= len(m.labels):
        raise BundleError(f"{name}: label_index of {n} representatives lies outside the {len(m.labels)} labels")
    if not np.isfinite(a["embeddings"]).all():
        raise BundleError(f"{name}: embeddings hold values that are not finite")
    return Representatives(tuple(s.decode() for s in a["names"].tolist()), a["label_index"], a["embeddings"])


def _rejection(files: Mapping[str, bytes], m: Manifest) -> Rejection | None:
    if REJECTION not in files:
        return None
    shapes = Rejection.shapes(len(m.labels), m.spec.n_freq, m.n_embedding)
    return Rejection.from_arrays(m.labels, read_npz(files, REJECTION, {n: (np.float64, s) for n, s in shapes.items()}))


def _golden_shapes(m: Manifest) -> dict[str, tuple[Any, tuple[int, ...]]]:
    out: dict[str, tuple[Any, tuple[int, ...]]] = {}
    for g in m.graphs:
        inputs, outputs = m.golden[g.name]
        for t in (*g.inputs, *g.outputs):
            key = inputs[t.name] if t in g.inputs else outputs[t.name]
            shape = (t.dtype, (m.n_golden, *t.item_shape))
            if out.setdefault(key, shape) != shape:
                raise BundleError(f"{MANIFEST} golden: array '{key}' serves tensors of different shape")
    return out


def write_bundle(
    path: Path | str,
    *,
    labels: Sequence[str],
    spec: FeatureSpec,
    k: int,
    graphs: Mapping[tuple[str, str], bytes],
    class_masks: F32,
    representatives: Representatives,
    thresholds: Thresholds,
    golden: Mapping[str, tuple[Arrays, Arrays]],
    tolerances: Mapping[tuple[str, str], Mapping[str, float]],
    training: Mapping[str, Any],
    templates: Templates = NO_TEMPLATES,
    rejection: Rejection | None = None,
    report_dir: Path | None = None,
    fill: float | None = None,
    created: datetime.datetime | None = None,
    force: bool = False,
) -> Bundle:
    """Write a bundle and load it again; it appears at ``path`` as a whole, checked, or not at all.

    Parameters
    ----------
    graphs
        ``{(name, precision): ONNX file}``; ``classify`` and ``explain`` in ``f32`` at least.
    golden
        ``{name: (inputs, reference outputs)}`` of each graph, float32 or int32, the same windows on axis 0 throughout;
        types and shapes in the manifest are taken from here.
    tolerances
        ``{(name, precision): {output: largest absolute difference}}`` for each graph, and for ``bf16`` (the f32 graph
        computed in bfloat16) if that was measured.
    templates
        Line templates of the classes that have one.
    rejection
        What is like nothing known.
    report_dir
        Folder whose files become ``report/``.
    fill
        Value that ``explain`` puts where a map hides the window; the background of ``spec`` by default.
    created
        UTC; now by default.
    force
        Replace what stands at ``path``.

    Raises
    ------
    BundleError
        If ``path`` exists already, something does not fit together, or the disk refuses.
    """
    target = Path(path)
    packed, golden_keys = _share(golden)
    files = {f"graphs/{name}.{precision}.onnx": data for (name, precision), data in graphs.items()}
    files["class_masks.npz"] = pack_npz({"masks": np.asarray(class_masks, np.float32)})
    files["representatives.npz"] = pack_npz(
        {
            "embeddings": np.asarray(representatives.embeddings, np.float32),
            "label_index": np.asarray(representatives.label_index, np.int32),
            "names": _encode_names(representatives.names),
        }
    )
    files["golden.npz"] = pack_npz(packed)
    if rejection is not None:
        files[REJECTION] = pack_npz(rejection.to_arrays())
    try:
        if report_dir is not None:
            files |= {f"report/{name}": (report_dir / name).read_bytes() for name in sorted(files_in(report_dir))}
        manifest = Manifest(
            name=target.name,
            created=(created or datetime.datetime.now(datetime.timezone.utc)).isoformat(timespec="seconds"),
            labels=tuple(labels),
            spec=spec,
            k=k,
            fill=float(spec.fill if fill is None else fill),
            explainer=EXPLAINER,
            thresholds=thresholds,
            templates=templates,
            graphs=tuple(_graph_info(key, golden) for key in graphs),
            tolerances=tolerances,
            golden=golden_keys,
            n_golden=min((len(a) for a in packed.values()), default=0),
            n_embedding=int(representatives.embeddings.shape[1]),
            n_representatives=len(representatives.names),
            training=training,
            files={name: FileInfo(len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()},
        )
        with new_folder(target, force=force) as folder:
            for name, data in files.items():
                write_synced(folder / name, data)
            write_synced(folder / MANIFEST, render_manifest(manifest))
            Bundle.load(folder)
    except OSError as e:
        raise BundleError(f"bundle {target}: cannot write {e.filename}: {e.strerror}") from e
    return Bundle.load(target)


def _share(
    golden: Mapping[str, tuple[Arrays, Arrays]],
) -> tuple[dict[str, npt.NDArray[Any]], dict[str, tuple[dict[str, str], dict[str, str]]]]:
    """Store equal arrays once (the trunk leaves one graph and enters the next): arrays by key, keys by graph."""
    arrays: dict[str, npt.NDArray[Any]] = {}
    seen: dict[bytes, str] = {}

    def key_of(graph: str, name: str, a: npt.NDArray[Any]) -> str:
        content = hashlib.sha256(f"{a.dtype}{a.shape}".encode() + a.tobytes()).digest()
        key = seen.setdefault(content, f"{graph}.{name}")
        arrays[key] = a
        return key

    keys = {
        graph: ({n: key_of(graph, n, a) for n, a in i.items()}, {n: key_of(graph, n, a) for n, a in o.items()})
        for graph, (i, o) in golden.items()
    }
    return arrays, keys


def _graph_info(key: tuple[str, str], golden: Mapping[str, tuple[Arrays, Arrays]]) -> GraphInfo:
    name, precision = key
    if name not in golden:
        raise BundleError(f"graph '{name}' has no golden data")
    inputs, outputs = (
        tuple(TensorInfo(n, str(a.dtype), tuple(a.shape[1:])) for n, a in side.items()) for side in golden[name]
    )
    return GraphInfo(name, precision, f"graphs/{name}.{precision}.onnx", inputs, outputs)


def _encode_names(names: Sequence[str]) -> npt.NDArray[np.bytes_]:
    encoded = [n.encode() for n in names]
    if bad := [n for n in encoded if not 0 < len(n) <= 64]:
        raise BundleError(f"name of a representative of {len(bad[0])} bytes: 1 to 64 are allowed")
    return np.array(encoded, "S64")
