from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from daemon.frames import AudioBlock, Gap, SourceState, StreamEnd, StreamStart
from daemon.sources.audio_file import AudioFileSource
from models.errors import AudioFormatError, InputError

soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed (extra 'audio')")

FORMATS = {
    "wav": ("WAV", "PCM_16"), "flac": ("FLAC", "PCM_24"), "aiff": ("AIFF", "PCM_16"), "rf64": ("RF64", "PCM_16"),
    "w64": ("W64", "PCM_16"), "caf": ("CAF", "PCM_16"), "ogg": ("OGG", "VORBIS"),
}  # fmt: skip


def noise(n: int, n_channels: int = 1, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal((n, n_channels)) * 0.1).astype(np.float32)


def write(path: Path, n: int = 20_000, fs: int = 8000, n_channels: int = 1, kind: str = "wav", seed: int = 0) -> Path:
    container, subtype = FORMATS[kind]
    soundfile.write(path, noise(n, n_channels, seed), fs, format=container, subtype=subtype)
    return path


def drain(source: AudioFileSource) -> list:
    events = []
    while not (events and isinstance(events[-1], StreamEnd) and events[-1].final):
        event = source.read(0.0)
        assert event is not None
        events.append(event)
    assert source.read(0.0) is None
    source.close()
    source.close()
    return events


def audio(events: list) -> np.ndarray:
    return np.concatenate([e.x for e in events if isinstance(e, AudioBlock)], axis=1)


def of(kind: type, events: list) -> list:
    return [e for e in events if isinstance(e, kind)]


@pytest.mark.parametrize("kind", FORMATS)
def test_source_of_each_format_gives_every_sample_in_order(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"a.{kind}", n=20_001, n_channels=2, kind=kind)
    events = drain(AudioFileSource(path))
    expected = soundfile.read(path, dtype="float32")[0].T
    np.testing.assert_array_equal(audio(events), expected)
    start, *blocks, end = events
    assert start == StreamStart("file", 0, 8000, ("ch0", "ch1"), path.name)
    assert end == StreamEnd("file", 0, 20_001, final=True)
    position = 0
    for b in blocks:
        assert b.first_sample == position
        assert b.x.dtype == np.float32
        assert not b.x.flags.writeable
        position += b.n_samples


@pytest.mark.parametrize("kind", ["wav", "flac", "aiff", "rf64", "w64", "ogg"])
def test_source_of_truncated_file_gives_what_it_holds_then_says_so(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"a.{kind}", n=100_000, kind=kind)
    whole = soundfile.read(path, dtype="float32")[0]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    events = drain(AudioFileSource(path))
    x = audio(events)[0]
    assert 40_000 < len(x) < 60_000  # half the bytes are about half the samples
    np.testing.assert_array_equal(x, whole[: len(x)])
    assert "truncated" in events[-1].problem
    assert str(len(x)) in events[-1].problem or kind == "ogg"
    assert events[-1].n_samples == len(x)


def test_source_of_flac_damaged_within_gives_the_part_before(tmp_path: Path) -> None:
    path = write(tmp_path / "a.flac", n=100_000, kind="flac")
    whole = soundfile.read(path, dtype="float32")[0]
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    path.write_bytes(data)
    events = drain(AudioFileSource(path))
    x = audio(events)[0]
    assert len(x) > 40_000
    np.testing.assert_array_equal(x, whole[: len(x)])
    assert "damaged" in events[-1].problem


@pytest.mark.parametrize("content", [b"", b"this is a letter, not a recording\n" * 50])
def test_source_of_what_is_not_audio_is_refused_naming_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(AudioFormatError, match=r"a\.wav: not audio"):
        AudioFileSource(path)


def test_source_of_missing_path_or_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.wav: no such file"):
        AudioFileSource(tmp_path / "none.wav")
    with pytest.raises(InputError, match="holds no audio file"):
        AudioFileSource(tmp_path)


