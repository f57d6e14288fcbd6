"""All checks, in the order in which a start would stumble over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from daemon.config import Config
from daemon.doctor.finding import Check, Finding, fail, ok, run_check
from daemon.doctor.machine import check_clock, check_disk, check_limits, check_memory
from daemon.doctor.network import check_endpoints, check_keys
from daemon.doctor.service_unit import check_unit
from daemon.doctor.software import check_bundle, check_engines, check_packages, check_python
from daemon.doctor.sound import check_source
from models.errors import ConfigError

__all__ = ["examine"]


def examine(path: Path | None, unit: Path | None = None) -> Iterator[Finding]:
    """Look at everything; each finding as soon as it is there.

    Parameters
    ----------
    path : Path, optional
        The configuration; None: the defaults.
    unit : Path, optional
        The unit file; None: the one installed.
    """
    anyway: list[tuple[str, Check]] = [
        ("python", check_python), ("clock", check_clock), ("memory", check_memory), ("unit", lambda: check_unit(unit)),
    ]  # fmt: skip
    by_config: list[tuple[str, Callable[[Config], Iterator[Finding]]]] = [
        ("packages", check_packages), ("source", check_source), ("bundle", check_bundle), ("engine", check_engines),
        ("keys", check_keys), ("endpoint", check_endpoints), ("state", check_disk), ("limits", check_limits),
    ]  # fmt: skip
    for name, check in anyway:
        yield from run_check(name, check)
    try:
        config = Config.load(path) if path else Config()
    except ConfigError as e:
        yield fail("config", str(e), "'tonald config' prints every key; what depends on it was not looked at")
        return
    yield ok("config", f"{path}: good" if path else "the defaults; --config FILE looks at yours")
    for name, of_config in by_config:
        yield from run_check(name, lambda of_config=of_config: of_config(config))  # type: ignore[misc]  # bound now
