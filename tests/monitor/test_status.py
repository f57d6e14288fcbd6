"""What the daemon says of itself: whole at any moment, true to what happened, and old when nobody writes it."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.cli import main
from daemon.config import Config, EngineConfig, MetricsConfig, PublishConfig, SourceConfig, StatusConfig
from daemon.monitor import status_file
from daemon.monitor.health import problems_and_notes
from daemon.monitor.monitor import Monitor
from daemon.monitor.snapshot import boot_id
from daemon.monitor.status_file import STALE_S, read_status, stale_words, status_path, write_status
from daemon.service import Service
from models.errors import ConfigError, InputError

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not until():
        assert time.monotonic() < end
        time.sleep(0.02)


def settings(tmp_path: Path, **source: object) -> Config:
    return Config(
        node="aft",
        source=SourceConfig(**({"kind": "simulated", "n_channels": 2, "max_speed": True, "duration_s": 20.0} | source)),
        engine=EngineConfig(name="onnxruntime", n_threads=1),
        publish=PublishConfig(endpoints=(f"ipc://{tmp_path}/out",)),
        status=StatusConfig(file=str(tmp_path / "status.json")),
    )


@pytest.fixture
def lived(tmp_path: Path) -> Iterator[tuple[Service, Monitor, Path]]:
    """A daemon that has analysed 20 s of two channels and is not stopped yet."""
    config = settings(tmp_path)
    service = Service(config)
    with Monitor(config) as monitor:
        service.start()
        monitor.listening(service)
        assert service.finished.wait(PATIENCE_S)
        wait(lambda: read_status(tmp_path / "status.json").get("sources", {}).get("ocean", {}).get("state") == "ended")
        yield service, monitor, tmp_path / "status.json"
        service.stop()


def test_the_file_says_what_happened(lived: tuple[Service, Monitor, Path]) -> None:
    service, _, path = lived
    told = read_status(path)
    counts = service.counts
    assert told["counts"]["n_windows"] == counts.n_windows > 0
    assert told["node"] == "aft"
    assert told["sources"]["ocean"]["n_samples"] == round(counts.audio_s * told["sources"]["ocean"]["fs"])
    assert told["sources"]["ocean"]["state"] == "ended"
    assert sum(w["outcomes"]["analysed"] for w in told["windows"].values()) == counts.n_windows
    assert sum(n for *_, n in told["signatures"]) == counts.n_signatures > 0
    assert sum(n for _, event, n in told["contacts"] if event == "start") == counts.n_contacts
    assert set(told["channels"]) == {"ch0", "ch1"}
    assert told["bundle"]["id"] == service.in_force.bundle.id
    assert told["engine"]["name"] == "onnxruntime"
    assert sum(told["engine_calls"]["classify"]["n_at"]) > 0
    assert told["publish"]["n_sent"] > counts.n_windows
    assert told["process"]["rss_bytes"] > 50e6
    assert told["healthy"] is True
    assert path.stat().st_mode & 0o777 == 0o644
    assert not path.with_name(f".{path.name}.new").exists()


def test_its_last_word_is_how_it_ended(tmp_path: Path) -> None:
    for error in (None, RuntimeError("the sea is gone")):
        config = settings(tmp_path)
        service = Service(config)
        monitor = Monitor(config)
        service.start()
        monitor.listening(service)
        monitor.stopping()
        service.stop()
        monitor.close(error)
        monitor.close(error)
        told = read_status(tmp_path / "status.json")
        assert told["state"] == ("stopped" if error is None else "failed")
        assert told["failure"] == (None if error is None else "the sea is gone")
        assert not told["healthy"]
    assert not [t for t in threading.enumerate() if t.name in ("monitor", "metrics")]


def test_a_start_that_takes_long_or_fails_is_told(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    monitor = Monitor(settings(tmp_path))
    wait(path.exists)
    monitor.doing("building a plan, layer 3 of 9")
    wait(lambda: "layer 3 of 9" in read_status(path)["problems"][0])
    first = read_status(path)
    assert first["state"] == "starting"
    wait(lambda: read_status(path)["written_monotonic_s"] > first["written_monotonic_s"])
    assert monitor.line() == "starting: building a plan, layer 3 of 9"
    assert main(["status", str(path)]) == 1
    monitor.close(ConfigError("no such card"))
    assert read_status(path)["state"] == "failed"
    assert read_status(path)["failure"] == "no such card"
    assert main(["status", str(path)]) == 3


def test_a_reader_never_sees_half_a_file(lived: tuple[Service, Monitor, Path]) -> None:
    _, monitor, path = lived
    told, path = monitor.look(), path.with_name("another.json")
    write_status(path, told)
    over = threading.Event()
    wrong: list[str] = []
    n_read = 0

    def read() -> None:
        nonlocal n_read
        while not over.is_set():
            if json.loads(path.read_bytes())["schema"] != "tonald.status":
                wrong.append("schema")
            n_read += 1

    reader = threading.Thread(target=read)
    reader.start()
    for n in range(300):
        write_status(path, told | {"notes": ["x" * (n * 100)]})
    wait(lambda: n_read > 50)
    over.set()
    reader.join()
    assert wrong == []


def test_a_file_that_cannot_be_written_is_said_and_keeps_nobody_from_listening(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = dataclasses.replace(settings(tmp_path), status=StatusConfig(file=str(tmp_path / "absent" / "s.json")))
    service = Service(config)
    with Monitor(config) as monitor:
        service.start()
        monitor.listening(service)
        assert service.finished.wait(PATIENCE_S)
        service.stop()
    service.raise_failure()
    assert service.counts.n_windows > 0
    assert "absent/s.json: cannot be written: No such file or directory; the last one grows old" in caplog.text


def test_a_link_in_the_place_of_the_fresh_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".s.json.new").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"):
        write_status(tmp_path / "s.json", {})
    assert victim.read_text() == "mine"


def test_where_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    assert status_path(Config()) is None
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/tonald:/run/other")
    assert status_path(Config()) == Path("/run/tonald/status.json")
    assert status_path(Config(status=StatusConfig(file="/x/y.json"))) == Path("/x/y.json")


# what it is worth


def test_old_ones_are_not_believed(
    lived: tuple[Service, Monitor, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, monitor, _ = lived
    told, path = monitor.look() | {"problems": [], "healthy": True}, tmp_path / "other.json"
    assert stale_words(told) is None
    write_status(path, told)
    assert main(["status", str(path)]) == 0
    old = told | {"written_monotonic_s": told["written_monotonic_s"] - STALE_S - 5}
    write_status(path, old)
    assert main(["status", str(path)]) == 3
    out = capsys.readouterr().out
    assert "STALE     it was written 15 s ago" in out
    write_status(path, told | {"boot_id": "another"})
    assert main(["status", str(path), "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["stale"] == "it was written before the machine was last started"
    assert boot_id() == told["boot_id"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no such file"),
        (b"", "is no status file"),
        (b"{", "is no status file"),
        (b"[]", "is no status file of tonald"),
        (b'{"schema": "x"}', "is no status file of tonald"),
        (b'{"schema": "tonald.status", "v": 2}', "is version 2, this tonald reads 1"),
        (b"[" * 100_000, "is no status file"),
        (b"\xff\xfe", "is no status file"),
    ],
)
def test_what_is_no_status_is_refused_in_one_line(
    tmp_path: Path, content: bytes | None, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "s.json"
    if content is not None:
        path.write_bytes(content)
    assert main(["status", str(path)]) == 66
    err = capsys.readouterr().err
    assert says in err
    assert len(err.strip().splitlines()) == 1


def test_settings_name_the_file_for_the_command(
    lived: tuple[Service, Monitor, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "t.toml"
    config.write_text(f'[status]\nfile = "{lived[2]}"\n')
    assert main(["status", "--config", str(config)]) == 0
    out = capsys.readouterr().out
    for begins in ("state     running, healthy", "daemon    aft", "source    ocean is ended", "channel   ch1: ok",
                   "heard     2", "engine    onnxruntime", "publish   ipc://", "process "):  # fmt: skip
        assert begins in out


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A snapshot in which nothing is wrong."""
    folder = tmp_path_factory.mktemp("well")
    config = settings(folder)
    service = Service(config)
    with Monitor(config) as monitor:
        service.start()
        monitor.listening(service)
        assert service.finished.wait(PATIENCE_S)
        told = monitor.look()
        service.stop()
    told["sources"]["ocean"]["state"] = "running"
    told["live"] = True
    assert problems_and_notes(told)[0] == []
    return told


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t["sources"]["ocean"].update(state="waiting", detail="unplugged"), "ocean is waiting (0 retries)"),
        (lambda t: t["sources"]["ocean"].update(samples_age_s=60.0), "no samples for 60 s, and it does not say why"),
        (lambda t: t["windows"]["ch0"].update(age_s=99.0), "channel ch0: no window for 99 s though sound comes"),
        (lambda t: t["channels"]["ch1"].update(state="bad", checks={"dead": "bad"}), "channel ch1 is bad: dead bad"),
        (lambda t: t.update(state="failed", failure="boom"), "the daemon is failed: boom"),
        (lambda t: t.update(sources={}, uptime_s=100.0), "no source has begun within 100 s"),
        (lambda t: t.update(journal={"problem": "disk full", "n_missed": 3}), "journal: disk full; 3 records not kept"),
    ],
)
def test_each_thing_that_is_wrong_is_a_problem(well: dict, change: Callable[[dict], None], says: str) -> None:
    told = copy.deepcopy(well)
    told["windows"]["ch0"]["age_s"] = told["windows"]["ch1"]["age_s"] = 0.5
    told["sources"]["ocean"]["samples_age_s"] = 0.1
    change(told)
    problems, _ = problems_and_notes(told)
    assert len(problems) == 1
    assert says in problems[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t["channels"]["ch1"].update(state="suspect", checks={"hum": "suspect"}), "ch1 is suspect: hum"),
        (lambda t: t["publish"].update(n_dropped=4), "4 messages dropped"),
        (lambda t: t["overload"].update(step=2, name="half"), "overload step 2 (half)"),
        (lambda t: t["clock"].update(synced=False), "not synchronised"),
        (lambda t: t["reload"].update(problem="no such bundle"), "not reloaded: no such bundle"),
        (lambda t: t["site"].update(problem="torn", words="torn; the bundle's"), "site calibration: torn"),
    ],
)
def test_what_is_worth_knowing_is_a_note(well: dict, change: Callable[[dict], None], says: str) -> None:
    told = copy.deepcopy(well)
    change(told)
    problems, notes = problems_and_notes(told)
    assert problems == []
    assert any(says in note for note in notes)


