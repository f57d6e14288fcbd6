"""The site calibration: thresholds of one place and its channels, laid over those of a bundle.

One JSON file, strictly read, bound to one bundle by its id. Its own digest stands in its first key and is taken over
the text with sixty-four zeros in the digest's place, as a bundle's manifest has it: no byte can change unseen. It
guards against damage and mix-ups; it is no signature and proves no author. The file appears as a whole or not at all.

The first 16 hex digits of the SHA-256 of the file are its id: the ``calibration_id`` of every record.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from calibration.thresholds import NOMINAL_LEVELS
from models.bundle import Bundle
from models.errors import BundleError, InputError
from models.strict_json import StrictMap

__all__ = ["FILE_NAME", "SCHEMA_VERSION", "ChannelCalibration", "SiteCalibration", "SiteThreshold"]

FILE_NAME = "site.json"
SCHEMA_VERSION = 1
KIND = "tonald site calibration"
#: No site calibration is longer: 64 channels of 100 labels.
MAX_BYTES = 8 << 20
_BLANK = "0" * 64
AGAIN = "make it again with 'tonald calibrate --site FOLDER'"

Detected = Literal["left out", "kept"]


@dataclass(frozen=True, slots=True)
class SiteThreshold:
    """One threshold, and what it removes of source-free cells it was not set on."""

    value: float
    """On the score map: a cell above it is kept."""
    removed: float
    """Share 0..1 of source-free cells removed, mean over recordings, each by the threshold of all others."""
    low: float
    high: float
    """95 % interval of ``removed``, over recordings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelCalibration:
    """Thresholds of one channel, and what they come from."""

    n_windows: int
    n_recordings: int
    """Files, or streams of a running daemon."""
    n_segments: int
    """Independent pieces that the interval counts: recordings, long ones cut."""
    seconds: float
    """Time under the windows."""
    n_detected: int
    """Windows in which a class of the bundle was detected."""
    detected: Detected
    """What became of them."""
    labels: Mapping[str, Mapping[str, SiteThreshold]]
    """``{label: {nominal level: threshold}}``."""
    vessel: Mapping[str, SiteThreshold] = field(default_factory=dict)
    """``{nominal level: threshold}`` on the vessel map; empty where the bundle has none."""

    def scores(self, nominal: str) -> dict[str, float]:
        """Threshold of each label at a nominal level."""
        return {label: levels[nominal].value for label, levels in self.labels.items()}

    @property
    def share_detected(self) -> float:
        """Share of all windows heard in which a class was detected."""
        n_all = self.n_windows + (self.n_detected if self.detected == "left out" else 0)
        return self.n_detected / n_all


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCalibration:
    """Thresholds of a site, per channel; immutable: a new estimate is a new version."""

    bundle: str
    """Id of the bundle whose score maps were measured."""
    version: int
    """Counts up with each estimate written over the one before."""
    created: str
    """UTC, ISO 8601."""
    data: str
    """What it was measured on, for people."""
    channels: Mapping[str, ChannelCalibration]
    raw: bytes = field(default=b"", compare=False, repr=False)
    """The file's content; made when absent."""

    def __post_init__(self) -> None:
        if not self.raw:
            object.__setattr__(self, "raw", _render(self))

    @property
    def id(self) -> str:
        """Sixteen hex digits: ``calibration_id`` of every record made with it."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def check(self, bundle: Bundle) -> None:
        """Refuse another bundle than the one it was measured with.

        Raises
        ------
        InputError
            Saying which it is for.
        """
        if self.bundle != bundle.id:
            raise InputError(f"is for bundle {self.bundle}, in use is {bundle.id}: {AGAIN}")
        known = set(bundle.thresholds.mix)
        for channel, c in self.channels.items():
            if set(c.labels) != known:
                raise InputError(f"channel {channel} has {sorted(c.labels)}, the bundle {sorted(known)}: {AGAIN}")
            if bool(c.vessel) != bool(bundle.thresholds.vessel):
                raise InputError(f"channel {channel}: thresholds of the vessel map do not fit the bundle: {AGAIN}")

    @classmethod
    def now(
        cls, bundle: Bundle, data: str, channels: Mapping[str, ChannelCalibration], version: int
    ) -> SiteCalibration:
        """One made this moment."""
        created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        return cls(bundle=bundle.id, version=version, created=created, data=data, channels=channels)

    @classmethod
    def parse(cls, raw: bytes) -> SiteCalibration:
        """Read strictly.

        Raises
        ------
        InputError
            If a byte was changed, a key is unknown or missing, a value does not fit, or the schema is another.
        """
        try:
            return _parse(raw)
        except BundleError as e:
            raise InputError(f"{e}: {AGAIN}") from e

    @classmethod
    def read(cls, path: Path, bundle: Bundle) -> SiteCalibration:
        """Read a file and check that it is for ``bundle``.

        Raises
        ------
        InputError
            Naming the file and what is wrong with it.
        """
        try:
            with path.open("rb") as f:
                raw = f.read(MAX_BYTES + 1)
        except OSError as e:
            raise InputError(f"site calibration {path} cannot be read: {e.strerror or e}") from e
        try:
            if len(raw) > MAX_BYTES:
                raise InputError(f"is longer than {MAX_BYTES} bytes, it is damaged: {AGAIN}")
            site = cls.parse(raw)
            site.check(bundle)
        except InputError as e:
            raise InputError(f"site calibration {path} {e}") from e
        return site

    def write(self, path: Path) -> None:
        """Replace ``path`` as a whole; the content is on the disk before the name is.

        Raises
        ------
        InputError
            If the folder or disk refuses; what stood there stays.
        """
        work: Path | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            work = Path(name)
            with os.fdopen(fd, "wb") as f:
                f.write(self.raw)
                f.flush()
                os.fsync(f.fileno())
            work.chmod(0o644)
            work.replace(path)
            work = None
            folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as e:
            raise InputError(f"site calibration {path} cannot be written: {e.strerror or e}") from e
        finally:
            if work is not None:
                with contextlib.suppress(OSError):
                    work.unlink()


def _render(site: SiteCalibration) -> bytes:
    content = {
        "digest": _BLANK,
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "version": site.version,
        "created": site.created,
        "bundle": site.bundle,
        "data": site.data,
        "channels": {name: _channel_to_dict(c) for name, c in sorted(site.channels.items())},
    }
    _check(site)
    text = (json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    return text.replace(_BLANK.encode(), hashlib.sha256(text).hexdigest().encode(), 1)


def _channel_to_dict(c: ChannelCalibration) -> dict[str, Any]:
    return {
        "n_windows": c.n_windows, "n_recordings": c.n_recordings, "n_segments": c.n_segments, "seconds": c.seconds,
        "n_detected": c.n_detected, "detected": c.detected,
        "labels": {label: _levels_to_dict(by) for label, by in c.labels.items()},
        "vessel": _levels_to_dict(c.vessel),
    }  # fmt: skip


def _levels_to_dict(by: Mapping[str, SiteThreshold]) -> dict[str, dict[str, float]]:
    return {q: {"value": t.value, "removed": t.removed, "low": t.low, "high": t.high} for q, t in by.items()}


def _parse(raw: bytes) -> SiteCalibration:
    try:
        data = json.loads(raw.decode())
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as e:
        raise BundleError(f"is damaged, it is no JSON: {e}") from e
    top = StrictMap(data, "content")
    digest, kind, schema = top.of("digest", str), top.of("kind", str), top.of("schema_version", int)
    if kind != KIND:
        raise BundleError(f"is none: its kind is {kind!r}")
    if schema != SCHEMA_VERSION:
        raise BundleError(f"has schema {schema}, this tonald reads {SCHEMA_VERSION}")
    blank = raw.replace(digest.encode(), _BLANK.encode(), 1) if len(digest) == len(_BLANK) else b""
    if hashlib.sha256(blank).hexdigest() != digest:
        raise BundleError("does not match its own digest, it was changed or damaged")
    site = SiteCalibration(
        version=top.of("version", int), created=top.of("created", str), bundle=top.of("bundle", str),
        data=top.of("data", str), channels={name: _channel(m) for name, m in top.map("channels").maps()}, raw=raw,
    )  # fmt: skip
    top.done()
    _check(site)
    return site


def _channel(m: StrictMap) -> ChannelCalibration:
    detected = m.of("detected", str)
    if detected not in ("left out", "kept"):
        raise BundleError(f"{m.where}: detected is {detected!r}, expected 'left out' or 'kept'")
    out = ChannelCalibration(
        n_windows=m.of("n_windows", int), n_recordings=m.of("n_recordings", int), n_segments=m.of("n_segments", int),
        seconds=m.number("seconds"), n_detected=m.of("n_detected", int),
        detected="left out" if detected == "left out" else "kept",
        labels={label: {q: _threshold(t) for q, t in by.maps()} for label, by in m.map("labels").maps()},
        vessel={q: _threshold(t) for q, t in m.map("vessel").maps()},
    )  # fmt: skip
    m.done()
    return out


def _threshold(m: StrictMap) -> SiteThreshold:
    out = SiteThreshold(m.number("value"), m.number("removed"), m.number("low"), m.number("high"))
    m.done()
    return out


def _check(site: SiteCalibration) -> None:
    """What single values cannot tell."""
    if not site.channels:
        raise BundleError("holds no channel")
    for name, c in site.channels.items():
        if c.n_windows < 1 or c.n_segments < 1 or c.n_recordings < 1 or c.n_detected < 0 or not c.seconds > 0.0:
            raise BundleError(f"channel {name}: counts {c.n_windows}, {c.n_recordings}, {c.n_segments} are impossible")
        maps = dict(c.labels) | ({"vessel map": c.vessel} if c.vessel else {})
        for label, levels in maps.items():
            if set(levels) != set(NOMINAL_LEVELS):
                raise BundleError(f"channel {name} {label}: has levels {sorted(levels)}, expected {NOMINAL_LEVELS}")
            values = [levels[q].value for q in NOMINAL_LEVELS]
            if values != sorted(values) or values[0] < 0.0:
                raise BundleError(f"channel {name} {label}: thresholds {values} do not rise with their level")
            if any(not 0.0 <= t.low <= t.removed <= t.high <= 1.0 for t in levels.values()):
                raise BundleError(f"channel {name} {label}: a share removed lies outside its interval or 0..1")
