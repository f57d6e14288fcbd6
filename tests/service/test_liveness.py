"""The sign of life: given for work done, withheld when windows stop, or nobody tries to get the sound back."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.liveness import RETRY_S, Liveness, Progress
from daemon.monitor.status_file import read_status

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
WELL = Progress(0.0, 0.0, 0, 1, streaming=True, live=True, state="running", n_retries=0, paused=False)


class Day:
    """Seconds of a daemon's life, one by one."""

    def __init__(self) -> None:
        self.liveness, self.progress, self.now = Liveness(15.0, 8.375, 1.0), WELL, 0.0

    def run(self, seconds: int, **what: object) -> list[str]:
        """Complaints; each second the loop turns, and whatever ``what`` says grows by its step."""
        found = []
        for _ in range(seconds):
            self.now += 1.0
            p = dataclasses.replace(self.progress, turned_s=self.now)
            for name, value in what.items():
                grows = isinstance(value, float | int) and not isinstance(value, bool) and name != "turned_s"
                p = dataclasses.replace(p, **{name: getattr(p, name) + value if grows else value})
            self.progress = p
            if (complaint := self.liveness.complaint(p, self.now)) is not None:
                found.append(complaint)
        return found


def test_sound_with_windows_behind_it_is_alive() -> None:
    day = Day()
    assert day.run(11, audio_s=1.0) == []  # the first window has yet to be whole
    assert day.run(600, audio_s=1.0, n_slots=4) == []


def test_windows_that_stop_though_samples_flow_starve_it() -> None:
    day = Day()
    assert day.run(60, audio_s=1.0, n_slots=4) == []
    complaints = day.run(30, audio_s=1.0)
    assert 15 <= len(complaints) <= 20
    assert "no window of it was told" in complaints[0]
    assert day.run(10, audio_s=1.0, n_slots=4) == []  # they come again


def test_many_streams_too_short_for_a_window_are_work() -> None:
    assert Day().run(60, audio_s=5.0, n_streams=2, live=False) == []


def test_a_loop_that_stands_starves_it() -> None:
    day = Day()
    day.run(5, audio_s=1.0)
    complaints = day.run(30, turned_s=day.now)
    assert len(complaints) == 16
    assert "has not turned" in complaints[0]


def test_no_card_for_ten_minutes_is_alive_while_it_is_tried() -> None:
    day = Day()
    day.run(20, audio_s=1.0, n_slots=1)
    for _ in range(20):
        assert day.run(1, state="waiting", n_retries=1) == []
        assert day.run(29, state="waiting") == []


def test_a_waiting_source_that_nobody_tries_starves_it() -> None:
    day = Day()
    day.run(1, state="waiting", n_retries=1)
    assert day.run(int(RETRY_S), state="waiting") == []
    assert "nothing was tried" in day.run(5, state="waiting")[-1]


def test_a_pause_that_was_asked_for_is_alive() -> None:
    assert Day().run(3600, state="waiting", paused=True) == []


def test_a_refused_source_is_declared_and_alive() -> None:
    assert Day().run(3600, state="refused", audio_s=1.0) == []


def test_samples_that_stop_undeclared_starve_it_if_they_are_live() -> None:
    day = Day()
    day.run(30, audio_s=1.0, n_slots=1)
    assert "no sample came" in day.run(20)[-1]
    pipe = Day()
    pipe.run(30, audio_s=1.0, n_slots=1, live=False)
    assert pipe.run(600) == []


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A service manager's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(tmp_path / "notify"))
        s.settimeout(PATIENCE_S)
        yield s


BROKEN = """
import sys
from daemon import grid
due = grid.Grid.due
def none(self, end):
    return iter(()) if end > 12 * 2000 else due(self, end)
grid.Grid.due = none
from daemon.cli import main
sys.exit(main())
"""


