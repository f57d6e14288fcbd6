"""What goes into the archive, each part made when it is asked for; a part that cannot be had says why."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path

from daemon.config import Config
from daemon.doctor.examine import examine
from daemon.doctor.service_unit import NAME, find_unit
from daemon.monitor.address import loopback
from daemon.subscriber import Subscriber
from models.bundle import Bundle
from models.errors import ConfigError, TonaldError, UsageError
from models.manifest import MANIFEST

__all__ = ["Part", "made", "parts_of"]

Part = tuple[str, Callable[[], str]]
"""Name in the archive, and what makes its text."""

N_LOG_LINES = 5000
TOOL_TIMEOUT_S = 30.0
LISTEN_S = 3.0
MAX_TEXT = 8 << 20
MAX_LISTED = 5000
RUNTIME = Path("/run/tonald")


def parts_of(config: Config, path: Path | None, unit: Path | None, metrics: str | None) -> Iterator[Part]:
    """All parts of text.

    Parameters
    ----------
    config : Config
    path : Path, optional
        Where it was read; None: the defaults.
    unit : Path, optional
        Unit file; None: the one installed.
    metrics : str, optional
        Where the daemon's metrics are read, on this machine; None: where the settings say.
    """
    yield "versions.txt", _versions
    yield "machine.txt", _machine
    if path is not None:
        yield "config.toml", lambda: _file(path)
    yield "config-in-force.json", lambda: json.dumps(dataclasses.asdict(config), indent=1)
    yield "doctor.txt", lambda: "".join(f"{finding}\n" for finding in examine(path, unit))
    yield "unit.txt", lambda: _unit(unit)
    yield "log.txt", _log
    yield "heard.jsonl", lambda: _heard(config)
    yield "bundle-manifest.json", lambda: _file(Path(config.bundle or Bundle.shipped()) / MANIFEST)
    for status in _status_files(config):
        yield f"status/{status.name}", lambda status=status: _file(status)  # type: ignore[misc]  # bound now
    if config.state_dir:
        yield "state-files.txt", lambda: _listing(Path(config.state_dir))
        site = Path(config.state_dir) / "site" / "site.json"
        if site.is_file():
            yield "site.json", lambda: _file(site)
    if metrics is None and config.metrics.listen:
        metrics = f"http://{config.metrics.listen}/metrics"
    if metrics is not None:
        yield "metrics.txt", lambda: _metrics(metrics)


def _versions() -> str:
    packages = sorted({f"{d.metadata['Name']} {d.version}" for d in importlib.metadata.distributions()}, key=str.lower)
    return f"tonald {importlib.metadata.version('tonald')}\nPython {sys.version}\n\n" + "\n".join(packages) + "\n"


def _machine() -> str:
    lines = [f"made {datetime.now(timezone.utc).isoformat()}", " ".join(platform.uname()), f"{os.cpu_count()} CPUs"]
    for name in ("/etc/os-release", "/proc/meminfo", "/proc/asound/cards", "/proc/uptime", "/proc/loadavg"):
        lines.append(f"\n# {name}")
        lines.append(_file(Path(name)) if Path(name).exists() else "not there")
    return "\n".join(lines) + "\n"


def _file(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(MAX_TEXT)


def _run(*command: str) -> str:
    tool = shutil.which(command[0])
    if tool is None:
        return f"{command[0]} is not installed\n"
    try:
        done = subprocess.run(  # noqa: S603  (fixed words, no shell)
            [tool, *command[1:]], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=TOOL_TIMEOUT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"{command[0]} did not answer within {TOOL_TIMEOUT_S:g} s\n"
    return (done.stdout + done.stderr)[-MAX_TEXT:]


def _unit(unit: Path | None) -> str:
    path = unit or find_unit()
    text = f"# {path}\n{_file(path)}" if path else f"{NAME} is not installed\n"
    return text + "\n# systemctl cat, status\n" + _run("systemctl", "cat", NAME) + _run("systemctl", "status", NAME)


def _log() -> str:
    return _run(
        "journalctl", "-u", NAME, "-u", "tonald@*", "-n", str(N_LOG_LINES), "--no-pager", "-o", "short-iso-precise"
    )


def _heard(config: Config) -> str:
    """What a running daemon says of itself within a few seconds."""
    lines: list[str] = []
    for endpoint in config.publish.endpoints:
        if "*" in endpoint:
            continue
        with Subscriber(endpoint, ["info/", "status/", "heartbeat/"]) as subscriber:
            while (message := subscriber.receive(LISTEN_S)) is not None and len(lines) < 200:
                lines.append(json.dumps({"endpoint": endpoint, "topic": message.topic, **message.body}, default=str))
                if message.family == "heartbeat":
                    break
    return "\n".join(lines) + "\n" if lines else "nobody publishes there, or it asks for keys\n"


def _status_files(config: Config) -> list[Path]:
    folder = Path(os.environ.get("RUNTIME_DIRECTORY", RUNTIME))
    found = sorted(p for p in folder.glob("*.json") if p.is_file()) if folder.is_dir() else []
    own = Path(config.status.file)
    return [*found, own] if config.status.file and own.is_file() and own not in found else found


def _listing(folder: Path) -> str:
    """Names, sizes, modes and times; no content."""
    lines = []
    for path in sorted(folder.rglob("*"))[:MAX_LISTED]:
        s = path.lstat()
        when = datetime.fromtimestamp(s.st_mtime, timezone.utc).isoformat(timespec="seconds")
        lines.append(f"{stat.filemode(s.st_mode)} {s.st_size:12d} {when} {path.relative_to(folder)}")
    return "\n".join(lines) + "\n"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Another address might be on another machine."""

    def redirect_request(self, *_: object) -> None:
        return None


_STRAIGHT = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)


def _on_this_machine(url: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(url)
        return parts.scheme == "http" and loopback(parts.netloc)[1] > 0
    except (ValueError, ConfigError):
        return False


def _metrics(url: str) -> str:
    if not _on_this_machine(url):
        raise UsageError(f"--metrics {url}: only those of this machine, http://127.0.0.1:PORT/metrics")
    try:
        with _STRAIGHT.open(url, timeout=5.0) as answer:
            return str(answer.read(MAX_TEXT).decode("utf-8", "replace"))
    except (urllib.error.URLError, OSError) as e:
        return f"{url}: {e}\n"


def made(part: Part) -> str:
    """Its text; if it cannot be had, why."""
    try:
        return part[1]()
    except TonaldError as e:
        return f"not to be had: {e}\n"
    except OSError as e:
        return f"not to be had: {e.filename or ''}: {e.strerror or e}\n"