def test_source_with_channels_picks_them_in_order_without_downmix(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", n_channels=4)
    events = drain(AudioFileSource(path, channels=[3, 1]))
    np.testing.assert_array_equal(audio(events), soundfile.read(path, dtype="float32")[0].T[[3, 1]])
    assert events[0].channels == ("ch3", "ch1")


def test_source_with_absent_channel_names_file_channel_and_count(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", n_channels=2)
    with pytest.raises(AudioFormatError, match=r"a\.wav: there is no channel 2: it has 2 channels"):
        AudioFileSource(path, channels=[2])


def test_source_of_folder_goes_on_after_files_it_refuses(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "b.wav", n=1000, fs=2000)
    (tmp_path / "a.wav").write_text("no")
    (tmp_path / "c.flac").write_text("no")
    write(tmp_path / "sub" / "d.flac", n=3000, fs=48_000, n_channels=3, kind="flac")
    (tmp_path / "z.ogg").write_text("no")
    (tmp_path / "readme.txt").write_text("not looked at")
    events = drain(AudioFileSource(tmp_path))
    kinds = [type(e).__name__ for e in events if not isinstance(e, AudioBlock)]
    assert kinds == [
        "SourceState", "StreamStart", "StreamEnd", "SourceState", "StreamStart", "SourceState", "StreamEnd"
    ]  # fmt: skip
    assert [(s.label, s.fs, len(s.channels), s.epoch) for s in of(StreamStart, events)] == [
        ("b.wav", 2000, 1, 0), ("d.flac", 48_000, 3, 1)
    ]  # fmt: skip
    assert [e.n_samples for e in of(StreamEnd, events)] == [1000, 3000]
    assert all(s.state == "refused" and "not audio" in s.detail for s in of(SourceState, events))


def test_source_of_folder_without_any_usable_file_is_refused(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_text("no")
    with pytest.raises(AudioFormatError, match="none of 2 files"):
        AudioFileSource(tmp_path)


def test_source_of_float_file_passes_nan_and_inf_unchanged(tmp_path: Path) -> None:
    x = noise(5000)[:, 0]
    x[100], x[200] = np.nan, np.inf
    soundfile.write(tmp_path / "a.wav", x, 8000, subtype="FLOAT")
    np.testing.assert_array_equal(audio(drain(AudioFileSource(tmp_path / "a.wav")))[0], x)


def test_source_with_time_in_name_says_when_and_by_which_clock(tmp_path: Path) -> None:
    start = AudioFileSource(write(tmp_path / "20220925T223450.wav")).read(0.0)
    assert start.t_first_sample_ns == 1_664_145_290 * 10**9
    assert start.clock.source == "file"
    start = AudioFileSource(write(tmp_path / "a.wav")).read(0.0)
    assert start.t_first_sample_ns is None
    assert start.clock.source == "none"


def joined(tmp_path: Path, *offsets_s: float, n: int = 20_000, fs: int = 8000) -> list[Path]:
    paths = []
    for i, t in enumerate(offsets_s):
        path = write(tmp_path / f"{i}.wav", n=n, fs=fs, seed=i)
        path.with_suffix(".json").write_text(json.dumps({"t_first_sample_ns": round(1e18 + t * 1e9)}))
        paths.append(path)
    return paths


def test_joined_source_puts_files_on_one_grid_with_exact_gaps(tmp_path: Path) -> None:
    paths = joined(tmp_path, 0.0, 2.5, 6.0)  # 2.5 s each: the second follows at once, the third 1 s late
    events = drain(AudioFileSource(paths, join=True))
    assert len(of(StreamStart, events)) == len(of(StreamEnd, events)) == 1
    (gap,) = of(Gap, events)
    assert (gap.first_sample, gap.n_missing, gap.duration_ns) == (40_000, 8000, 10**9)
    assert events[-1].n_samples == 68_000
    grid = np.full(68_000, np.nan, np.float32)
    for b in of(AudioBlock, events):
        grid[b.first_sample : b.first_sample + b.n_samples] = b.x[0]
    for path, at in zip(paths, (0, 20_000, 48_000), strict=True):
        np.testing.assert_array_equal(grid[at : at + 20_000], soundfile.read(path, dtype="float32")[0])


def test_joined_source_with_file_cut_short_widens_the_gap(tmp_path: Path) -> None:
    paths = joined(tmp_path, 0.0, 2.5)
    data = paths[0].read_bytes()
    paths[0].write_bytes(data[:-2000])  # 1000 samples of 16 bit
    events = drain(AudioFileSource(paths, join=True))
    (gap,) = of(Gap, events)
    assert (gap.first_sample, gap.n_missing) == (19_000, 1000)
    assert "truncated" in gap.reason
    assert "0.wav: truncated" in events[-1].problem


def test_joined_source_refuses_overlap_unknown_time_and_unequal_rates(tmp_path: Path) -> None:
    with pytest.raises(AudioFormatError, match=r"1\.wav: cannot be joined, it begins 0\.500 s before"):
        AudioFileSource(joined(tmp_path, 0.0, 2.0), join=True)
    paths = joined(tmp_path, 0.0, 3.0)
    paths[1].with_suffix(".json").unlink()
    with pytest.raises(AudioFormatError, match=r"1\.wav: cannot be joined, its start time is unknown"):
        AudioFileSource(paths, join=True)
    paths = joined(tmp_path, 0.0, 3.0)
    write(paths[1], fs=16_000)
    with pytest.raises(AudioFormatError, match="16000 Hz, 1 channel"):
        AudioFileSource(paths, join=True)


def test_realtime_source_gives_a_block_only_when_its_samples_are_over(tmp_path: Path) -> None:
    now = [0]
    slept = []

    def sleep(s: float) -> None:
        slept.append(s)
        now[0] += round(s * 1e9)

    source = AudioFileSource(
        write(tmp_path / "a.wav", n=8000), realtime=True, block_s=0.25, monotonic_ns=lambda: now[0], sleep=sleep
    )
    assert isinstance(source.read(0.1), StreamStart)
    assert source.read(0.1) is None
    assert now[0] == 100_000_000
    block = source.read(1.0)
    assert block.n_samples == 2000
    assert now[0] == 250_000_000
    now[0] = 10**9  # a late reader finds everything waiting
    assert [type(source.read(0.0)).__name__ for _ in range(4)] == ["AudioBlock"] * 3 + ["StreamEnd"]
    assert len(slept) == 2


def test_joined_source_with_whole_second_names_takes_a_small_overlap_as_none(tmp_path: Path) -> None:
    """Files of 10.005 s whose names count whole seconds, as some recorders write them, follow each other at once."""
    fs = 2000
    paths = [write(tmp_path / f"20250901T0700{s}.wav", n=10 * fs + 10, fs=fs) for s in (29, 39, 49)]
    events = drain(AudioFileSource(paths, join=True))
    assert not of(Gap, events)
    assert events[-1].n_samples == 3 * (10 * fs + 10)
    paths[2].rename(tmp_path / "20250901T070053.wav")
    (gap,) = of(Gap, drain(AudioFileSource(tmp_path, join=True)))
    assert (gap.n_missing, gap.err_ns) == (4 * fs - 20, 10**9)
    (tmp_path / "20250901T070039.wav").rename(tmp_path / "20250901T070037.wav")
    with pytest.raises(AudioFormatError, match=r"begins 2\.005 s before"):
        AudioFileSource(tmp_path, join=True)
