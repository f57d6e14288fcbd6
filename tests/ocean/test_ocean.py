from __future__ import annotations

import dataclasses
import hashlib
from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
import scipy.signal

from calibration.ocean import (
    AMBIENT,
    SCENARIOS,
    OceanStream,
    ScheduleItem,
    SeedSpace,
    SimulatedRecording,
    scenario_named,
    simulate,
)  # fmt: skip
from calibration.ocean_scene import Encounter
from calibration.ocean_sea import Hydrophone
from calibration.truth import truth_masks
from models.errors import SampleRateError, UsageError
from models.features import FeatureSpec, windows_of

SPEC = FeatureSpec()
STANDARD = SCENARIOS["standard"]
F64 = npt.NDArray[np.float64]


def test_scenarios_are_as_hard_as_promised() -> None:
    assert set(SCENARIOS) == {"standard", "low_snr", "two_ships", "wide", "empty"}
    for s in SCENARIOS.values():
        assert s.n_foreign == (2, 5)
        assert s.foreign_snr_db == (4.0, 14.0)
        assert (s.presence, s.drift, s.fading_db) == (0.92, 0.0015, 1.5)
        assert s.labels == (() if s.name == "empty" else ("vessel_0", "vessel_1", "vessel_2", "vessel_3"))
    assert STANDARD.snr_db == SCENARIOS["wide"].snr_db == SCENARIOS["two_ships"].snr_db == (2.0, 14.0)
    assert SCENARIOS["low_snr"].snr_db == (0.0, 6.0)
    assert (STANDARD.shaft_spread, STANDARD.machinery_spread) == (0.025, 0.003)
    assert (SCENARIOS["wide"].shaft_spread, SCENARIOS["wide"].machinery_spread) == (0.15, 0.06)
    assert SCENARIOS["two_ships"].second_ship_db == -2.0


