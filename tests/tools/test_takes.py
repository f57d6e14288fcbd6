"""What is on disk is what was captured: each sample, each gap, each time; a full disk is told, never hidden."""

from __future__ import annotations

import itertools
import json
import resource
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.cli import main
from daemon.frames import AudioBlock, ClockState, ClockUpdate, Event, Gap, StreamEnd, StreamStart
from daemon.recording import Recording
from daemon.sources.audio_file import AudioFileSource
from daemon.takes.side_car import Stamp, read_take
from daemon.takes.take_file import exact_in_24_bits
from daemon.takes.take_writer import TakeWriter
from models.errors import InputError

soundfile = pytest.importorskip("soundfile", reason="the audio extra is not installed")

FS = 8000
STAMP = Stamp("vessel", "0123456789abcdef", "0.1.0")
T0 = 1_795_456_730_000_000_000


def start(epoch: int = 0, channels: tuple[str, ...] = ("ch0", "ch1"), t0: int | None = T0) -> StreamStart:
    return StreamStart("card", epoch, FS, channels, "a card", t0, ClockState("system"))


def sound(n: int, n_channels: int = 2, bits: int = 24, seed: int = 0) -> np.ndarray:
    """Whole numbers of so many bits, as an ADC gives them, both ends of the scale among them."""
    most = 1 << (bits - 1)
    x = np.random.default_rng(seed).integers(-most, most, (n_channels, n))
    x[:, 0], x[:, -1] = -most, most - 1
    return (x / most).astype(np.float32)


def block(first: int, x: np.ndarray, epoch: int = 0) -> AudioBlock:
    return AudioBlock("card", epoch, first, FS, x)


def written(folder: Path, events: list[Event], **more: float) -> list[tuple[Path, object]]:
    folder.mkdir(exist_ok=True)
    with TakeWriter(folder, STAMP, file_s=more.get("file_s", 600.0)) as writer:
        for event in events:
            writer.process(event)
    return writer.done


def write_and_close(writer: TakeWriter, event: Event) -> None:
    writer.process(event)
    writer.close("end")


def samples(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="float32", always_2d=True)[0].T


@pytest.mark.parametrize("bits", [8, 16, 24])
def test_whole_numbers_are_kept_in_flac_to_the_last_bit(tmp_path: Path, bits: int) -> None:
    x = sound(5000, bits=bits)
    assert exact_in_24_bits(x)
    ((path, take),) = written(tmp_path, [start(), block(0, x), StreamEnd("card", 0, 5000)])
    assert path.suffix == ".flac"
    np.testing.assert_array_equal(samples(path), x)
    assert (take.first_sample, take.n_samples, take.ended) == (0, 5000, "end of the stream")
    assert read_take(path) == take


@pytest.mark.parametrize(
    "odd", [np.float32(1e-9), np.float32(-0.0), np.float32(np.nan), np.float32(1.0), np.float32(np.inf)]
)
def test_what_24_bits_do_not_hold_goes_to_floats(tmp_path: Path, odd: np.float32) -> None:
    x = sound(5000)
    y = x.copy()
    y[1, 777] = odd
    done = written(tmp_path, [start(), block(0, x), block(5000, y)])
    assert [p.suffix for p, _ in done] == [".flac", ".wav"]
    assert samples(done[1][0]).tobytes() == y.tobytes()
    assert done[1][1].began == "24 bits do not hold what follows"
    assert done[1][1].n_missing_before == 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cuts=st.lists(st.integers(1, 1999), max_size=6, unique=True).map(sorted),
    holes=st.sets(st.integers(0, 6)), file_s=st.sampled_from([0.01, 0.05, 1.0]),
)  # fmt: skip
def test_gaps_split_files_and_every_sample_is_accounted_for(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], holes: set[int], file_s: float
) -> None:
    x, events, edges = sound(2000), [start()], [0, *cuts, 2000]
    kept = np.ones(2000, bool)
    for k, (a, b) in enumerate(itertools.pairwise(edges)):
        if k in holes:
            kept[a:b] = False
            events.append(Gap("card", 0, a, b - a, 0, 0, "the card lost samples"))
        else:
            events.append(block(a, x[:, a:b]))
    done = written(tmp_path_factory.mktemp("takes"), [*events, StreamEnd("card", 0, 2000)], file_s=file_s)
    at = 0
    for path, take in done:
        assert kept[take.first_sample : take.first_sample + take.n_samples].all()
        np.testing.assert_array_equal(samples(path), x[:, take.first_sample : take.first_sample + take.n_samples])
        assert take.first_sample - at == (take.n_missing_before or 0)
        assert take.t_first_sample_ns == T0 + take.first_sample * 125_000
        at = take.first_sample + take.n_samples
    assert sum(take.n_samples for _, take in done) == kept.sum()


