"""The ends of the latency measurement: what is fed, when it came, when it was heard, and how these are joined."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from daemon.capacity import Bank, PacedSource
from daemon.cli import main
from daemon.frames import AudioBlock, ClockState, Skipped, StreamStart
from daemon.measure.fresh import command
from daemon.measure.latency import RING_BLOCK_S, Latencies, Measured, _join, write_audio
from daemon.publisher import Publisher
from daemon.records import Recorder
from daemon.sources.portaudio import PortAudioSource
from daemon.wire import Identity
from models.feature_spec import FeatureSpec

FS = 2000
N_BLOCK = round(RING_BLOCK_S * FS)


def bank(seconds: float = 3.0) -> Bank:
    rng = np.random.default_rng(0)
    kinds = (rng.standard_normal((2, round(FS * seconds))).astype(np.float32) for _ in range(2))
    return Bank(FS, *kinds)


def test_what_is_fed_is_what_capacity_hears(tmp_path: Path) -> None:
    n_blocks = write_audio(tmp_path / "a.npy", bank(), 4, 0.5, 0.5)
    audio = np.load(tmp_path / "a.npy")
    assert audio.shape == (n_blocks * N_BLOCK, 4)
    source = PacedSource(bank(), 4, 0.5, 0.5)
    assert isinstance(source.read(1.0), StreamStart)
    for k in range(5):
        block = source.read(1.0)
        assert isinstance(block, AudioBlock)
        np.testing.assert_array_equal(block.x, audio[200 * k : 200 * (k + 1)].T)


def test_feeder_writes_every_sample_into_the_ring_and_stamps_it_in_time(tmp_path: Path) -> None:
    n_blocks = write_audio(tmp_path / "a.npy", bank(), 2, 1.0, 0.4)
    stamps = np.lib.format.open_memmap(tmp_path / "s.npy", "w+", np.int64, (n_blocks,))
    begun = time.monotonic_ns()
    words = (str(tmp_path / "a.npy"), str(tmp_path / "s.npy"), str(FS), str(N_BLOCK))
    source = PortAudioSource("rendered", fs=FS, child=command("daemon.measure.feeder", *words))
    try:
        blocks: list[AudioBlock] = []
        deadline = time.monotonic() + 60.0
        while sum(b.n_samples for b in blocks) < n_blocks * N_BLOCK and time.monotonic() < deadline:
            event = source.read(0.25)
            if isinstance(event, AudioBlock):
                blocks.append(event)
                end = event.first_sample + event.n_samples
                # what was read had been written, and what the stamp of its block says lies behind us
                assert stamps[end // N_BLOCK - 1] <= time.monotonic_ns()
    finally:
        source.close()
    np.testing.assert_array_equal(np.concatenate([b.x for b in blocks], axis=1), np.load(tmp_path / "a.npy").T)
    assert [b.first_sample for b in blocks] == list(np.cumsum([0, *(b.n_samples for b in blocks[:-1])]))
    assert stamps[0] > begun
    assert (np.diff(stamps) > 0).all()
    # never before its sound is over
    assert (stamps - stamps[0] >= np.arange(n_blocks) * RING_BLOCK_S * 1e9 - 50e6).all()


def test_listener_notes_each_message_after_it_was_put(tmp_path: Path) -> None:
    identity = Identity.new("test", "0" * 16)
    heard = tmp_path / "heard.jsonl"
    put: list[int] = []
    recorder = Recorder(identity, FeatureSpec(), ("a", "ambient"))
    list(recorder.process(StreamStart("s", 0, FS, ("ch0",), "test", None, ClockState())))
    with Publisher(identity, (f"ipc://{tmp_path}/out",)) as publisher:
        listener = subprocess.Popen(
            command("daemon.measure.listener", publisher.endpoints[0], str(heard)), stdin=subprocess.PIPE
        )
        assert listener.stdin is not None
        assert publisher.wait_for_subscriber(60.0)
        for k in range(5):
            put.append(time.monotonic_ns())
            for message in recorder.process(Skipped("s", "ch0", 0, k, 100 * k, 1000, FS, "gap", 7)):
                publisher.put(message, wait=True)
        assert publisher.flush(60.0)
        deadline = time.monotonic() + 60.0
        while heard.read_text().count("\n") < 5 and time.monotonic() < deadline:
            time.sleep(0.05)
        listener.stdin.close()
        assert listener.wait(60.0) == 0
    rows = [json.loads(line) for line in heard.read_text().splitlines()]
    assert [r[:5] for r in rows[:-1]] == [["window", "ch0", 0, 100 * k, 1000] for k in range(5)]
    assert rows[-1] == ["lost", 0]
    assert all(r[5] > t for r, t in zip(rows, put, strict=False))


def test_join_takes_the_last_message_of_a_window_and_the_block_with_its_last_sample(tmp_path: Path) -> None:
    heard = tmp_path / "heard.jsonl"
    rows = [
        ["window", "ch0", 0, 0, 100, 5_000_000], ["signature", "ch0", 0, 0, 100, 7_000_000],
        ["window", "ch1", 0, 0, 100, 6_000_000], ["window", "ch1", 1, 50, 100, 9_000_000],
        ["window", "ch2", 0, 0, 80, 9_500_000], ["lost", 3],
    ]  # fmt: skip
    heard.write_text("".join(json.dumps(r) + "\n" for r in rows))
    stamps = np.arange(1, 9, dtype=np.int64) * 1_000_000  # block k of 40 samples is whole at k + 1 ms
    ways = {("ch0", 0): (3_500_000, 4_000_000), ("ch1", 0): (3_500_000, 4_500_000), ("ch1", 50): (1, 2)}
    found = Latencies(2, 0.5, 1.0, 4)
    _join(found, ways, heard, stamps, 40)
    assert found.windows == [
        Measured(3_000_000, 3_500_000, 4_000_000, 7_000_000, True),
        Measured(3_000_000, 3_500_000, 4_500_000, 6_000_000, False),
    ]
    told = found.to_dict()
    assert told["n_lost_messages"] == 3
    assert (told["p50_ms"], told["max_ms"]) == (3.5, 4.0)
    assert told["parts_p50_ms"] == {"ring to daemon": 0.5, "daemon": 0.75, "ZeroMQ to subscriber": 2.25}


@pytest.mark.slow
def test_command_hears_every_window(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "l.json"
    words = ["--fs", "8000", "--channels", "2", "--seconds", "12", "--json", str(out)]
    assert main(["bench", "latency", *words]) == 0
    found = json.loads(out.read_text())
    for run in found["runs"].values():
        assert run["n_windows"] == run["n_expected"] == 2 * 4
        assert run["n_lost_messages"] == run["n_gaps"] == 0
        assert 0.0 < run["p50_ms"] <= run["p99_ms"]
    assert capsys.readouterr().out.count("target at most") == 4 == len(found["targets"])


@pytest.mark.parametrize(
    ("words", "code"), [(["--seconds", "3"], 64), (["--channels", "0"], 64), (["--json", "/no/such/f"], 66)]
)
def test_bad_words_are_refused(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "latency", *words]) == code
    assert capsys.readouterr().err.startswith("tonald: ")
