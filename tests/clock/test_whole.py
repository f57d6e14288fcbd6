"""The whole daemon, its clock set by an hour while it listens: records go on, and tell."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from daemon.clock_system import ClockReading, read_clocks
from daemon.config import Config, PublishConfig, SourceConfig
from daemon.service import Service
from daemon.wire import Message

ROOT = Path(__file__).resolve().parents[2]
HOUR_NS = 3_600_000_000_000


@pytest.mark.parametrize("hours", [1, -1])
def test_clock_set_by_an_hour_while_running_is_survived_and_announced(hours: int, tmp_path: Path) -> None:
    set_by_ns = 0
    messages: list[Message] = []
    enough = threading.Event()

    def clocks() -> ClockReading:
        now = read_clocks()
        return ClockReading(now.monotonic_ns, now.utc_ns + set_by_ns)

    def heard(message: Message) -> None:
        nonlocal set_by_ns
        messages.append(message)
        if message.family == "window":
            set_by_ns = hours * HOUR_NS
            if message.body["clock"]["n_steps"] == 1 and message.body["grid_index"] > 14:
                enough.set()

    config = Config(
        source=SourceConfig(kind="simulated", fs=4000),
        publish=PublishConfig(endpoints=(f"ipc://{tmp_path}/out",)),
    )
    service = Service(config, heard, clocks)
    service.start()
    try:
        assert enough.wait(120)
    finally:
        service.stop()
    service.raise_failure()
    (told,) = [m.body for m in messages if m.family == "status" and "stepped" in m.body["detail"]]
    assert f"stepped by {hours * 3600:+.6f} s" in told["detail"]
    assert told["clock"]["n_steps"] == 1
    windows = [m.body for m in messages if m.family == "window"]
    assert [w["grid_index"] for w in windows] == list(range(len(windows)))  # not one is missing
    assert all(w["analysed"] for w in windows)
    for a, b in itertools.pairwise(windows):
        stepped = b["clock"]["n_steps"] - a["clock"]["n_steps"]
        moved = b["t_first_sample_ns"] - a["t_first_sample_ns"] - 10**9 - stepped * hours * HOUR_NS
        assert abs(moved) < 50_000_000, (a["grid_index"], moved)
        assert (b["first_sample"] >= told["first_sample"]) == (b["clock"]["n_steps"] == 1)
    last = windows[-1]["clock"]
    assert last["source"] == "system"
    assert last["synced"] in (True, False, None)
    assert last["rate_ppm"] == pytest.approx(0.0, abs=1.0)  # the simulated card is right by definition


#: A daemon whose system clock is off by what a file says, ns.
FROZEN = """
import sys, json
from pathlib import Path
from daemon.clock_system import ClockReading, read_clocks
from daemon.config import Config, PublishConfig, SourceConfig
from daemon.service import Service
endpoint, setting = sys.argv[1:]
def clocks():
    now = read_clocks()
    return ClockReading(now.monotonic_ns, now.utc_ns + int(Path(setting).read_text()))
def heard(message):
    if message.family in ("window", "status", "gap"):
        print(json.dumps({"family": message.family, **message.body}), flush=True)
source = SourceConfig(kind="simulated", fs=4000, duration_s=38.0)
service = Service(Config(source=source, publish=PublishConfig(endpoints=(endpoint,))), heard, clocks)
service.start()
service.finished.wait()
service.stop()
service.raise_failure()
"""


@pytest.mark.slow  # 40 s: in real time, ten of them frozen
def test_process_frozen_for_ten_seconds_while_the_clock_is_set_back(tmp_path: Path) -> None:
    setting = tmp_path / "offset"
    setting.write_text("0")
    words = [sys.executable, "-c", FROZEN, f"ipc://{tmp_path}/out", str(setting)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as daemon:
        assert daemon.stdout is not None
        records = []
        try:
            for line in daemon.stdout:
                records.append(json.loads(line))
                if records[-1]["family"] == "window" and records[-1]["grid_index"] == 6:
                    daemon.send_signal(signal.SIGSTOP)
                    time.sleep(10.0)
                    setting.write_text(str(-HOUR_NS))
                    daemon.send_signal(signal.SIGCONT)
        finally:
            daemon.kill()
    windows = [r for r in records if r["family"] == "window"]
    assert [w["grid_index"] for w in windows] == list(range(len(windows)))
    assert len(windows) == 30  # 38 s, windows of 8.4 s: none is missing
    assert not [r for r in records if r["family"] == "gap"]  # the simulated sea waits; a card's ring holds as long
    (told,) = [r for r in records if r["family"] == "status" and "stepped" in r["detail"]]
    assert "stepped by -3600.0" in told["detail"]
    for a, b in itertools.pairwise(windows):
        stepped = b["clock"]["n_steps"] - a["clock"]["n_steps"]
        moved = b["t_first_sample_ns"] - a["t_first_sample_ns"] - 10**9 + stepped * HOUR_NS
        assert abs(moved) < 50_000_000, (a["grid_index"], moved)
    assert windows[-1]["clock"]["n_steps"] == 1
