"""DEMON: the front end streams, the family is found, noise and pulses are not a propeller, the daemon publishes it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile

from calibration.experiments.demon import FS, is_right, on_recordings, propeller
from daemon.config import Config, DemonConfig, PublishConfig, SourceConfig
from daemon.demon import Demon
from daemon.frames import Modulated, StreamStart
from daemon.service import Service
from daemon.view import format_line
from daemon.wire import Message
from models.demon import DemonFrontEnd, DemonSpec, DemonWindow
from models.demon_lines import _smoothed, modulation
from models.errors import ConfigError, InputError, SampleRateError

SPEC = DemonSpec(window_s=20.0, step_s=2.0, least_s=6.0)


def ship(seconds: float, seed: int = 3, shaft_hz: float = 2.2, n_blades: int = 4, snr_db: float = 6.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    hiss = propeller(rng, shaft_hz, n_blades, 0.5, seconds)
    x = hiss * 10 ** (snr_db / 20) + rng.standard_normal(hiss.size)
    return (0.01 * x).astype(np.float32)


def blocks(x: np.ndarray, sizes: tuple[int, ...]) -> Iterator[np.ndarray]:
    start, i = 0, 0
    while start < x.shape[1]:
        n = sizes[i % len(sizes)]
        yield x[:, start : start + n]
        start, i = start + n, i + 1


def run(x: np.ndarray, sizes: tuple[int, ...], spec: DemonSpec = SPEC) -> list[DemonWindow]:
    front_end = DemonFrontEnd(spec, FS, x.shape[0])
    return [w for block in blocks(x, sizes) for w in front_end.process(block)]


@pytest.mark.parametrize("sizes", [(1000,), (1, 479, 16_001), (7, 80_000)])
def test_size_of_the_blocks_changes_no_bit(sizes: tuple[int, ...]) -> None:
    x = np.stack([ship(11.0, 1), ship(11.0, 2)])
    whole, cut = run(x, (x.shape[1],)), run(x, sizes)
    assert len(whole) == len(cut) >= 2
    for a, b in zip(whole, cut, strict=True):
        assert (a.index, a.first_sample, a.n_samples) == (b.index, b.first_sample, b.n_samples)
        assert np.array_equal(a.envelope, b.envelope)


def test_windows_say_which_samples_they_are_made_of() -> None:
    x = ship(30.0)[None]
    windows = run(x, (8000,))
    assert [w.index for w in windows] == list(range(3, 15))
    for w in windows:
        assert w.n_samples <= round(20.0 * FS) + FS
        alone = list(DemonFrontEnd(SPEC, FS, 1).process(x[:, w.first_sample : w.first_sample + w.n_samples]))
        assert np.array_equal(alone[-1].envelope[:, :, -100:], w.envelope[:, :, -100:])


def test_a_gap_is_not_bridged() -> None:
    x = ship(30.0)[None]
    front_end = DemonFrontEnd(SPEC, FS, 1)
    before = list(front_end.process(x[:, : 8 * FS]))
    front_end.reset(9 * FS)
    after = list(front_end.process(x[:, 9 * FS : 20 * FS]))
    assert before
    assert after
    assert all(w.first_sample >= 9 * FS for w in after)


@pytest.mark.parametrize(("shaft_hz", "n_blades"), [(1.3, 5), (2.2, 4), (3.7, 3)])
def test_shaft_rate_and_blades_of_a_simulated_propeller(shaft_hz: float, n_blades: int) -> None:
    w = run(ship(25.0, 8, shaft_hz, n_blades, 10.0)[None], (FS,))[-1]
    found = modulation(w.envelope[0], w.fs_mod)
    assert found.found
    assert is_right(found.shaft_hz, shaft_hz, 20.0)
    assert found.blades == n_blades
    assert found.blade_hz == pytest.approx(found.shaft_hz * n_blades)
    assert any(line.harmonic == n_blades for line in found.lines)


def test_noise_silence_and_a_swell_are_no_propeller() -> None:
    rng = np.random.default_rng(0)
    noise = 0.01 * rng.standard_normal((8, 25 * FS)).astype(np.float32)
    noise[1] *= (1.0 + 0.6 * np.sin(2 * np.pi * 0.12 * np.arange(noise.shape[1]) / FS)).astype(np.float32)
    noise[2] = 0.0
    noise[3, 5 * FS : 5 * FS + 20] = 0.9  # a click
    last = run(noise, (FS,))[-1]
    for channel in last.envelope:
        told = modulation(channel, last.fs_mod)
        assert not told.found
        assert not told.pulses
        assert np.isfinite(told.score)


def test_even_pulses_are_called_pulses() -> None:
    rng = np.random.default_rng(1)
    x = 0.01 * rng.standard_normal(25 * FS).astype(np.float32)
    for k in range(25):
        x[k * FS : k * FS + 80] *= 6.0  # 5 ms each second, as a sounder's reverberation
    w = run(x[None], (FS,))[-1]
    told = modulation(w.envelope[0], w.fs_mod)
    assert told.pulses
    assert not told.found
    assert told.shaft_hz == pytest.approx(1.0, rel=0.01)


def test_rates_too_low_are_refused_with_the_rate_needed() -> None:
    with pytest.raises(SampleRateError, match=r"2000 Hz is too low for DEMON.*needs 3143 Hz"):
        DemonFrontEnd(DemonSpec(), 2000, 1)
    with pytest.raises(ValueError, match="window_s"):
        DemonSpec(window_s=2.0)
    with pytest.raises(ConfigError, match=r"demon\.step_s = 90"):
        DemonConfig(step_s=90.0)


def test_stage_says_nothing_of_spans_with_a_hole() -> None:
    start = StreamStart("s", 0, FS, ("a", "b"))
    stage = Demon(SPEC, start)
    x = np.stack([ship(24.0, 4), ship(24.0, 5)])
    told: list[Modulated] = []
    for k in range(24):
        if k == 10:
            stage.hole(1, 10 * FS, 10 * FS + 500)
        told += stage.process(x[:, k * FS : (k + 1) * FS])
    told += stage.finish()
    of = {name: [m for m in told if m.channel == name] for name in "ab"}
    assert len(of["b"]) < len(of["a"])
    hole = [m for m in of["b"] if m.first_sample + m.n_samples > 10 * FS + 500]
    assert hole
    assert all(m.first_sample >= 10 * FS + 500 for m in hole)


def stage_told(x: np.ndarray, blocks: list[int], hole: tuple[int, int, int]) -> list[Modulated]:
    """What the stage says of ``x`` cut into blocks; the hole is known with the block that holds its first sample."""
    stage = Demon(SPEC, StreamStart("s", 0, FS, tuple(f"c{c}" for c in range(len(x)))))
    told: list[Modulated] = []
    at = 0
    for n in itertools.cycle(blocks):
        if at >= x.shape[1]:
            break
        if at <= hole[1] < at + n:
            stage.hole(*hole)
        told += stage.process(x[:, at : at + n])
        at += n
    return told + list(stage.finish())


def test_stage_says_the_same_in_blocks_of_any_size() -> None:
    x = np.stack([ship(24.0, 4), ship(24.0, 5), ship(24.0, 6)])
    hole = (1, 13 * FS + 700, 13 * FS + 900)
    whole = stage_told(x, [x.shape[1]], hole)
    assert {m.channel for m in whole} == {"c0", "c1", "c2"}
    for blocks in ([FS // 10], [FS, 77, 3 * FS]):
        assert sorted(stage_told(x, blocks, hole), key=key) == sorted(whole, key=key)


def key(m: Modulated) -> tuple[str, int]:
    return m.channel, m.first_sample + m.n_samples


def test_many_channels_are_told_of_one_after_the_other() -> None:
    n = 60
    x = np.tile(ship(24.0, 4), (n, 1))
    stage = Demon(SPEC, StreamStart("s", 0, FS, tuple(f"c{c}" for c in range(n))))
    per_block = [len(list(stage.process(x[:, a : a + FS // 10]))) for a in range(0, x.shape[1], FS // 10)]
    assert 0 < max(per_block) <= 4
    told = sum(per_block) + len(list(stage.finish()))
    assert told % n == 0
    assert told >= 2 * n
    assert not list(stage.finish())


def test_a_gap_loses_nothing_of_what_was_complete() -> None:
    x = np.tile(ship(24.0, 4), (8, 1))
    stage = Demon(SPEC, StreamStart("s", 0, FS, tuple(f"c{c}" for c in range(8))))
    told: list[Modulated] = []
    at = 0
    while not told:
        told += stage.process(x[:, at : at + FS // 10])
        at += FS // 10
    assert len(told) < 8
    told += stage.reset(at + FS)
    assert [m.channel for m in told] == [f"c{c}" for c in range(8)]


@pytest.mark.parametrize("fs", [FS, 2000])
def test_daemon_publishes_the_rate_or_why_it_has_none(tmp_path: Path, fs: int) -> None:
    soundfile.write(tmp_path / "ship.wav", ship(32.0)[:: FS // fs], fs, subtype="FLOAT")
    messages: list[Message] = []
    config = Config(
        source=SourceConfig(kind="file", path=str(tmp_path / "ship.wav")),
        publish=PublishConfig(endpoints=(f"ipc://{tmp_path}/out",)),
        demon=DemonConfig(window_s=20.0, step_s=5.0),
    )
    service = Service(config, messages.append)
    service.start()
    assert service.finished.wait(60)
    service.stop()
    service.raise_failure()
    told = [m for m in messages if m.family == "demon"]
    assert told
    if fs == FS:
        body = told[-1].body
        assert body["available"]
        assert body["found"]
        assert is_right(body["shaft_hz"], 2.2, 20.0)
        assert "2.2" in format_line(told[-1])
        assert "rpm" in format_line(told[-1])
    else:
        assert [m.body["available"] for m in told] == [False]
        assert "needs 3143 Hz" in told[0].body["reason"]
        assert "not available" in format_line(told[0])


def test_recordings_are_joined_and_held_against_their_labels(tmp_path: Path) -> None:
    x = ship(26.0, 9, 2.2, 4, 10.0)
    for i, part in enumerate(np.array_split(x, 2)):
        soundfile.write(tmp_path / f"ship_part{i}.wav", part, FS, subtype="FLOAT")
    noise = 0.01 * np.random.default_rng(2).standard_normal(12 * FS)
    soundfile.write(tmp_path / "sea.wav", noise, FS, subtype="FLOAT")
    (tmp_path / "labels.csv").write_text(
        "file,cls,demon_shaft_hz,demon_blades,demon_clear\n"
        "ship_part1.wav,vessel_x,2.2,4,yes\nship_part0.wav,vessel_x,2.2,4,yes\nsea.wav,ambient,,,\n"
    )
    found = on_recordings(tmp_path)
    assert [r["recording"] for r in found["rows"]] == ["ship.wav", "sea.wav"]
    assert found["rows"][0]["seconds"] == pytest.approx(26.0)
    assert (found["n_clear"], found["right"], found["found_without_vessel"]) == (1, 100.0, 0.0)
    (tmp_path / "labels.csv").write_text("file,cls\nsea.wav,ambient\n")
    with pytest.raises(InputError, match="lacks the column demon_blades"):
        on_recordings(tmp_path)


@pytest.mark.parametrize("n", [2000, 12001])
def test_slow_level_is_smoothed_as_scipy_does_it(n: int) -> None:
    rng = np.random.default_rng(n)
    x, weights = rng.random(n), rng.random(399)
    np.testing.assert_allclose(_smoothed(x, weights), scipy.signal.fftconvolve(x, weights, "same"), rtol=1e-12)
