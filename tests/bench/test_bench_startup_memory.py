"""Start-up and memory are measured on the real daemon, and the sums are right."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from daemon.cli import main
from daemon.commands.bench_words import Target
from daemon.measure.memory import Reading, read_process, summary
from daemon.measure.startup import measure_startup, split, write_recording
from models.errors import EngineError


def test_parts_of_the_start_follow_one_another_and_add_up(tmp_path: Path) -> None:
    write_recording(tmp_path / "sound.wav", 8000, 1, 10.0)
    measured = measure_startup(tmp_path, tmp_path / "sound.wav", engine="auto", n_runs=1)
    (parts,) = measured["parts"]
    assert sum(v for name, v in parts.items() if name != "total") == pytest.approx(parts["total"])
    assert all(v >= 0.0 for v in parts.values())
    # each of these takes work that cannot be done in no time
    for part in (
        "interpreter",
        "imports",
        "bundle loaded and hashed",
        "engine built",
        "golden outputs",
        "first window",
    ):
        assert parts[part] > 0.0, part
    assert measured["plain_s"][0] > 0.0


def test_a_daemon_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"no window: tonald: .*nowhere\.wav"):
        measure_startup(tmp_path, tmp_path / "nowhere.wav", engine="auto", n_runs=1)


def test_split_takes_what_lies_within_out_of_what_lies_around() -> None:
    told = {
        "interpreter": 1.0, "imports": 2.0, "source opened": 3.0, "bundle loaded and hashed": 4.0,
        "engine, in all": 11.0, "golden outputs": 5.0, "start, in all": 20.0, "first window": 7.0, "total": 32.0,
    }  # fmt: skip
    parts = split(told)
    assert parts["engine built"] == 6.0
    assert parts["stages, publisher"] == 2.0
    assert parts["words, settings"] == 2.0
    assert sum(parts.values()) == 2 * parts["total"]


def test_threads_and_files_of_a_process_are_seen() -> None:
    before = read_process(os.getpid(), 0.0)
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    fd = os.open(os.devnull, os.O_RDONLY)
    thread.start()
    try:
        after = read_process(os.getpid(), 1.0)
    finally:
        stop.set()
        thread.join()
        os.close(fd)
    assert after.n_threads == before.n_threads + 1
    assert after.n_files == before.n_files + 1
    assert after.rss > 10_000_000


def test_growth_is_counted_after_warming_up() -> None:
    def at(audio_s: float, rss: float, n_threads: int = 5) -> Reading:
        return Reading(audio_s, round(rss), n_threads, 9)

    warm = [at(36.0 * (k + 1), 1e6 * k, n_threads=k) for k in range(3)]
    steady = [at(36.0 * (k + 1), 200e6) for k in range(3, 100)]
    told = summary(warm + steady)
    assert (told["rss_mb"], told["growth_percent"]) == (pytest.approx(200.0), pytest.approx(0.0))
    assert told["n_threads"] == [5, 5]
    leaking = [at(36.0 * (k + 1), 200e6 * (1 + k / 1000), n_threads=5 + (k > 50)) for k in range(100)]
    told = summary(leaking)
    assert 7.0 < told["growth_percent"] < 10.0
    assert told["n_threads"] == [5, 6]
    assert told["peak_mb"] == pytest.approx(200 * 1.099)


@pytest.mark.slow
def test_memory_command_runs_the_daemon_to_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.json"
    words = ["--fs", "8000", "--channels", "2", "--seconds", "30", "--json", str(out)]
    assert main(["bench", "memory", *words]) == 0
    found = json.loads(out.read_text())
    assert found["n_windows_heard"] == 2 * 22  # of 30 s, a window of 8.4 s each second from its end on
    assert len(found["readings"]) == 30
    assert 50.0 < found["rss_mb"] <= found["peak_mb"]
    assert capsys.readouterr().out.count("target at most") == 4


@pytest.mark.slow
def test_startup_command_tells_parts_and_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "s.json"
    assert main(["bench", "startup", "--fs", "8000", "--channels", "1", "--runs", "1", "--json", str(out)]) == 0
    found = json.loads(out.read_text())
    assert found["targets"][0]["value"] == found["start_to_first_window_s"]
    told = capsys.readouterr().out
    assert all(part in told for part in found["parts_s"])
    assert ("MET" in told) == found["targets"][0]["met"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["startup", "--runs", "0"], 64), (["startup", "--json", "/no/such/f"], 66),
        (["memory", "--seconds", "1"], 64), (["memory", "--channels", "0"], 64), (["memory", "--json", "/no/f"], 66),
    ],
)  # fmt: skip
def test_bad_words_are_refused(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == code
    assert capsys.readouterr().err.startswith("tonald: ")


def test_a_target_is_met_or_missed() -> None:
    assert Target("x", 2.0, 2.0, "s").to_dict() == {"what": "x", "value": 2.0, "at_most": 2.0, "unit": "s", "met": True}
    assert not Target("x", 2.1, 2.0, "s").met
