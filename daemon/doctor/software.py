"""What is installed: interpreter, distribution, packages, bundle, engines."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from daemon.chosen_bundle import chosen_bundle
from daemon.config import Config
from daemon.doctor.finding import Finding, fail, ok, warn
from daemon.pipeline import with_hop
from models.bundle import Bundle
from models.engines import AUTO_ORDER, open_engine
from models.errors import EngineError, EngineUnavailable
from models.explainer import graphs_of

__all__ = ["bundle_of", "check_bundle", "check_engines", "check_packages", "check_python"]

OLDEST = (3, 10)


def check_python() -> Iterator[Finding]:
    """Interpreter and distribution; whether another distribution provides the import name ``daemon``."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST:
        yield fail("python", f"Python {version} is too old", "install Python 3.10 or newer, and tonald into it")
        return
    yield ok("python", f"Python {version}, tonald {importlib.metadata.version('tonald')}, in {sys.prefix}")
    rivals = set(importlib.metadata.packages_distributions().get("daemon", [])) - {"tonald"}
    if rivals:
        yield fail(
            "python", f"the import name 'daemon' is also provided by {', '.join(sorted(rivals))}",
            "install tonald in an environment of its own: python3 -m venv /opt/tonald",
        )  # fmt: skip


def check_packages(config: Config) -> Iterator[Finding]:
    """What this configuration needs beside the core."""
    needed = {"soundfile": config.source.kind == "file" or bool(config.forensic.max_mb)}
    needed["sounddevice"] = config.source.kind == "device"
    missing = [name for name, wanted in needed.items() if wanted and importlib.util.find_spec(name) is None]
    if missing:
        yield fail("packages", f"not installed: {', '.join(missing)}", "pip install 'tonald[audio]'")
    elif wanted := [name for name, w in needed.items() if w]:
        yield ok("packages", f"{', '.join(wanted)} installed")


def bundle_of(config: Config) -> Bundle:
    """The bundle, every file hash-checked, the signature too where one is asked for.

    Raises
    ------
    BundleError, ConfigError
        If it cannot be used.
    """
    return chosen_bundle(config)


def check_bundle(config: Config) -> Iterator[Finding]:
    """Hashes, signature, and whether the settings go with it."""
    bundle = bundle_of(config)
    with_hop(bundle.spec, config.window.hop_s)
    signed = ", signed by the key trusted" if config.bundle_key else ""
    yield ok("bundle", f"{bundle.id}, every hash right{signed}: {', '.join(bundle.labels)}")
    if not config.bundle:
        yield warn(
            "bundle", "the shipped one, which knows simulated vessels only", "train one on your recordings, set bundle"
        )
    if not config.bundle_key:
        yield ok("bundle", "no signature asked for (bundle_key is empty)")


def check_engines(config: Config) -> Iterator[Finding]:
    """Each engine against the golden outputs of the bundle; the configured one must reproduce them."""
    bundle = bundle_of(config)
    wanted, serves = config.engine.name, ""
    for name in AUTO_ORDER:
        chosen = wanted in ("auto", name) and not serves
        try:
            engine, report = open_engine(
                bundle, name, max_batch=config.engine.max_batch,
                n_threads=config.engine.n_threads or os.cpu_count(), graphs=graphs_of(bundle),
                state_dir=Path(config.state_dir) if config.state_dir and os.access(config.state_dir, os.W_OK) else None,
            )  # fmt: skip
        except EngineUnavailable as e:
            if wanted == name:
                yield fail("engine", f"{e}", "install what it names, or set engine.name = 'auto'")
            else:
                yield ok("engine", f"{name} is not here ({_brief(e)})")
        except EngineError as e:
            say = fail if wanted == name else warn
            yield say("engine", f"{_brief(e)}", "another version of this engine; it does not serve as it is")
        else:
            engine.close()
            serves = serves or (name if chosen else "")
            yield ok("engine", f"{report}{' <- serves' if serves == name else ''}")
    if not serves and wanted == "auto":
        yield fail("engine", "none works here: nothing can be analysed", "pip install 'tonald[cpu]'")


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 160 else text[:157] + "..."