def test_a_step_of_the_clock_begins_a_file_with_the_new_time(tmp_path: Path) -> None:
    x = sound(4000)
    step = ClockUpdate("card", 0, 2000, T0 + 3_600_000_000_000, ClockState("system", n_steps=1), "stepped")
    done = written(tmp_path, [start(), block(0, x[:, :2000]), step, block(2000, x[:, 2000:])])
    assert [t.t_first_sample_ns for _, t in done] == [T0, T0 + 3_600_000_000_000]
    assert [t.n_missing_before for _, t in done] == [None, 0]


def test_blocks_passed_over_are_a_gap_and_epochs_are_apart(tmp_path: Path) -> None:
    x = sound(1000)
    events = [start(), block(0, x), block(1500, x), StreamEnd("card", 0, 2500), start(1), block(0, x, 1)]
    done = written(tmp_path, events)
    assert [(t.epoch, t.first_sample, t.n_missing_before) for _, t in done] == [
        (0, 0, None),
        (0, 1500, 500),
        (1, 0, None),
    ]


def test_stream_without_time_is_named_so_and_nothing_is_written_over(tmp_path: Path) -> None:
    x = sound(1000)
    for _ in range(2):
        ((path, take),) = written(tmp_path, [start(t0=None), block(0, x)])
        assert take.t_first_sample_ns is None
        assert path.name.startswith("notime-")
    assert len(list(tmp_path.glob("*.flac"))) == len(list(tmp_path.glob("*.json"))) == 2
    assert list(tmp_path.glob("*.part")) == []


def test_joined_again_the_files_are_the_stream_with_its_gap(tmp_path: Path) -> None:
    x = sound(24_000)
    gap = Gap("card", 0, 9000, 1234, 0, 0, "lost")
    written(tmp_path, [start(), block(0, x[:, :9000]), gap, block(10_234, x[:, 10_234:])], file_s=0.3)
    source, got, missing = AudioFileSource(tmp_path, join=True), np.zeros_like(x), []
    while not isinstance(event := source.read(1.0), StreamEnd):
        if isinstance(event, AudioBlock):
            got[:, event.first_sample : event.first_sample + event.n_samples] = event.x
        if isinstance(event, Gap):
            missing.append((event.first_sample, event.n_missing))
    assert missing == [(9000, 1234)]
    got[:, 9000:10_234] = x[:, 9000:10_234]
    np.testing.assert_array_equal(got, x)


def test_columns_are_found_by_the_names_in_the_side_car(tmp_path: Path) -> None:
    x = sound(1000)
    ((path, _),) = written(tmp_path, [start(channels=("ch3", "ch1")), block(0, x)])
    with Recording(path) as recording:
        np.testing.assert_array_equal(recording.read(10, 50, "ch1"), x[1, 10:60])
        np.testing.assert_array_equal(recording.read(10, 50, "ch3"), x[0, 10:60])


@pytest.mark.parametrize("odd", [0.0, 1e-9])
def test_disk_that_takes_no_more_is_an_error_and_nothing_half_stays(tmp_path: Path, odd: float) -> None:
    x = sound(200_000)
    x[0, 1] = odd  # FLAC, or floats
    with TakeWriter(tmp_path, STAMP, file_s=600.0) as writer:
        writer.process(start())
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
        try:
            with pytest.raises(InputError, match="cannot be written"):
                write_and_close(writer, block(0, x))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert list(tmp_path.iterdir()) == []
        writer.process(block(200_000, x))
    ((_, take),) = writer.done
    assert (take.first_sample, take.n_missing_before) == (200_000, 200_000)


def test_damaged_side_car_is_named(tmp_path: Path) -> None:
    ((path, _),) = written(tmp_path, [start(), block(0, sound(1000))])
    body = json.loads(path.with_suffix(".json").read_text())
    del body["first_sample"]
    path.with_suffix(".json").write_text(json.dumps(body))
    with pytest.raises(InputError, match="is damaged: 'first_sample'"):
        read_take(path)


def test_record_command_writes_what_the_file_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = sound(20_000, bits=16)
    soundfile.write(tmp_path / "in.wav", x.T, FS, subtype="PCM_16")
    out = tmp_path / "out"
    words = [
        "record",
        "--source",
        str(tmp_path / "in.wav"),
        "--out",
        str(out),
        "--seconds",
        "2",
        "--file-seconds",
        "1.5",
    ]
    assert main(words) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-1].startswith("2.000 s in 2 files")
    files = sorted(out.glob("*.flac"))
    np.testing.assert_array_equal(np.concatenate([samples(f) for f in files], axis=1), x[:, :16_000])
    assert main(words) == 0  # the same folder again
    assert len(list(out.glob("*.flac"))) == 4


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--seconds", "-1"], 64, "positive number of seconds"),
        (["--source", "/nonexistent.wav"], 66, "no such file"),
        (["--seconds", "1e12"], 66, "MB are free"),
    ],
)
def test_record_refuses_what_cannot_be(
    tmp_path: Path, words: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["record", "--source", "ocean", "--out", str(tmp_path), *words]) == code
    assert said in capsys.readouterr().err
