"""It starts, says so, serves by each engine, and may do no more than it must."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.unit.container import Container
from tests.unit.steps import TONALD, WATCHDOG_S, config, expect, hears, launch, running, until

OTHER = "/root/other"
OURS = ("/run/tonald", "/var/lib/private/tonald", "/tmp", "/var/tmp", "/dev/shm")


def start(c: Container) -> str:
    """READY after the golden test, STATUS, records on both endpoints."""
    took = launch(c, config())
    hears(c)
    hears(c, "ipc:///run/tonald/out")
    until(lambda: "windows analysed" in c.show("StatusText"), "no status line")
    said = c.must("cat", "/run/tonald/status.json")
    expect('"state": "running"' in said or '"state":"running"' in said, f"status.json: {said[:300]}")
    return f"READY after {took:.1f} s, records by tcp and ipc, status line and status.json"


def words(c: Container) -> str:
    """What arrives at the notify socket of a real systemd, in order, and when."""
    c.run("systemctl", "stop", "tonald")
    c.must("systemctl", "log-level", "debug")
    since = c.cursor()
    try:
        launch(c, config())
        pattern = re.compile(r"\[ *([\d.]+)\].* tonald\.service: Got notification message from PID \d+ \((\w+)=")

        def said() -> list[tuple[float, str]]:
            return [(float(m[1]), m[2]) for m in map(pattern.search, c.journal(since).splitlines()) if m]

        until(lambda: sum(word == "WATCHDOG" for _, word in said()) >= 5, "no five signs of life")
        c.must("systemctl", "stop", "tonald")
        told = said()
    finally:
        c.must("systemctl", "log-level", "info")
    order = [word for _, word in told if word not in ("EXTEND_TIMEOUT_USEC", "STATUS")]  # how the start goes
    n = order.count("WATCHDOG")
    expect(order == ["READY", *n * ["WATCHDOG"], "STOPPING"], f"order {order}")
    at = [t for t, word in told if word == "WATCHDOG"]
    longest = max(b - a for a, b in itertools.pairwise(at))
    expect(longest <= WATCHDOG_S / 2, f"{longest:.1f} s between two signs of life")
    return f"READY, {n} times WATCHDOG at most {longest:.1f} s apart (WatchdogSec={WATCHDOG_S}), STOPPING"


def confined(c: Container) -> str:
    """The sandbox as seen from inside the daemon's own namespaces."""
    launch(c, config())
    pid = running(c)
    proc = Path(f"/proc/{pid}")
    lines = (line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
    status = {key: value.strip() for key, value in lines}
    expect(int(status["CapEff"], 16) == 0 and int(status["CapBnd"], 16) == 0, f"capabilities {status['CapBnd']}")
    expect(status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", "no NoNewPrivs, or no filter")
    expect(int(status["Uid"].split()[0]) not in (0, os.getuid()), "runs as root")
    seen = {p.name for p in (proc / "root/dev").iterdir()}
    expect("snd" in seen, "/dev/snd is not there")
    expect(not {"kmsg", "mem", "vda", "sda", "loop0"} & seen, f"devices: {seen}")
    mounts = [line.split() for line in (proc / "mountinfo").read_text().splitlines()]
    options = {m[4]: m[5].split(",") for m in mounts}
    expect("ro" in options["/"], f"/ is {options['/']}")
    expect(all("noexec" in options[p] for p in OURS), f"programs may run from {[options[p] for p in OURS]}")
    api = ("/proc", "/dev", "/sys", "/run")
    writable = sorted(p for p, o in options.items() if "rw" in o and not p.startswith(api))
    expect(set(writable) <= set(OURS), f"writable: {writable}")
    mode = c.ask("stat", "-c", "%a", "/run/tonald/out", "/var/lib/private/tonald").split()
    expect(mode == ["700", "700"], f"modes of the ipc socket and of the state folder: {mode}")
    for folder in ("/etc", "/usr", "/opt/tonald", "/var/lib"):  # as root, so that nothing but the mounts protects them
        touch = ["nsenter", "-t", str(pid), "-m", "touch", f"{folder}/x"]
        refused = subprocess.run(touch, check=False, capture_output=True, text=True)
        expect("Read-only file system" in refused.stderr, f"{folder} can be written")
    said = f"user {status['Uid'].split()[0]}, no capability, system calls filtered, writable: {', '.join(writable)}"
    return f"{said}; {_devices(c)}"


def _devices(c: Container) -> str:
    """What root itself may open within the daemon's control group."""
    group = f"/sys/fs/cgroup{c.show('ControlGroup')}/cgroup.procs"
    if c.run("test", "-w", group).returncode:
        return "NOT PROVED here: DevicePolicy= (control groups are version 1)"
    c.run("mknod", OTHER, "c", "10", "237")  # loop-control, which is there on every machine
    card, full = "/root/card", "/dev/full"
    c.run("mknod", card, "c", "116", "33")  # a timer of ALSA, allowed and perhaps absent
    opened = {}
    for device in (full, card, OTHER):
        done = c.run("env", "LC_ALL=C", "sh", "-c", f"echo $$ > {group} && : < {device}")
        opened[device] = done.stderr.strip() or "opened"
    expect(opened[full] == "opened", f"{opened}: every program needs it")
    alsa = " alsa\n" in Path("/proc/devices").read_text()
    expect(not alsa or "not permitted" not in opened[card], f"{opened}: sound cards are shut")
    expect("not permitted" in opened[OTHER], f"{opened}: neither card nor pseudo device, and not shut")
    expect("not permitted" not in c.run("env", "LC_ALL=C", "sh", "-c", f": < {OTHER}").stderr, "shut to all")
    said = "other devices shut, to root in its control group, too"
    return said if alsa else f"{said}; NOT PROVED here: DeviceAllow=char-alsa (this kernel has no ALSA)"


def engine(name: str) -> Callable[[Container], str]:
    """One engine reproduces the golden outputs under the unit, and serves."""

    def prove(c: Container) -> str:
        took = launch(c, config(engine=name))
        info = c.ask(TONALD, "listen", "--json", "--topics", "info/", "--once", "1")
        expect(f'"name": "{name}"' in info, f"another engine serves: {info[-300:]}")
        hears(c)
        return f"golden outputs reproduced, READY after {took:.1f} s, windows analysed"

    return prove


def stop(c: Container) -> str:
    """SIGTERM: the rest published, exit code 0, nothing left of it."""
    launch(c, config())
    hears(c)
    listen = ("timeout", "60", TONALD, "listen", "--json", "--topics", "status/", "--once", "4")
    with subprocess.Popen(
        ["nsenter", "-t", str(c.leader), "-a", *listen], stdout=subprocess.PIPE, text=True
    ) as listener:
        assert listener.stdout is not None
        first = [listener.stdout.readline() for _ in range(2)]  # of two channels, at once: the last-value cache
        c.must("systemctl", "stop", "tonald")
        rest = listener.stdout.read()
    expect(all('"state": "running"' in line for line in first), f"{first}")
    expect(rest.count('"state": "ended"') == 2, f"the end was not told: {rest[-300:]}")
    state = (c.show("ActiveState"), c.show("Result"), c.show("ExecMainStatus"), c.show("NRestarts"))
    expect(state == ("inactive", "success", "0", "0"), f"{state}")
    expect(re.search(r"s of audio, \d+ windows analysed", c.log()), "no summary in the journal")
    expect(not c.ask("ls", "/run/tonald"), "something is left in /run/tonald")
    return "the end told to subscribers, exit code 0, /run/tonald gone"