def test_numbers_that_json_does_not_know_become_null(tmp_path: Path) -> None:
    from daemon.monitor.snapshot import _finite

    assert _finite({"a": [float("nan"), (float("inf"), 1)], "b": 2.5}) == {"a": [None, [None, 1]], "b": 2.5}


def test_the_command_writes_it_from_the_first_second_to_the_last(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    config = tmp_path / "t.toml"
    config.write_text(
        f'[source]\nkind = "simulated"\n[status]\nfile = "{path}"\n[publish]\nendpoints = ["ipc://{tmp_path}/out"]\n'
    )
    daemon = subprocess.Popen(
        [sys.executable, "-m", "daemon", "run", "--config", str(config), "--quiet"],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        states: list[str] = []

        def seen(state: str) -> bool:
            if path.exists() and (now := read_status(path)["state"]) not in states:
                states.append(now)
            return state in states

        wait(lambda: seen("running"))
        assert read_status(path)["pid"] == daemon.pid
        daemon.send_signal(signal.SIGTERM)
        _, errors = daemon.communicate(timeout=PATIENCE_S)
    finally:
        daemon.kill()
        daemon.wait()
    assert daemon.returncode == 0, errors
    assert states[0] == "starting"
    assert read_status(path)["state"] == "stopped"


def test_a_daemon_that_cannot_start_says_why_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    config = tmp_path / "t.toml"
    config.write_text(f'bundle = "/nowhere"\n[status]\nfile = "{path}"\n')
    assert main(["run", "--config", str(config), "--quiet"]) == 79
    told = read_status(path)
    assert told["state"] == "failed"
    assert "/nowhere" in told["failure"]


def test_metrics_are_refused_where_others_could_read_them() -> None:
    for listen, says in (
        ("0.0.0.0:9265", "open to the network"), ("192.168.1.5:9265", "open to the network"),
        ("[::]:9265", "open to the network"), ("9265", "address and a port"), ("localhost", "address and a port"),
        ("127.0.0.1:99999", "address and a port"), ("127.0.0.1:0", "the port that is scraped"),
        ("999.0.0.1:80", "is no address"), ("evil.example:80", "address and a port"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=says):
            MetricsConfig(listen=listen)
    for listen in ("127.0.0.1:9265", "localhost:9265", "[::1]:9265", "127.5.0.1:80"):
        MetricsConfig(listen=listen)


def test_reading_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_file, "MAX_BYTES", 100)
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"schema": "tonald.status", "v": 1, "x": "y" * 1000}))
    with pytest.raises(InputError, match="no status file"):
        read_status(path)