@pytest.mark.parametrize(
    ("name", "version", "digest"),
    [
        ("standard", 1, "a0fdecbad40ba0e2"),
        ("low_snr", 1, "e289060b16d6b58d"),
        ("two_ships", 1, "ff7658c74ebaf1d3"),
        ("wide", 1, "4caa91981b6af168"),
        ("empty", 1, "93656baf0315128a"),
    ],
)
def test_scenario_is_frozen_a_change_asks_for_a_new_version(name: str, version: int, digest: str) -> None:
    scenario = SCENARIOS[name]
    assert scenario.version == version
    assert hashlib.sha256(repr(scenario).encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize("label", STANDARD.labels)
def test_scenario_tables_hold_eight_or_nine_lines_some_shared(label: str) -> None:
    own = STANDARD.canonical_lines(label)
    assert own.size in (8, 9)
    assert np.all(np.diff(own) > 0)
    assert own[0] > 10
    assert own[-1] < 500
    others = np.concatenate([STANDARD.canonical_lines(x) for x in STANDARD.labels if x != label])
    near = np.abs(own[:, None] - others).min(axis=1) <= 6.0  # within three bins
    assert 0 < near.sum() < own.size


def test_scenario_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'standard'"):
        scenario_named("standart")
    with pytest.raises(UsageError, match="no label 'vessel_9'"):
        STANDARD.vessel("vessel_9")


def test_simulate_same_arguments_same_samples() -> None:
    a, b = (simulate(STANDARD, "train", 5, "vessel_1", 10.0) for _ in range(2))
    np.testing.assert_array_equal(a.x, b.x)
    assert a.x.dtype == np.float32
    assert a.x.shape == (1, 20000)
    assert a.seed_name == "standard/v1/train/5/vessel_1"


def test_simulate_other_seeds_share_neither_noise_nor_lines() -> None:
    base = ("standard", "train", 0, "vessel_0")
    changed = [("low_snr", *base[1:]), *(("standard", s, 0, "vessel_0") for s in get_args(SeedSpace))]
    changed += [
        ("standard", "train", 1, "vessel_0"),
        ("standard", "train", 0, "vessel_1"),
        ("standard", "train", 0, AMBIENT),
    ]
    runs = {c: simulate(SCENARIOS[c[0]], c[1], c[2], c[3], 20.0).x[0].astype(np.float64) for c in changed}
    assert base in runs
    white = {c: scipy.signal.lfilter([1, -0.95], 1, x - x.mean())[100:] for c, x in runs.items()}
    keys = list(white)
    for i, a in enumerate(keys):
        for b in keys[:i]:
            # independent coloured noise with a few tones: 40 000 samples, correlation far below that of a shared stream
            assert abs(np.corrcoef(white[a], white[b])[0, 1]) < 0.1, (a, b)


def test_simulate_a_new_version_gets_new_noise() -> None:
    a = simulate(STANDARD, "train", 0, AMBIENT, 4.0)
    b = simulate(dataclasses.replace(STANDARD, version=2), "train", 0, AMBIENT, 4.0)
    assert abs(np.corrcoef(a.x[0], b.x[0])[0, 1]) < 0.2


def test_simulate_gain_and_offset_differ_and_nothing_clips() -> None:
    runs = [simulate(STANDARD, "train", i, AMBIENT, 4.0).x for i in range(12)]
    level = [20 * np.log10(x.std()) for x in runs]
    assert max(np.abs(x).max() for x in runs) < 1.0
    assert np.ptp(level) > 10
    assert np.std([x.mean() for x in runs]) > 1e-3


def test_simulate_refuses_what_cannot_be() -> None:
    with pytest.raises(SampleRateError, match="1000 Hz"):
        simulate(STANDARD, "test", 0, AMBIENT, 1.0, 1000)
    with pytest.raises(UsageError, match="no label"):
        simulate(SCENARIOS["empty"], "test", 0, "vessel_0", 1.0)
    with pytest.raises(UsageError, match="no sample"):
        simulate(STANDARD, "test", 0, AMBIENT, 0.0)
    with pytest.raises(UsageError, match="negative"):
        simulate(STANDARD, "test", -1, AMBIENT, 1.0)


def tracks(r: SimulatedRecording, label: str | None) -> list[F64]:
    return [line.f_hz for line in r.truth.lines if line.label == label]


def test_truth_spans_the_recording_in_fine_steps() -> None:
    r = simulate(STANDARD, "test", 0, "vessel_2", 30.3)
    assert r.truth.labels == ("vessel_2",)
    for line in r.truth.lines:
        assert line.t_s[0] == 0.0
        assert line.t_s[-1] == pytest.approx(30.3)
        assert np.diff(line.t_s).max() <= 0.125
        assert np.isfinite(line.snr_db).all()


def test_truth_of_ambient_holds_foreign_lines_only() -> None:
    for name in ("standard", "empty"):
        r = simulate(SCENARIOS[name], "test", 0, AMBIENT, 5.0)
        assert r.truth.labels == ()
        assert len(r.truth.lines) >= 2
        assert all(line.label is None for line in r.truth.lines)


def test_truth_of_two_ships_labels_both() -> None:
    n_lines = {True: [], False: []}
    for i in range(6):
        r = simulate(SCENARIOS["two_ships"], "test", i, "vessel_0", 20.0)
        assert len(set(r.truth.labels)) == 2
        assert r.truth.labels[0] == r.label == "vessel_0"
        assert {line.label for line in r.truth.lines} == {*r.truth.labels, None}
        for line in r.truth.lines:
            if line.label is not None:
                n_lines[line.label == "vessel_0"].append(line.snr_db.mean())
    # 2..14 dB against 0..12 dB: means 8 and 6, some 50 draws of standard deviation 3.5 each, so 2 +- 0.7
    assert 0.0 < np.mean(n_lines[True]) - np.mean(n_lines[False]) < 4.5


def relative_walks(r: SimulatedRecording, label: str) -> tuple[list[F64], list[F64]]:
    """Relative frequency of each shaft line, of each machinery line, matched by nearest canonical line."""
    by_kind: dict[str, list[F64]] = {"shaft": [], "machinery": []}
    table = STANDARD.vessel(label).lines
    for f in tracks(r, label):
        kind = min(table, key=lambda x: abs(np.log(f.mean() / x.f_hz))).kind
        by_kind[kind].append(f / f[0] - 1)
    return by_kind["shaft"], by_kind["machinery"]


def test_shaft_lines_share_one_walk_and_machinery_lines_do_not() -> None:
    r = simulate(STANDARD, "test", 1, "vessel_1", 60.0)
    shaft, machinery = relative_walks(r, "vessel_1")
    assert len(shaft) >= 2
    for other in shaft[1:]:
        np.testing.assert_allclose(other, shaft[0], atol=1e-12)
    assert np.std(shaft[0]) > 2 * max(np.std(m) for m in machinery)
    # without what Doppler gives to all alike, each machine walks alone
    assert max(np.abs(machinery[0] - m).max() for m in machinery[1:]) > 1e-4


def phase_frequency(x: F64, fs: int, f: F64, t: F64) -> F64:
    """Frequency of the line in ``x`` beside the track ``f(t)``: derivative of the phase after mixing down, Hz."""
    n = np.arange(x.size) / fs
    track = np.interp(n, t, f)
    base = x * np.exp(-2j * np.pi * np.cumsum(track) / fs)
    low = scipy.signal.filtfilt(*scipy.signal.butter(2, 0.5, fs=fs), base)
    return np.asarray(np.diff(np.unwrap(np.angle(low))) * fs / (2 * np.pi))[fs:-fs]


def test_truth_frequency_is_that_of_the_audio() -> None:
    quiet = dataclasses.replace(STANDARD, snr_db=(60.0, 60.0), fading_db=0.0, presence=1.0)
    sea = Hydrophone(quiet, "tone", 2000)
    encounter = Encounter(quiet, "tone", "vessel_3", 20.0, sea, hum_over_all=True)
    x = np.concatenate([encounter.chunk(k) for k in range(10)])
    checked = 0
    for line in encounter.truth.lines:
        if line.label is None or line.f_hz[0] < 100:
            continue
        # 60 dB above the noise of a bin, so good to some mHz; a wrong walk or Doppler shows as 100 mHz and more
        error = phase_frequency(x, 2000, line.f_hz, line.t_s)
        assert np.abs(error).mean() < 0.02, line.f_hz[0]
        checked += 1
    assert checked >= 4


def test_truth_snr_is_what_the_front_end_measures() -> None:
    differences = []
    for i, label in enumerate(STANDARD.labels * 2):
        r = simulate(STANDARD, "test", 100 + i, label, 60.0)
        windows = list(windows_of(SPEC, r.fs, r.x))[::8]
        power = 10 ** (np.concatenate([w.spectrum_db[0] for w in windows], axis=1).astype(np.float64) / 10)
        t = np.concatenate([(w.first_sample + SPEC.column_centres(r.fs)) / r.fs for w in windows])
        for line in r.truth.lines:
            f, snr = line.at(t)
            others = [np.abs(o.f_hz - line.f_hz).min() for o in r.truth.lines if o is not line]
            if f.min() < 40 or f.max() > 480 or min(others) < 26:
                continue
            row, cols = np.round(f / SPEC.bin_hz).astype(int), np.arange(t.size)
            beside = np.stack([power[row + d, cols] for d in (-9, -8, -7, -6, -5, 5, 6, 7, 8, 9)])
            noise = np.mean(np.median(beside, axis=1)) / np.log(2)  # median of exponential noise, deaf to clicks
            # a Hann line spreads over five rows with 1.5 times the power of its peak
            tone = sum(power[row + d, cols].mean() - beside.mean() for d in range(-2, 3)) / 1.5
            differences.append(10 * np.log10(tone / noise) - 10 * np.log10(np.mean(10 ** (snr / 10))))
    assert len(differences) > 15
    # 60 s hold 60 independent frames: some 0.4 dB of estimation noise per line (1.4 seen at 2 dB SNR), next to none in
    # the median of them all
    assert abs(np.median(differences)) < 0.25
    assert np.abs(differences).max() < 2.0


def test_line_levels_follow_the_interference_pattern() -> None:
    pure = dataclasses.replace(STANDARD, snr_db=(60.0, 60.0), fading_db=0.0, presence=1.0)
    seas = [Hydrophone(pure, f"mirror {i}", 2000) for i in range(6)]
    passes = [Encounter(pure, f"mirror {i}", "vessel_1", 120.0, sea, hum_over_all=True) for i, sea in enumerate(seas)]
    encounter = min(passes, key=lambda e: float(e.vessels[0].passage.range_m(np.arange(120.0)).min()))  # the closest
    sea = seas[passes.index(encounter)]
    x = np.concatenate([encounter.chunk(k) for k in range(60)])
    n = np.arange(x.size) / 2000
    spans = []
    for line in encounter.truth.lines:
        if line.label is None or line.f_hz[0] < 90:
            continue
        base = x * np.exp(-2j * np.pi * np.cumsum(np.interp(n, line.t_s, line.f_hz)) / 2000)
        level = 20 * np.log10(np.abs(scipy.signal.filtfilt(*scipy.signal.butter(2, 0.5, fs=2000), base)))
        gain = 10 * np.log10(encounter.vessels[0].mirror(line.f_hz[:1], n, sea.depth_m))
        inner = slice(4000, -4000, 500)
        # one constant (the source level) apart, the level is that of the mirror; clicks and calls may touch a moment
        difference = (level - gain)[inner]
        assert np.quantile(np.abs(difference - np.median(difference)), 0.9) < 0.3
        spans.append(np.ptp(gain[inner]))
    assert max(spans) > 2.0
    assert len(spans) >= 4


def test_cavitation_shows_in_the_envelope() -> None:
    loud = dataclasses.replace(STANDARD, presence=0.0, n_foreign=(0, 0), p_other_family=0.0, drift=0.0)
    sea = Hydrophone(loud, "demon", 4000)
    encounter = Encounter(loud, "demon", "vessel_3", 60.0, sea, hum_over_all=True)
    x = np.concatenate([encounter.chunk(k) for k in range(30)])
    band = scipy.signal.sosfilt(scipy.signal.butter(4, [600, 1800], "bandpass", fs=4000, output="sos"), x)
    envelope = np.minimum(band**2, 20 * np.median(band**2))  # clicks would drown it
    f, p = scipy.signal.welch(envelope - envelope.mean(), 4000, nperseg=8 * 4000)
    blade = (f > 15.0) & (f < 17.0)  # 4 blades at 4 turns a second, +-2.5 % and Doppler
    noise = np.median(p[(f > 60) & (f < 200)])
    assert p[blade].max() > 6 * noise


@pytest.mark.parametrize("fs", [4000, 48000])
def test_other_rates_give_the_same_lines_in_another_noise(fs: int) -> None:
    a, b = simulate(STANDARD, "test", 3, "vessel_1", 12.0), simulate(STANDARD, "test", 3, "vessel_1", 12.0, fs)
    assert b.x.shape == (1, 12 * fs)
    for x, y in zip(a.truth.lines, b.truth.lines, strict=True):
        np.testing.assert_allclose(y.f_hz, x.f_hz, rtol=1e-9)
        np.testing.assert_allclose(y.snr_db, x.snr_db, atol=1e-6)
    f, p = scipy.signal.welch(b.x[0].astype(np.float64), fs, nperseg=fs // 4)
    above = p[(f > 0.4 * fs) & (f < 0.48 * fs)].mean()
    assert above > 1e-3 * p[(f > 0.2 * fs) & (f < 0.25 * fs)].mean()  # the sea goes on to the new Nyquist


def test_masks_sit_on_the_lines() -> None:
    tone, foreign, noise = [], [], []
    for i in range(6):
        r = simulate(STANDARD, "test", i, "vessel_2", 12.0)
        w = next(iter(windows_of(SPEC, r.fs, r.x)))
        m = truth_masks(r.truth, SPEC, r.fs, w.first_sample, "vessel_2")
        x = w.features[0, 0]
        rest = ~(m.tone | m.guard | m.interferer | m.other)
        rest[: SPEC.row_lo] = False
        tone.append(x[m.tone])
        foreign.append(x[m.interferer])
        noise.append(x[rest])
    level = float(np.concatenate(noise).mean())
    # the scale is 25 dB: 0.15 is 4 dB over noise, where lines have 3 to 14
    assert float(np.concatenate(tone).mean()) > level + 0.15
    assert float(np.concatenate(foreign).mean()) > level + 0.15


@pytest.mark.parametrize("sizes", [(1, 2, 3, 5, 7), (480,), (1000,), (4001,), (19999,)])
def test_stream_any_block_size_gives_the_same_samples(sizes: tuple[int, ...]) -> None:
    whole = OceanStream(STANDARD, "test", 0, 2000, 2).read(20000)
    stream, parts, n = OceanStream(STANDARD, "test", 0, 2000, 2), [], 0
    while n < 20000:
        parts.append(stream.read(min(sizes[len(parts) % len(sizes)], 20000 - n)))
        n += parts[-1].shape[1]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    assert stream.position == 20000


def test_stream_starts_with_a_vessel_and_visits_every_class() -> None:
    stream = OceanStream(STANDARD, "demo", 0, 2000, 2)
    heard: list[set[tuple[str, ...]]] = [set(), set()]
    for second in range(0, 300, 20):
        stream.read(20 * 2000)
        for c in range(2):
            heard[c].add(stream.labels_at(second * 2000, c))
            if second == 0:
                assert stream.labels_at(0, c) != ()
    assert heard == [{(), *((x,) for x in STANDARD.labels)}] * 2


def test_stream_channels_are_independent() -> None:
    x = OceanStream(STANDARD, "test", 1, 2000, 2).read(60000).astype(np.float64)
    white = scipy.signal.lfilter([1, -0.95], 1, x - x.mean(axis=1, keepdims=True))[:, 100:]
    assert abs(np.corrcoef(white)[0, 1]) < 0.1


def test_stream_schedule_is_kept_and_repeats_with_new_noise() -> None:
    schedule = (ScheduleItem("vessel_2", 4.0), ScheduleItem(AMBIENT, 2.0))
    stream = OceanStream(SCENARIOS["two_ships"], "test", 0, 2000, 1, schedule)
    x = stream.read(12 * 2000)
    assert stream.labels_at(0)[0] == stream.labels_at(7 * 2000)[0] == "vessel_2"
    assert len(stream.labels_at(0)) == 2
    assert stream.labels_at(4 * 2000) == stream.labels_at(11 * 2000) == ()
    assert not np.array_equal(x[:, : 4 * 2000], x[:, 6 * 2000 : 10 * 2000])
    with pytest.raises(ValueError, match="not known"):
        stream.labels_at(100 * 2000)


def test_stream_refuses_a_wrong_schedule() -> None:
    with pytest.raises(UsageError, match="no label 'submarine'"):
        OceanStream(STANDARD, "test", 0, 2000, 1, (ScheduleItem("submarine", 4.0),))
    with pytest.raises(UsageError, match="empty"):
        OceanStream(STANDARD, "test", 0, 2000, 1, ())
    with pytest.raises(UsageError, match="channel"):
        OceanStream(STANDARD, "test", 0, 2000, 0)