def _words(manager: socket.socket, seconds: float) -> list[str]:
    """What is said within ``seconds``."""
    end, said = time.monotonic() + seconds, []
    while (left := end - time.monotonic()) > 0:
        manager.settimeout(left)
        try:
            said.append(manager.recv(4096).decode().split("\n")[0])
        except TimeoutError:
            break
    return said


def _start(manager: socket.socket, tmp_path: Path, *command: str) -> subprocess.Popen[bytes]:
    env = {**os.environ, "NOTIFY_SOCKET": str(manager.getsockname()), "WATCHDOG_USEC": "2000000"}
    words = ["run", "--source", "ocean", "--fs", "2000", "--quiet", "--publish", f"ipc://{tmp_path}/out"]
    return subprocess.Popen([sys.executable, *command, *words], env=env, cwd=ROOT, stderr=subprocess.PIPE)


def test_ready_then_signs_of_life_then_stopping(manager: socket.socket, tmp_path: Path) -> None:
    with _start(manager, tmp_path, "-m", "daemon") as process:
        said = [manager.recv(4096).decode().split("\n")[0]]
        while said.count("WATCHDOG=1") < 3:
            said.append(manager.recv(4096).decode().split("\n")[0])
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)
        said += _words(manager, 0.2)
    assert process.returncode == 0
    said = [words for words in said if not words.startswith("STATUS=")]  # these may come at any time
    assert said[0] == "READY=1"
    assert said[-1] == "STOPPING=1"
    assert set(said[1:-1]) == {"WATCHDOG=1"}


def test_a_daemon_whose_windows_stop_falls_silent(manager: socket.socket, tmp_path: Path) -> None:
    with _start(manager, tmp_path, "-c", BROKEN) as process:
        try:
            assert "WATCHDOG=1" in _words(manager, 8.0)
            assert "no window of it was told" in _until(process, "no window")
            _words(manager, 1.0)
            signs = [words for words in _words(manager, 3.0) if not words.startswith("STATUS=")]
            assert signs == []  # longer than the watchdog waits
        finally:
            process.kill()
            more = process.communicate()[1].decode()
    assert "no sign of life" not in more  # said once, though the seconds grow


def _until(process: subprocess.Popen[bytes], text: str) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line.decode():
            return line.decode()
    return ""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("jackd") is None, reason="jackd2 is not installed ('make system')")
def test_no_card_for_ten_minutes_is_waited_for_and_told(manager: socket.socket, tmp_path: Path) -> None:
    watchdog_s, status = 10.0, tmp_path / "status.json"
    settings = tmp_path / "tonald.toml"
    settings.write_text(
        f'[source]\nkind = "device"\ndevice = "no such card"\non_absent = "wait"\n[status]\nfile = "{status}"\n'
        f'[publish]\nendpoints = ["ipc://{tmp_path}/out"]\n'
    )
    env = {**os.environ, "NOTIFY_SOCKET": str(manager.getsockname()), "WATCHDOG_USEC": f"{watchdog_s * 1e6:.0f}"}
    words = ["run", "--config", str(settings), "--quiet"]
    with subprocess.Popen(
        [sys.executable, "-m", "daemon", *words], env=env, cwd=ROOT, stderr=subprocess.PIPE
    ) as process:
        try:
            end, signs, states = time.monotonic() + 600.0, [time.monotonic()], set()
            manager.settimeout(1.0)
            while time.monotonic() < end:
                with contextlib.suppress(TimeoutError):
                    if manager.recv(4096).startswith(b"WATCHDOG=1"):
                        signs.append(time.monotonic())
                if status.exists():
                    states.add(read_status(status)["state"])
            assert process.poll() is None
            told = read_status(status)
        finally:
            process.terminate()
            _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, errors.decode()
    assert states <= {"starting", "running", "waiting"}
    assert told["state"] == "waiting"
    assert told["problems"][0].startswith("source card is waiting")
    assert len(signs) > 600.0 / watchdog_s
    assert max(b - a for a, b in itertools.pairwise(signs)) < watchdog_s  # systemd would have let it live
