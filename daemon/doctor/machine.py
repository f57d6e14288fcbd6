"""The machine: clock, memory, limits, disk."""

from __future__ import annotations

import dataclasses
import os
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from daemon.clock_sync import read_sync
from daemon.config import Config
from daemon.doctor.finding import Finding, fail, ok, warn

__all__ = ["budget_mb", "check_clock", "check_disk", "check_limits", "check_memory"]

MB = 1_000_000
EARLIEST_S = 1_704_067_200
"""2024-01-01: a clock before it was never set."""
LEAST_MEMORY_MB, GOOD_MEMORY_MB = 300, 600
LEAST_FILES = 256
SPARE_MB = 100
"""Besides the budgets: engine plans, site calibration, logs of others."""


def check_clock() -> Iterator[Finding]:
    """Whether times in records can be believed."""
    now = time.time()
    if now < EARLIEST_S:
        yield fail("clock", f"it says {time.strftime('%Y-%m-%d', time.gmtime(now))}: never set", "date -s, or chrony")
        return
    state = read_sync()
    if state.synced is None:
        yield warn("clock", "nobody says whether it is right", "run chrony; see docs/time.md")
    elif not state.synced:
        yield warn(
            "clock", f"not synchronised ({state.by}): times may be off by anything", "systemctl enable --now chrony"
        )
    else:
        error = "error unknown" if state.est_error_ns is None else f"within {state.est_error_ns / 1e6:.3g} ms"
        yield ok("clock", f"synchronised ({state.by}), {error}")


def check_memory() -> Iterator[Finding]:
    """What a start would find free."""
    found = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
    free_mb = int(found["MemAvailable"].split()[0]) * 1024 // MB
    if free_mb < LEAST_MEMORY_MB:
        yield fail("memory", f"{free_mb} MB free, {LEAST_MEMORY_MB} MB are needed", "end other programs")
    elif free_mb < GOOD_MEMORY_MB:
        yield warn("memory", f"{free_mb} MB free: tight", f"{GOOD_MEMORY_MB} MB leave room for more channels")
    else:
        yield ok("memory", f"{free_mb} MB free")


def check_limits(config: Config) -> Iterator[Finding]:
    """Limits of this user; the unit sets its own."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files != resource.RLIM_INFINITY and files < LEAST_FILES:
        yield warn("limits", f"{files} open files at most", f"ulimit -n {LEAST_FILES}, or LimitNOFILE= in the unit")
    else:
        yield ok("limits", f"{files} open files at most")
    if config.source.kind == "device":
        priority = resource.getrlimit(resource.RLIMIT_RTPRIO)[0]
        if priority == 0 and os.geteuid() != 0:
            yield warn("limits", "no real-time priority for this user", "run it as the unit does: LimitRTPRIO=20")


def budget_mb(config: Config) -> dict[str, int]:
    """What the settings allow to be written, MB: every key that ends in ``_mb``."""
    found = {}
    for table in dataclasses.fields(config):
        settings = getattr(config, table.name)
        if dataclasses.is_dataclass(settings):
            for key in dataclasses.fields(settings):
                if key.name.endswith("_mb"):
                    found[f"{table.name}.{key.name}"] = int(getattr(settings, key.name))
    if not config.forensic.max_mb:  # without it the rest of its budget means nothing
        found = {k: v for k, v in found.items() if not k.startswith("forensic.")}
    return found


def check_disk(config: Config) -> Iterator[Finding]:
    """State folder: writable, and room for all that may be written."""
    if not config.state_dir:
        yield warn(
            "state", "state_dir is empty: nothing is kept (journal, engine plans, site calibration, forensic ring)",
            "set state_dir = '/var/lib/tonald'",
        )  # fmt: skip
        return
    path = Path(config.state_dir)
    if not path.is_dir():
        yield fail("state", f"{path} does not exist", f"mkdir -p {path}; the unit makes it by StateDirectory=")
        return
    if not os.access(path, os.W_OK | os.X_OK):
        yield fail("state", f"{path} may not be written by this user", "run as the user of the unit, or chown it")
        return
    yield ok("state", f"{path} may be written")
    budgets = budget_mb(config)
    used_mb = sum(f.stat().st_size for f in path.rglob("*") if f.is_file()) // MB
    free_mb, needed_mb = shutil.disk_usage(path).free // MB, sum(budgets.values()) + SPARE_MB
    names = ", ".join(f"{k} {v}" for k, v in budgets.items() if v) or "no budgets set"
    if free_mb + used_mb < needed_mb:
        yield fail(
            "disk", f"{free_mb} MB free and {used_mb} MB used in {path}, {needed_mb} MB may be needed ({names})",
            "lower the budgets, or give it a larger disk",
        )  # fmt: skip
    else:
        yield ok("disk", f"{free_mb} MB free, {used_mb} MB used, {needed_mb} MB may be needed ({names})")
