"""The manifest of a bundle: what it holds, in one strict JSON file that vouches for every byte.

``manifest.json`` names size and SHA-256 of every other file. Its own digest stands in its first key, ``digest``, and is
taken over the text of the file with sixty-four zeros in the digest's place. So no byte of a bundle can change unseen.
It guards against damage and mix-ups and proves no author; `models.bundle_signature` does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from models.errors import BundleError
from models.features import FeatureSpec
from models.line_template import NO_TEMPLATES, Templates
from models.strict_json import StrictMap

__all__ = [
    "AMBIENT", "EXPLAINER", "MANIFEST", "SCHEMA_VERSION", "FileInfo", "GraphInfo", "Manifest", "TensorInfo",
    "Thresholds", "parse_manifest", "render_manifest",
]  # fmt: skip

MANIFEST = "manifest.json"
SCHEMA_VERSION = 2
#: Version 1 had no line templates; its bundles are explained by the network alone.
READABLE = (1, 2)
#: The label of windows that hold none of the classes.
AMBIENT = "ambient"
#: The one way of explaining so far: classify a batch, then explain what was detected.
EXPLAINER = "classify_explain"
#: TensorRT's parser takes no larger k in TopK.
MAX_K = 3840
PRECISIONS = ("f32", "f16", "bf16")
DTYPES = ("float32", "int32")
BATCH = "batch"
_BLANK = "0" * 64


@dataclass(frozen=True, slots=True)
class FileInfo:
    """Size and hash of one file."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One input or output of a graph; its axis 0 is the batch."""

    name: str
    dtype: str
    """``float32`` or ``int32``."""
    item_shape: tuple[int, ...]
    """Shape behind the batch axis."""


@dataclass(frozen=True, slots=True)
class GraphInfo:
    """One ONNX file of the bundle."""

    name: str
    """``classify``, ``explain`` or ``fused``."""
    precision: str
    """``f32``, or ``f16`` for a half-precision trunk; inputs and outputs are float32 and int32 in either."""
    file: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What counts, per label."""

    mix: Mapping[str, Mapping[str, float]]
    """``{label: {nominal: value}}`` on the score map 0..1; nominal is the share of source-free cells removed."""
    nominal: str
    """The nominal level in use, e.g. ``"0.95"``."""
    unknown_distance: Mapping[str, float]
    """Embedding distance beyond which a window whose likeliest label this is counts as unknown."""
    min_probability: Mapping[str, float]
    """Least probability for a detection of the label."""
    vessel: Mapping[str, float] = field(default_factory=dict)
    """``{nominal: value}`` on the vessel map; empty where none was calibrated."""
    evidence: Mapping[str, float] = field(default_factory=dict)
    """What is asked of the line tracks (`models.hearing.LeastEvidence`): ``second``, ``unexplained``."""

    def mix_of(self, label: str, nominal: str | None = None) -> float:
        """Threshold on the score map of ``label``.

        Raises
        ------
        BundleError
            If the bundle holds none for the label or level; the message names those it has.
        """
        level = self.nominal if nominal is None else nominal
        levels = self.mix.get(label)
        if levels is None:
            raise BundleError(f"no threshold for label '{label}': this bundle knows {', '.join(sorted(self.mix))}")
        if level not in levels:
            raise BundleError(f"no threshold for level {level}: this bundle was calibrated for {', '.join(levels)}")
        return levels[level]


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Everything the manifest says."""

    name: str
    created: str
    """UTC, ISO 8601."""
    labels: tuple[str, ...]
    """Classes in the order of the network's outputs; ``ambient`` is one of them."""
    spec: FeatureSpec
    k: int
    """Channels of the trunk that Score-CAM weighs."""
    fill: float
    """Feature value put where a map hides the window."""
    explainer: str
    thresholds: Thresholds
    templates: Templates
    """Line templates of the classes; a class may have none."""
    graphs: tuple[GraphInfo, ...]
    tolerances: Mapping[tuple[str, str], Mapping[str, float]]
    """``{(graph, precision): {output: largest absolute difference from the golden data}}``."""
    golden: Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]]
    """``{graph: ({input: array in golden.npz}, {output: array})}``."""
    n_golden: int
    """Windows in the golden data."""
    n_embedding: int
    n_representatives: int
    training: Mapping[str, Any]
    """Fingerprint of the training: whatever the trainer recorded."""
    files: Mapping[str, FileInfo]
    """Every file but the manifest, by its path within the bundle."""

    def graph(self, name: str, precision: str) -> GraphInfo:
        """Look up one graph.

        Raises
        ------
        BundleError
            If the bundle holds no such graph; the message names those it has.
        """
        for g in self.graphs:
            if (g.name, g.precision) == (name, precision):
                return g
        has = ", ".join(f"{g.name}.{g.precision}" for g in self.graphs)
        raise BundleError(f"bundle '{self.name}' holds no graph {name}.{precision}, only {has}")


