"""Sound cards under the unit: real PortAudio on a JACK server in the same sandbox, and a card that is not there."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from tests.unit.container import ROOT, Container
from tests.unit.steps import TONALD, WATCHDOG_S, config, expect, hears, launch, running, until

CARD = 'kind = "device"\ndevice = "{name}"\nfs = 48000\non_absent = "wait"'
PATIENCE = 120
SERVER = """\
#!/bin/sh
# the sound server and its player run where the daemon does, by the same rights and limits; they stand in for a card,
# whose clock does not wait for a busy machine: so they come first (Nice=-11), and the daemon is put back to 0
jackd -n sea -d dummy -r 48000 -p 1024 -C 2 -P 2 >/dev/null 2>&1 &
(for i in 1 2 3 4 5 6 7 8 9 10; do
    /opt/tonald/bin/python3 /opt/tonald/jack/play_into_jack.py; sleep 1
done) >/dev/null 2>&1 &
exec nice -n 11 /opt/tonald/bin/tonald run --config /etc/tonald/tonald.toml
"""
DROP_IN = """\
ExecStart=
ExecStart=/opt/tonald/jack/serve
Environment=JACK_DEFAULT_SERVER=sea JACK_NO_AUDIO_RESERVATION=1
Nice=-11
"""


def child(pid: int, words: bytes = b"daemon.capture.child") -> int:
    """The process that a daemon, or its shell before it, started with these words; 0: there is none."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        for one in (task / "children").read_text().split():
            if words in Path(f"/proc/{one}/cmdline").read_bytes():
                return int(one)
    return 0


def serve_jack(c: Container) -> None:
    """Put server and player in place, and start the daemon with them."""
    c.must("mkdir", "-p", "/opt/tonald/jack")
    for name in ("play_into_jack.py", "counter_signal.py"):
        c.write(f"/opt/tonald/jack/{name}", (ROOT / "tests" / name).read_text())
    c.write("/opt/tonald/jack/serve", SERVER)
    c.must("chmod", "755", "/opt/tonald/jack/serve")
    launch(c, config(source=CARD.format(name="hydro")), DROP_IN)
    hears(c, seconds=PATIENCE)


def stops_well(c: Container, since: str) -> None:
    """Asked to stop it ends with 0, and takes the signal for no loss of the card."""
    c.must("systemctl", "stop", "tonald")
    state = (c.show("ActiveState"), c.show("Result"), c.show("ExecMainStatus"))
    expect(state == ("inactive", "success", "0"), f"stopped: {state}")
    expect("signal 15" not in c.log(since=since), "the stop was taken for a lost card")


def niceness(pid: int) -> int:
    """Of its first thread."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[16])


def capture(c: Container) -> str:
    """The capture process captures under the sandbox, and is replaced after SIGKILL."""
    serve_jack(c)
    since = c.cursor()
    pid = running(c)
    first = child(pid)
    expect(first, "there is no capture process")
    nice = niceness(first)
    status = Path(f"/proc/{first}/status").read_text()
    expect("Seccomp:\t2" in status and "NoNewPrivs:\t1" in status, "the capture process is outside of the sandbox")
    os.kill(first, signal.SIGKILL)
    took = until(lambda: child(pid) not in (0, first), "the capture process was not replaced")
    gap = c.ask("timeout", "60", TONALD, "listen", "--since", "0", "--json", "--topics", "gap/", "--once", "1")
    expect('"n_samples"' in gap, f"the loss was not told: {gap[-300:]}")
    hears(c, seconds=PATIENCE)
    expect(c.main_pid() == pid, "the daemon itself did not survive")
    stops_well(c, since)
    return (
        f"PortAudio on JACK, windows analysed; capture process killed: replaced after {took:.1f} s, the gap told, "
        f"the daemon the same process; niceness {nice}" + ("" if nice == -11 else " (LimitNICE= NOT PROVED here)")
    )


def lost_card(c: Container) -> str:
    """The sound server dies for good: waited for, the watchdog fed; asked to stop it ends well."""
    serve_jack(c)
    pid, since = running(c), c.cursor()
    os.kill(child(pid, b"jackd"), signal.SIGKILL)
    until(lambda: "source card is waiting" in c.log(since=since), "not told as waiting")
    time.sleep(3 * WATCHDOG_S)
    expect(c.main_pid() == pid and c.show("NRestarts") == "0", "it was ended")
    stops_well(c, since)
    return f"told as waiting, the same process after {3 * WATCHDOG_S} s; asked to stop: exit code 0"


def no_card(c: Container) -> str:
    """A card that never comes: READY, told as waiting, the watchdog fed for what is tried."""
    launch(c, config(source=CARD.format(name="no such card")))
    before = running(c)
    time.sleep(4 * WATCHDOG_S)
    expect(c.main_pid() == before and c.show("NRestarts") == "0", "it was ended")
    status = c.ask("timeout", "30", TONALD, "listen", "--json", "--topics", "status/", "--once", "1")
    expect('"state": "waiting"' in status, f"{status[-300:]}")
    return f"READY, status waiting, the same process after {4 * WATCHDOG_S} s (WatchdogSec={WATCHDOG_S})"
