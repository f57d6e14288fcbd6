"""It is ended from outside or from within: started again where that mends it, and only there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable

from tests.unit.container import ROOT, Container
from tests.unit.steps import (
    WATCHDOG_S,
    back,
    config,
    ended_for_good,
    expect,
    hears,
    launch,
    prepare,
    running,
    until,
)

SHIPPED = "/opt/tonald/lib/python3*/site-packages/models/bundles/simulated"
HOLD = "import socket, sys; s = socket.socket(); s.bind(('127.0.0.1', 5565)); s.listen(); sys.stdin.read()"


def ends(c: Container, since: str = "") -> list[str]:
    """How systemd says that daemons ended, other than well."""
    found = re.findall(r"tonald\S*: Main process exited, code=\w+, status=(\S+)", c.journal(since))
    return [end for end in found if end != "0/SUCCESS"]


def last_end(c: Container, since: str) -> str:
    """How systemd says the daemon ended."""
    found = ends(c, since)
    expect(len(found) == 1, f"ends: {found}")
    return found[0]


def hang(name: str) -> Callable[[Container], str]:
    """Every thread but the supervising one stands still (ptrace): the watchdog is no longer fed."""

    def prove(c: Container) -> str:
        launch(c, config(engine=name))
        hears(c)
        before, since = running(c), c.cursor()
        words = [sys.executable, "-m", "tests.unit.freeze", str(before)]
        with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as freezer:
            assert freezer.stdout is not None
            n = freezer.stdout.readline().strip()
            expect(n.isdigit(), f"could not freeze it: {n}")
            took = back(c, before)
        said = c.log(since=since)
        expect("Watchdog timeout" in c.journal(since), "not ended by the watchdog")
        expect((end := last_end(c, since)) == "6/ABRT", f"ended by {end}")
        n_stacks = said.count("most recent call first")
        expect("Fatal Python error: Aborted" in said and n_stacks >= 3, f"{n_stacks} stacks in the journal")
        hears(c)
        return f"{n} threads frozen, SIGABRT by the watchdog, {n_stacks} stacks in the journal, back after {took:.1f} s"

    return prove


def frozen(c: Container) -> str:
    """SIGSTOP: the whole process stands still."""
    launch(c, config())
    hears(c)
    before, since = running(c), c.cursor()
    os.kill(before, signal.SIGSTOP)
    took = back(c, before)
    expect("Watchdog timeout" in c.journal(since), "not ended by the watchdog")
    expect((end := last_end(c, since)) == "6/ABRT", f"ended by {end}")
    hears(c)
    return f"SIGABRT by the watchdog (WatchdogSec={WATCHDOG_S}), back after {took:.1f} s"


def killed(c: Container) -> str:
    """SIGKILL; numbers of the journal go on."""
    launch(c, config())
    hears(c)
    before, since = running(c), c.cursor()
    os.kill(before, signal.SIGKILL)
    took = back(c, before)
    expect((end := last_end(c, since)) == "9/KILL", f"ended by {end}")
    hears(c)
    expect(c.show("NRestarts") == "1", f"{c.show('NRestarts')} restarts")
    return f"back after {took:.1f} s (RestartSec=5)"


def port_taken(c: Container) -> str:
    """Another program holds the port: code 71, tried again until it is free."""
    prepare(c, config())
    since = c.cursor()
    hold = ["nsenter", "-t", str(c.leader), "-a", "/usr/bin/python3", "-c", HOLD]
    with subprocess.Popen(hold, stdin=subprocess.PIPE):  # lets go when its standard input closes
        until(lambda: ":5565" in c.ask("ss", "-ltn"), "the port was not taken")
        c.run("systemctl", "start", "tonald")  # fails, as it must
        until(lambda: int(c.show("NRestarts") or 0) >= 2, "not tried again")
    codes = ends(c, since)
    expect(set(codes) == {"71/OSERR"}, f"ends: {codes}")
    took = until(lambda: c.show("ActiveState") == "active", "not started though the port is free")
    hears(c)
    return f"exit code 71, tried again every 5 s, READY {took:.1f} s after the port was free"


def bad_config(c: Container) -> str:
    """A wrong setting ends with 78 and is not tried again."""
    prepare(c, "[publish]\nendpoint = []\n")
    since = c.cursor()
    c.run("systemctl", "start", "tonald")
    ended_for_good(c, 78)
    expect("tonald.toml:2: unknown key 'publish.endpoint'" in c.log(since=since), "the log does not say where")
    return "exit code 78, file and line in the journal, no restart"


def bad_bundle(c: Container) -> str:
    """A changed bundle ends with 79 and is not tried again."""
    c.must("sh", "-c", f"rm -rf /etc/tonald/bundle && cp -r {SHIPPED} /etc/tonald/bundle")
    prepare(c, config(more='bundle = "/etc/tonald/bundle"'))
    c.must("systemctl", "start", "tonald")  # good as it is
    hears(c)
    c.must("systemctl", "stop", "tonald")
    c.must("sh", "-c", "printf x | dd of=/etc/tonald/bundle/class_masks.npz bs=1 seek=100 conv=notrunc")
    since = c.cursor()
    c.run("systemctl", "start", "tonald")
    ended_for_good(c, 79)
    expect("class_masks.npz is damaged" in c.log(since=since), "the log does not name the file")
    return "one byte changed: exit code 79, the file named in the journal, no restart"


def no_crash(c: Container) -> str:
    """Of all ends in this container none was a crash (SIGSEGV, SIGBUS, SIGILL, SIGSYS) or a stop that was forced."""
    text, found = c.journal(), ends(c)
    tally = {end: found.count(end) for end in sorted(set(found))}
    causes = {"6/ABRT", "9/KILL", "71/OSERR", "78/CONFIG", "79/n/a"}
    expect(set(tally) <= causes, f"ends of the daemon: {tally}")
    expect(n_stops := len(re.findall(r"tonald\S*: Deactivated successfully", text)), "it was never stopped")
    expect("State 'stop-sigterm' timed out" not in text, "a stop had to be forced")
    said = ", ".join(f"{n} by {end}" for end, n in tally.items())
    return f"{n_stops} stops by SIGTERM, all clean; the others as caused: {said}"
