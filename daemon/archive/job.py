"""What a run is asked to do, in a form that goes to other processes and can be compared with that of an earlier run."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from daemon.chosen_bundle import chosen_bundle
from daemon.compose import Composition
from daemon.config import Config
from daemon.levels import settled
from daemon.site_state import choose_site
from daemon.sources.audio_file import audio_files
from models.engines import open_engine
from models.errors import ConfigError, InputError
from models.explainer import graphs_of

__all__ = ["SCHEMA_VERSION", "Job", "Unit", "differences", "units_of"]

SCHEMA_VERSION = 1
"""Of tables and manifest; grows when a column changes its meaning or goes."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One recording to be read."""

    path: str
    recording: str
    """Its path below the folder, with ``/``: the column ``recording``."""
    part: str
    """Name of its parts."""
    stamp: tuple[int, ...]
    """Size and time of change of the recording and of its side-car: another stamp, another recording."""


@dataclass(frozen=True, slots=True)
class Job:
    """All that a worker needs beside a `Unit`."""

    out: str
    config: Config
    bundle_path: str
    site: bytes | None
    """The site calibration's file."""
    settings: Mapping[str, Any]
    """All that the records depend on; goes into the manifest."""
    labels: tuple[str, ...]
    own_ship: bytes | None = None
    """The own ship's file."""

    @property
    def key(self) -> str:
        """Sixteen hex digits that stand for the settings."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:16]

    @classmethod
    def of(cls, config: Config, out: Path) -> Job:
        """Check the settings, prove the engine here, and fix what ``auto`` means.

        Raises
        ------
        TonaldError
            If settings, bundle, site calibration or engine cannot be used.
        """
        if config.source.join:
            raise ConfigError("source.join: in an archive each recording is a stream of its own; leave join out")
        bundle = chosen_bundle(config)
        site = choose_site(config, bundle)
        if site.problem:
            raise InputError(f"site calibration: {site.problem}")
        if site.own_ship_problem:
            raise InputError(site.own_ship_problem)
        config = settled(config)
        n_threads = config.engine.n_threads or 1
        engine, report = open_engine(
            bundle, config.engine.name, max_batch=config.engine.max_batch, n_threads=n_threads,
            state_dir=Path(config.state_dir) if config.state_dir else None, graphs=graphs_of(bundle),
        )  # fmt: skip
        try:
            rule = Composition.of(config, bundle, engine, site).rule
        finally:
            engine.close()
        settings = {
            "schema": SCHEMA_VERSION,
            "tonald": importlib.metadata.version("tonald"),
            "bundle": bundle.id,
            "calibration_id": site.id,
            "engine": {
                "name": report.name, "precision": report.precision, "max_batch": config.engine.max_batch,
                "n_threads": n_threads,
            },
            "window": dataclasses.asdict(config.window),
            "extract": dataclasses.asdict(config.extract),
            "explanation": dataclasses.asdict(config.explanation),
            "contacts": rule.to_dict(),
            "demon": dataclasses.asdict(config.demon),
            "channels": list(config.source.channels),
            "masks": config.publish.masks,
            "node": config.node,
        }  # fmt: skip
        chosen = dataclasses.replace(config.engine, name=report.name, n_threads=n_threads)  # type: ignore[arg-type]
        return cls(
            str(out), dataclasses.replace(config, engine=chosen), str(bundle.path),
            None if site.calibration is None else site.calibration.raw, json.loads(json.dumps(settings)), bundle.labels,
            None if site.own_ship is None else site.own_ship.raw,
        )  # fmt: skip


def units_of(folder: Path) -> list[Unit]:
    """Every recording below ``folder``, sorted; a file stands for itself.

    Raises
    ------
    InputError
        If there is none, or the folder cannot be read.
    """
    root = folder if folder.is_dir() else folder.parent
    return [_unit(path, root) for path in audio_files(folder)]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """In which settings two runs differ, a few words each; empty: in none."""
    return [
        f"{name} was {_short(before.get(name))}, is {_short(now.get(name))}"
        for name in {**before, **now}
        if before.get(name) != now.get(name)
    ]


def _unit(path: Path, root: Path) -> Unit:
    below = path.relative_to(root)
    name = os.fsencode(below.as_posix())
    text = name.decode("utf-8", "replace")
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", text)[-80:].strip(
        "._-"
    )  # readers pass over files that begin with _ or .
    return Unit(str(path), text, f"{readable or 'r'}-{hashlib.sha256(name).hexdigest()[:12]}", _stamp(path))


def _stamp(path: Path) -> tuple[int, ...]:
    return (*_size_and_change(path), *_size_and_change(path.with_suffix(".json")))


def _size_and_change(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:  # no side-car; a recording that went away is reported when it is read
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _short(value: object) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 120 else f"{text[:117]}..."
