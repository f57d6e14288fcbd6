"""One look at the whole daemon, as a map that JSON can hold; the status file is it, and the metrics are read from it.

Nothing here waits: counts are copied under locks held for microseconds, and the disk is not touched.
"""

from __future__ import annotations

import dataclasses
import importlib.metadata
import math
import os
import platform
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.monitor.health import problems_and_notes
from daemon.monitor.tally import BUCKETS_S, Facts, SourceFacts
from daemon.overload import STEPS

if TYPE_CHECKING:
    from daemon.config import Config
    from daemon.in_force import InForce
    from daemon.service import Service

__all__ = ["SCHEMA", "Life", "boot_id", "process_facts", "snapshot", "starting"]

SCHEMA = "tonald.status"


@dataclass(frozen=True, slots=True)
class Life:
    """When the daemon began."""

    started_s: float
    """CLOCK_MONOTONIC, s."""
    t_started_ns: int
    """By the system clock as it stood then, Unix ns; it does not move when that clock steps."""


def starting(config: Config, life: Life, state: str, doing: str) -> dict[str, Any]:
    """What there is to tell while the service is not there yet; of the keys of `snapshot` those that can be known.

    Parameters
    ----------
    state : str
        ``running`` for a start under way; ``failed`` or ``stopped`` for one that came to nothing.
    doing : str
        What it is at, or why it failed.
    """
    state = "starting" if state == "running" else state
    problem = f"the daemon is {state}: {doing}"
    return {**_common(config.node, state, life), "failure": doing if state == "failed" else None,
            "problems": [problem], "notes": [], "healthy": False, "process": process_facts()}  # fmt: skip


def _common(node: str, state: str, life: Life) -> dict[str, Any]:
    now = time.monotonic()
    return {
        "schema": SCHEMA, "v": 1, "node": node, "state": state,
        "version": importlib.metadata.version("tonald"), "python": platform.python_version(),
        "pid": os.getpid(), "boot_id": boot_id(), "t_written_ns": time.time_ns(), "written_monotonic_s": now,
        "t_started_ns": life.t_started_ns, "uptime_s": now - life.started_s,
    }  # fmt: skip


def snapshot(
    service: Service, state: str, life: Life, rates: dict[str, float], failure: str | None = None
) -> dict[str, Any]:
    """What the daemon knows of itself now.

    Parameters
    ----------
    service : Service
        Started.
    state : str
        ``running``, ``stopping``, ``stopped`` or ``failed``; a source that is lost makes ``waiting`` of ``running``.
    life : Life
    rates : dict
        Per second of the last ten or so, as of `daemon.monitor.rates`.
    failure : str, optional
        What the daemon ends with, where its threads have not failed.
    """
    now = time.monotonic()
    facts = service.tally.facts()
    publish = service.publisher.state()
    journal = publish.pop("journal")
    if state == "running" and any(s.state == "waiting" for s in facts.sources.values()):
        state = "waiting"
    told = {
        **_common(service.config.node, state, life),
        "publisher": service.publisher.identity.publisher, "rates": rates,
        "loop_age_s": now - service.last_turn, "counts": dataclasses.asdict(service.counts),
        "n_stream_problems": len(service.problems), "last_stream_problem": service.problems[-1:],
        "failure": _words(service.failure or service.publisher.failed) or failure,
        "live": service.source.live, "hop_s": service.config.window.hop_s,
        "sources": {name: _source(s, now) for name, s in facts.sources.items()},
        "backlog": None if facts.backlog is None else dataclasses.asdict(facts.backlog),
        "windows": _windows(facts, now), "channels": _channels(facts),
        "signatures": [[*key, n] for key, n in sorted(facts.signatures.items())],
        "contacts": [[*key, n] for key, n in sorted(facts.contacts.items())],
        "gaps": {
            reason: {"n": n, "lost_samples": facts.lost_samples[reason], "lost_s": facts.lost_s[reason]}
            for reason, n in facts.gaps.items()
        },
        "clock": {**dataclasses.asdict(facts.clock), "n_steps_total": facts.n_clock_steps},
        "overload": {"step": facts.overload_step, "name": STEPS[facts.overload_step], "n_up": facts.n_overloads},
        **_serving(service.in_force),
        "reload": {"n_done": service.reloader.n_done, "n_refused": service.reloader.n_refused,
                   "problem": service.reloader.problem},
        "engine_calls": {graph: {"le_s": list(BUCKETS_S), "n_at": h.n_at, "sum_s": h.sum_s}
                         for graph, h in facts.calls.items()},
        "publish": publish, "journal": journal,
        "forensic": {"n_frozen": facts.n_frozen, "lost_samples": facts.forensic_lost_samples}
        if service.config.forensic.max_mb else None,
        "process": process_facts(),
    }  # fmt: skip
    told["problems"], told["notes"] = problems_and_notes(told)
    told["healthy"] = not told["problems"]
    plain: dict[str, Any] = _finite(told)
    return plain


def _serving(now: InForce) -> dict[str, Any]:
    """What serves."""
    report, site = now.report, now.site
    return {
        "engine": {"name": report.name, "precision": report.precision, "device": report.device,
                   "passed_over": list(report.reasons)},
        "bundle": {"id": now.bundle.id, "labels": list(now.bundle.labels)},
        "site": {"calibration_id": site.id, "words": site.words(), "problem": site.problem,
                 "own_ship": site.own_ship_words()},
    }  # fmt: skip


def boot_id() -> str | None:
    """Of this boot of the machine: CLOCK_MONOTONIC of another says nothing here; None where Linux does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return None


def process_facts() -> dict[str, float | int | None]:
    """Memory, CPU time, open files and threads of this process; None where /proc does not say."""
    times = os.times()
    try:
        rss = int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
        n_fds = sum(1 for _ in os.scandir("/proc/self/fd")) - 1
        n_threads = sum(1 for _ in os.scandir("/proc/self/task"))
    except OSError:  # no files left to open, or no /proc: the rest is still worth telling
        return {"rss_bytes": None, "n_fds": None, "n_threads": threading.active_count(), "cpu_s": times[0] + times[1]}
    return {"rss_bytes": rss, "n_fds": n_fds, "n_threads": n_threads, "cpu_s": times[0] + times[1]}


def _source(s: SourceFacts, now: float) -> dict[str, Any]:
    told = dataclasses.asdict(s)
    t = told.pop("t_samples_s")
    return {**told, "channels": list(s.channels), "samples_age_s": None if t is None else now - t}


def _windows(facts: Facts, now: float) -> dict[str, Any]:
    """By channel: how its slots were settled, and how long ago the last."""
    told: dict[str, Any] = {channel: {"age_s": now - t, "outcomes": {}} for channel, t in facts.t_window_s.items()}
    for (channel, outcome), n in facts.windows.items():
        told[channel]["outcomes"][outcome] = n
    return told


def _channels(facts: Facts) -> dict[str, Any]:
    """By channel: the worst state of its checks, and which fail."""
    told = {}
    for channel, (quality, level_db) in facts.quality.items():
        states = {state for _, state in quality}
        worst = next((s for s in ("bad", "suspect") if s in states), "ok")
        told[channel] = {"state": worst, "checks": dict(quality), "level_db_re_fs": level_db}
    return told


def _words(error: BaseException | None) -> str | None:
    return None if error is None else f"{type(error).__name__}: {error}"


def _finite(value: Any) -> Any:  # noqa: ANN401  (whatever JSON holds)
    """JSON knows neither infinity nor NaN: null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