def render_manifest(m: Manifest) -> bytes:
    """Text of ``manifest.json``, digest included."""
    content = {
        "digest": _BLANK,
        "schema_version": SCHEMA_VERSION,
        "name": m.name,
        "created": m.created,
        "labels": list(m.labels),
        "features": m.spec.to_dict(),
        "k": m.k,
        "fill": m.fill,
        "explainer": m.explainer,
        "thresholds": {
            "nominal": m.thresholds.nominal,
            "mix": {label: dict(levels) for label, levels in m.thresholds.mix.items()},
            "unknown_distance": dict(m.thresholds.unknown_distance),
            "min_probability": dict(m.thresholds.min_probability),
            "vessel": dict(m.thresholds.vessel),
            "evidence": dict(m.thresholds.evidence),
        },
        "templates": m.templates.to_dict(),
        "graphs": [
            {
                "name": g.name,
                "precision": g.precision,
                "file": g.file,
                "inputs": [_render_tensor(t) for t in g.inputs],
                "outputs": [_render_tensor(t) for t in g.outputs],
            }
            for g in m.graphs
        ],
        "tolerances": {f"{name}.{precision}": dict(by) for (name, precision), by in m.tolerances.items()},
        "golden": {name: {"inputs": dict(i), "outputs": dict(o)} for name, (i, o) in m.golden.items()},
        "n_golden": m.n_golden,
        "n_embedding": m.n_embedding,
        "n_representatives": m.n_representatives,
        "training": dict(m.training),
        "files": {path: {"size": f.size, "sha256": f.sha256} for path, f in sorted(m.files.items())},
    }
    try:
        text = (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    except (TypeError, ValueError) as e:
        raise BundleError(f"{MANIFEST}: cannot be written as JSON: {e}") from e
    return text.replace(_BLANK.encode(), hashlib.sha256(text).hexdigest().encode(), 1)


def parse_manifest(raw: bytes) -> Manifest:
    """Check the digest of ``manifest.json`` and read it strictly.

    Raises
    ------
    BundleError
        If a byte was changed, a key is unknown or missing, or a value does not fit; the message names it.
    """
    try:
        data = json.loads(raw.decode())
    except (ValueError, RecursionError) as e:  # no UTF-8, no JSON, a number of thousands of digits
        raise BundleError(f"{MANIFEST} is damaged, it is no JSON: {e}: fetch or calibrate the bundle again") from e
    top = StrictMap(data, MANIFEST)
    digest = top.of("digest", str)
    version = top.of("schema_version", int)
    if version not in READABLE:
        raise BundleError(f"{MANIFEST}: {version=} of the schema, this tonald reads {SCHEMA_VERSION}: update either")
    blank = raw.replace(digest.encode(), _BLANK.encode(), 1) if len(digest) == len(_BLANK) else b""
    if hashlib.sha256(blank).hexdigest() != digest:
        raise BundleError(f"{MANIFEST} does not match its own digest, it was changed: fetch or calibrate again")
    manifest = Manifest(
        name=top.of("name", str),
        created=top.of("created", str),
        labels=tuple(top.list_of("labels", str)),
        spec=_spec(top.map("features")),
        k=top.of("k", int),
        fill=top.number("fill"),
        explainer=top.of("explainer", str),
        thresholds=_thresholds(top.map("thresholds"), version),
        templates=Templates.from_dict(top.of("templates", dict)) if version > 1 else NO_TEMPLATES,
        graphs=tuple(
            _graph(StrictMap(g, f"{MANIFEST} graphs[{i}]")) for i, g in enumerate(top.list_of("graphs", dict))
        ),
        tolerances=_tolerances(top.map("tolerances")),
        golden={name: _golden(m) for name, m in top.map("golden").maps()},
        n_golden=top.of("n_golden", int),
        n_embedding=top.of("n_embedding", int),
        n_representatives=top.of("n_representatives", int),
        training=top.of("training", dict),
        files={name: _file(m, name) for name, m in top.map("files").maps()},
    )
    top.done()
    _check(manifest)
    return manifest


def _render_tensor(t: TensorInfo) -> dict[str, Any]:
    return {"name": t.name, "dtype": t.dtype, "shape": [BATCH, *t.item_shape]}


def _spec(m: StrictMap) -> FeatureSpec:
    try:
        return FeatureSpec.from_dict(m.each(lambda key: m.of(key, object)))
    except (TypeError, ValueError) as e:
        raise BundleError(f"{m.where}: {e}") from e


def _thresholds(m: StrictMap, version: int) -> Thresholds:
    mix = {label: levels.each(levels.number) for label, levels in m.map("mix").maps()}
    distance, probability = m.map("unknown_distance"), m.map("min_probability")
    out = Thresholds(mix, m.of("nominal", str), distance.each(distance.number), probability.each(probability.number))
    if version > 1:
        vessel, evidence = m.map("vessel"), m.map("evidence")
        out = dataclasses.replace(out, vessel=vessel.each(vessel.number), evidence=evidence.each(evidence.number))
    m.done()
    return out


def _graph(m: StrictMap) -> GraphInfo:
    out = GraphInfo(
        m.of("name", str), m.of("precision", str), m.of("file", str), _tensors(m, "inputs"), _tensors(m, "outputs")
    )
    m.done()
    return out


def _tensors(m: StrictMap, key: str) -> tuple[TensorInfo, ...]:
    out = []
    for i, value in enumerate(m.list_of(key, dict)):
        t = StrictMap(value, f"{m.where} {key}[{i}]")
        name, dtype, shape = t.of("name", str), t.of("dtype", str), t.of("shape", list)
        t.done()
        items = shape[1:]
        if shape[:1] != [BATCH] or not all(type(n) is int and n > 0 for n in items) or dtype not in DTYPES:
            raise BundleError(f"{t.where}: {dtype=} {shape=}, expected {' or '.join(DTYPES)} and ['{BATCH}', n, ...]")
        out.append(TensorInfo(name, dtype, tuple(items)))
    return tuple(out)


def _tolerances(m: StrictMap) -> dict[tuple[str, str], dict[str, float]]:
    out = {}
    for key, by_output in m.maps():
        name, _, precision = key.rpartition(".")
        if precision not in PRECISIONS:
            raise BundleError(f"{m.where}: '{key}' does not end in one of {', '.join(PRECISIONS)}")
        values = by_output.each(by_output.number)
        if bad := [o for o, v in values.items() if v < 0]:
            raise BundleError(f"{by_output.where}: negative tolerance for {', '.join(bad)}")
        out[name, precision] = values
    return out


def _golden(m: StrictMap) -> tuple[dict[str, str], dict[str, str]]:
    i, o = m.map("inputs"), m.map("outputs")
    m.done()
    return i.each(lambda key: i.of(key, str)), o.each(lambda key: o.of(key, str))


def _file(m: StrictMap, path: str) -> FileInfo:
    out = FileInfo(m.of("size", int), m.of("sha256", str))
    m.done()
    parts = PurePosixPath(path).parts
    if (
        not parts
        or path != "/".join(parts)
        or "\\" in path
        or "\0" in path
        or any(p in ("..", ".", "/") for p in parts)
    ):
        raise BundleError(f"{MANIFEST}: file '{path}' does not lie inside the bundle")
    return out


def _check(m: Manifest) -> None:
    """What single values cannot tell: that they fit each other."""
    if AMBIENT not in m.labels or len(m.labels) < 2 or len(set(m.labels)) != len(m.labels):
        raise BundleError(f"{MANIFEST}: labels {m.labels}: expected '{AMBIENT}' and at least one more, none twice")
    if not 1 <= m.k <= MAX_K:
        raise BundleError(f"{MANIFEST}: k={m.k} is not in 1..{MAX_K}")
    if m.explainer != EXPLAINER:
        raise BundleError(f"{MANIFEST}: explainer '{m.explainer}' is unknown, this tonald knows '{EXPLAINER}'")
    known, t = set(m.labels) - {AMBIENT}, m.thresholds
    for what, has in (("mix", t.mix), ("unknown_distance", t.unknown_distance), ("min_probability", t.min_probability)):
        if set(has) - {AMBIENT} != known:
            raise BundleError(f"{MANIFEST} thresholds {what}: has {sorted(has)}, expected {sorted(known)}")
    if strange := sorted(set(m.templates.groups) - known):
        raise BundleError(f"{MANIFEST} templates: '{strange[0]}' is no class of this bundle")
    if m.templates.groups and t.nominal not in t.vessel:
        raise BundleError(f"{MANIFEST} thresholds vessel: has {sorted(t.vessel)}, lacks nominal {t.nominal}")
    for label, levels in t.mix.items():
        if t.nominal not in levels:
            raise BundleError(f"{MANIFEST} thresholds mix {label}: has {sorted(levels)}, lacks nominal {t.nominal}")
    graphs = {(g.name, g.precision) for g in m.graphs}
    if len(graphs) != len(m.graphs) or not {("classify", "f32"), ("explain", "f32")} <= graphs:
        raise BundleError(f"{MANIFEST}: graphs {sorted(graphs)}: expected classify.f32 and explain.f32, none twice")
    for g in m.graphs:
        here = f"{MANIFEST} graph {g.name}.{g.precision}"
        if g.file not in m.files:
            raise BundleError(f"{here}: '{g.file}' is not among the files")
        inputs, outputs = m.golden.get(g.name, ({}, {}))
        if set(inputs) != {i.name for i in g.inputs} or set(outputs) != {o.name for o in g.outputs}:
            raise BundleError(f"{here}: its golden data name other inputs or outputs")
        if set(m.tolerances.get((g.name, g.precision), {})) != set(outputs):
            raise BundleError(f"{here}: tolerances do not name each output: {', '.join(sorted(outputs))}")
