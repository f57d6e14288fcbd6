"""What the proofs have in common: start the unit anew, listen to it, wait, judge."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.unit.container import Container

CONFIG = """\
node = "proof"
state_dir = "/var/lib/tonald"
{more}
[source]
{source}
[engine]
name = "{engine}"
[publish]
endpoints = ["tcp://{address}:5565", "ipc:///run/tonald/out"]
"""
OCEAN = 'kind = "simulated"\nn_channels = 2'
ENDPOINT = "tcp://127.0.0.1:5565"
DROP_IN = "/etc/systemd/system/tonald.service.d/proof.conf"
TONALD = "/opt/tonald/bin/tonald"
PATIENCE_S = 90.0
WATCHDOG_S = 6


class BrokenError(Exception):
    """A promise is broken; says how."""


def expect(truth: object, what: str) -> None:
    """Raise unless ``truth``."""
    if not truth:
        raise BrokenError(what)


def until(condition: Callable[[], object], what: str) -> float:
    """Wait; how long it took, s."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() > began + PATIENCE_S:
            raise BrokenError(f"not within {PATIENCE_S:.0f} s: {what}")
        time.sleep(0.1)
    return time.monotonic() - began


def config(*, source: str = OCEAN, engine: str = "auto", address: str = "127.0.0.1", more: str = "") -> str:
    """Settings of a daemon."""
    return CONFIG.format(source=source, engine=engine, address=address, more=more)


def prepare(c: Container, settings: str, drop_in: str = "") -> None:
    """Stop it, and put other settings in place."""
    c.run("systemctl", "stop", "tonald")
    c.write("/etc/tonald/tonald.toml", settings)
    c.write(DROP_IN, f"[Service]\nWatchdogSec={WATCHDOG_S}\n{drop_in}")
    c.must("systemctl", "daemon-reload")
    c.run("systemctl", "reset-failed", "tonald")  # fails where it never ran


def launch(c: Container, settings: str, drop_in: str = "") -> float:
    """Start anew with these settings; s until READY."""
    prepare(c, settings, drop_in)
    began = time.monotonic()
    done = c.run("systemctl", "start", "tonald")
    expect(done.returncode == 0 and c.show("ActiveState") == "active", f"did not start: {done.stderr.strip()}")
    return time.monotonic() - began


def hears(c: Container, endpoint: str = ENDPOINT, *words: str, seconds: int = 60) -> None:
    """A subscriber inside gets analysed windows."""
    heard = windows(c, endpoint, *words, seconds=seconds)
    expect(heard.count('"analysed": true') == 2, f"no windows within {seconds} s: {heard[-300:]}")


def windows(c: Container, endpoint: str, *words: str, seconds: int) -> str:
    """What a subscriber inside gets within so many seconds, two windows at most."""
    listen = (TONALD, "listen", endpoint, "--json", "--topics", "window/", "--once", "2", *words)
    return c.run("timeout", str(seconds), *listen).stdout


def running(c: Container, unit: str = "tonald") -> int:
    """Process id of the daemon, as this machine counts."""
    pid = c.main_pid(unit)
    expect(pid, f"{unit} does not run")
    return pid


def back(c: Container, before: int, unit: str = "tonald") -> float:
    """Wait until another process serves in place of ``before``; s."""
    return until(
        lambda: c.main_pid(unit) not in (0, before) and c.show("ActiveState", unit) == "active", "not started again"
    )


def ended_for_good(c: Container, code: int) -> None:
    """It failed with ``code`` and is not started again, for longer than the unit waits before it would."""
    until(lambda: c.show("ActiveState") == "failed", f"did not fail: {c.show('ActiveState')}")
    time.sleep(7)
    state = (c.show("ActiveState"), c.show("ExecMainStatus"), c.show("NRestarts"))
    expect(state == ("failed", str(code), "0"), f"state, exit code, restarts: {state}")
