"""What the unit promises, and how each promise is tried."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from tests.unit.container import ROOT, Container

CONFIG = """\
node = "proof"
state_dir = "/var/lib/tonald"
[source]
kind = "simulated"
n_channels = 2
[engine]
name = "{engine}"
[publish]
endpoints = ["tcp://127.0.0.1:5565", "ipc:///run/tonald/out"]
"""
DROP_IN = "/etc/systemd/system/tonald.service.d/proof.conf"
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


def launch(c: Container, config: str, drop_in: str = "") -> float:
    """Start anew with these settings; s until READY."""
    c.run("systemctl", "stop", "tonald")
    c.write("/etc/tonald/tonald.toml", config)
    c.write(DROP_IN, f"[Service]\nWatchdogSec={WATCHDOG_S}\n{drop_in}")
    c.run("systemctl", "daemon-reload")
    c.run("systemctl", "reset-failed", "tonald")
    began = time.monotonic()
    done = c.run("systemctl", "start", "tonald")
    expect(done.returncode == 0 and c.show("ActiveState") == "active", f"did not start: {done.stderr.strip()}")
    return time.monotonic() - began


def hears(c: Container, endpoint: str = "tcp://127.0.0.1:5565", *words: str) -> None:
    """A subscriber inside gets analysed windows."""
    listen = ("/opt/tonald/bin/tonald", "listen", endpoint, "--json", "--topics", "window/", "--once", "2", *words)
    done = c.run(*listen)
    expect(done.stdout.count('"analysed": true') == 2, f"no windows: {done.stdout[-300:]}{done.stderr[-300:]}")


def running(c: Container) -> int:
    """Process id of the daemon, as this machine counts."""
    pid = c.main_pid()
    expect(pid, "the daemon does not run")
    return pid


def back(c: Container, before: int) -> float:
    """Wait until another process serves in place of ``before``; s."""
    return until(lambda: c.main_pid() not in (0, before) and c.show("ActiveState") == "active", "not started again")


def start(c: Container) -> str:
    """Type=notify, READY after the golden test, STATUS, records on both endpoints."""
    took = launch(c, CONFIG.format(engine="auto"))
    hears(c)
    hears(c, "ipc:///run/tonald/out")
    until(lambda: "windows analysed" in c.show("StatusText"), "no status line")
    return f"READY after {took:.1f} s, records by tcp and ipc, status '{c.show('StatusText')[:40]}…'"


def confined(c: Container) -> str:
    """The sandbox as seen from inside the daemon's own namespaces, by what its own rights allow."""
    pid = running(c)
    status = dict(
        line.split(":\t", 1)
        for line in open(f"/proc/{pid}/status").read().splitlines()
        if ":\t" in line  # noqa: SIM115, PTH123
    )
    expect(int(status["CapEff"], 16) == 0 and int(status["CapBnd"], 16) == 0, f"capabilities {status['CapBnd']}")
    expect(status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2", "no NoNewPrivs, or no filter")
    expect(int(status["Uid"].split()[0]) not in (0, os.getuid()), "runs as root")
    seen = os.listdir(f"/proc/{pid}/root/dev")  # noqa: PTH208
    expect("snd" in seen, "/dev/snd is not there")
    expect(not {"kmsg", "mem", "vda", "sda", "loop0"} & set(seen), f"devices: {seen}")
    mounts = [line.split() for line in open(f"/proc/{pid}/mountinfo")]  # noqa: SIM115, PTH123
    options = {m[4]: m[5].split(",") for m in mounts}
    expect("ro" in options["/"], f"/ is {options['/']}")
    ours = ("/run/tonald", "/var/lib/private/tonald", "/tmp", "/var/tmp", "/dev/shm")  # noqa: S108
    expect(all("noexec" in options[p] for p in ours), f"programs may run from {[options[p] for p in ours]}")
    writable = sorted(
        p for p, o in options.items() if "rw" in o and not p.startswith(("/proc", "/dev", "/sys", "/run"))
    )
    expect(set(writable) <= set(ours), f"writable: {writable}")
    inside = ("nsenter", "-t", str(pid), "-m", "touch")
    for folder in ("/etc", "/usr", "/opt/tonald", "/var/lib"):  # as root, so that nothing but the mounts protects them
        refused = subprocess.run([*inside, f"{folder}/x"], check=False, capture_output=True, text=True)
        expect("Read-only file system" in refused.stderr, f"{folder} can be written")
    return f"user {status['Uid'].split()[0]}, no capability, system calls filtered, writable: {', '.join(writable)}"


def engine(name: str) -> Callable[[Container], str]:
    """One engine reproduces the golden outputs under the unit."""

    def prove(c: Container) -> str:
        took = launch(c, CONFIG.format(engine=name))
        listen = ("/opt/tonald/bin/tonald", "listen", "--json", "--topics", "info/", "--once", "1")
        info = c.ask(*listen)
        expect(f'"name": "{name}"' in info, f"another engine serves: {info[-300:]}")
        hears(c)
        return f"golden outputs reproduced, READY after {took:.1f} s"

    return prove


def hang(c: Container) -> str:
    """Every thread but the supervising one stands still (ptrace): the watchdog is no longer fed."""
    launch(c, CONFIG.format(engine="auto"))
    hears(c)
    before = running(c)
    words = [sys.executable, "-m", "tests.unit.freeze", str(before)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as freezer:
        assert freezer.stdout is not None
        n = freezer.stdout.readline().strip()
        expect(n.isdigit(), f"could not freeze it: {n}")
        took = back(c, before)
    expect("Watchdog timeout" in c.ask("journalctl", "--no-pager", "-o", "cat"), "not ended by the watchdog")
    expect("most recent call first" in c.log(), "no stacks in the journal")
    hears(c)
    return (
        f"{n} threads frozen, SIGABRT by the watchdog ({WATCHDOG_S} s), stacks in the journal, back after {took:.1f} s"
    )


def frozen(c: Container) -> str:
    """SIGSTOP: the whole process stands still."""
    before = running(c)
    os.kill(before, signal.SIGSTOP)
    took = back(c, before)
    hears(c)
    return f"ended by the watchdog ({WATCHDOG_S} s), back after {took:.1f} s"


def killed(c: Container) -> str:
    """SIGKILL."""
    before = running(c)
    os.kill(before, signal.SIGKILL)
    took = back(c, before)
    hears(c)
    return f"back after {took:.1f} s (RestartSec=5)"


def reload(c: Container) -> str:
    """``systemctl reload`` reads anew who may listen, in the same process; keys by LoadCredential."""
    c.run("/opt/tonald/bin/tonald", "keygen", "server", "--into", "/etc/tonald/keys")
    c.run("/opt/tonald/bin/tonald", "keygen", "client", "bridge", "--into", "/root/client")
    c.run("mkdir", "-m", "755", "-p", "/etc/tonald/clients")
    keys = 'server_key = "credential:server.key"\nallowed_keys = "/etc/tonald/clients"\n'
    config = CONFIG.format(engine="auto").replace("127.0.0.1", "0.0.0.0") + keys  # noqa: S104
    launch(c, config, "LoadCredential=server.key:/etc/tonald/keys/server.key\n")
    before = running(c)
    c.run("cp", "/root/client/bridge.pub", "/etc/tonald/clients/")
    done = c.run("systemctl", "reload", "tonald")
    expect(done.returncode == 0, f"reload: {done.stderr}")
    until(lambda: "1 clients may listen" in c.log(), "the list was not read again")
    hears(
        c,
        "tcp://127.0.0.1:5565",
        "--server-key",
        "/etc/tonald/keys/server.pub",
        "--client-key",
        "/root/client/bridge.key",
    )
    expect(c.main_pid() == before, "another process")
    mode = c.ask("stat", "-c", "%a %U", "/etc/tonald/keys/server.key")
    expect(mode == "600 root", f"the key is {mode}")
    return "a client put on the list is served by the same process; the secret key stays root's (0600)"


def bad_config(c: Container) -> str:
    """A wrong setting ends with 78 and is not tried again."""
    c.run("systemctl", "stop", "tonald")
    c.write("/etc/tonald/tonald.toml", "[publish]\nendpoint = []\n")
    c.run("systemctl", "start", "tonald")
    until(lambda: c.show("ActiveState") == "failed", "did not fail")
    time.sleep(7)
    expect((c.show("ExecMainStatus"), c.show("NRestarts")) == ("78", "0"), f"{c.show('NRestarts')} restarts")
    expect("tonald.toml:2: unknown key 'publish.endpoint'" in c.log(), "the log does not say where")
    return "exit code 78, file and line in the journal, no restart"


def stop(c: Container) -> str:
    """SIGTERM: STOPPING, the rest published, exit code 0."""
    launch(c, CONFIG.format(engine="auto"))
    hears(c)
    began = time.monotonic()
    c.run("systemctl", "stop", "tonald")
    took = time.monotonic() - began
    state = (c.show("ActiveState"), c.show("Result"), c.show("ExecMainStatus"))
    expect(state == ("inactive", "success", "0"), f"{state}")
    expect(re.search(r"s of audio, \d+ windows analysed", c.log()), "no summary in the journal")
    return f"clean after {took:.1f} s"


PARTS: dict[str, tuple[str, Callable[[Container], str]]] = {
    "start": ("READY, status, records", start),
    "confined": ("what it may do and write", confined),
    "openvino": ("engine works under the unit", engine("openvino")),
    "onnxruntime": ("engine works under the unit", engine("onnxruntime")),
    "hang": ("a hang ends the process", hang),
    "frozen": ("so does a stop", frozen),
    "killed": ("kill -9: started again", killed),
    "reload": ("keys by credential, list at reload", reload),
    "bad_config": ("does not loop", bad_config),
    "stop": ("clean", stop),
}
"""Name, promise, proof; in this order, as some begin where the last one ended."""
