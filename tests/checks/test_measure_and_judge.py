"""Each fault, made of sound, is told and named; sound without one is not; blocks of any size give the same states."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.ocean import SCENARIOS, simulate
from daemon.checks.channel import REPORT_TILES, ChannelChecks
from daemon.checks.judge import CHECKS, worst
from daemon.config import ChecksConfig
from daemon.frames import Health, StreamStart

FS, N_S = 8000, 30
LIMITS = ChecksConfig()


def sea(n_channels: int = 2, seconds: int = N_S, seed: int = 1) -> np.ndarray:
    """Noise of 24 bits, independent between channels, at about -29 dB re full scale squared."""
    return of_converter(np.random.default_rng(seed).normal(0.0, 0.035, (n_channels, seconds * FS)))


def of_converter(x: np.ndarray) -> np.ndarray:
    return (np.rint(x * (1 << 23)) / (1 << 23)).astype(np.float32)


def start(n_channels: int) -> StreamStart:
    return StreamStart("s", 0, FS, tuple(f"ch{c}" for c in range(n_channels)))


def told(x: np.ndarray, limits: ChecksConfig = LIMITS, n_block: int = 1000) -> list[Health]:
    checks = ChannelChecks(limits, start(len(x)))
    return [h for i in range(0, x.shape[1], n_block) for h in checks.process(x[:, i : i + n_block])]


def states(records: list[Health], channel: str) -> list[tuple[int, tuple]]:
    """Second at whose end, and what was said of the channel."""
    return [(1 + h.first_sample // FS, h.quality) for h in records if h.channel == channel]


def only(fault: str, most: str, at: int = 0) -> list[tuple[int, tuple]]:
    """What must be said of a fault that begins after second ``at``."""
    rises = [(at + LIMITS.suspect_s, ((fault, "suspect"),))]
    if most == "bad":
        rises.append((at + LIMITS.bad_s, ((fault, "bad"),)))
    return [(1, ()), *rises]


def mains(hz: float) -> np.ndarray:
    t = np.arange(N_S * FS) / FS
    return sum(0.02 / k * np.sin(2 * np.pi * k * hz * t) for k in range(1, 6)).astype(np.float32)


def with_stuck_bit(x: np.ndarray, bit: int) -> np.ndarray:
    """Bit ``bit`` of the 24 always 0."""
    return ((np.rint(x * (1 << 23)).astype(np.int32) & ~(1 << bit)) / (1 << 23)).astype(np.float32)


FAULTS = {
    "dead": ("bad", lambda x: np.zeros_like(x)),
    "dead at a value": ("bad", lambda x: np.full_like(x, 0.01)),
    "clipped": ("bad", lambda x: np.clip(x * 20, -1, 1 - 2**-23)),
    "dc": ("bad", lambda x: x + np.float32(0.2)),
    "stuck_bits": ("bad", lambda x: with_stuck_bit(x, 14)),
    "coarse": ("suspect", lambda x: with_stuck_bit(x, 0)),
    "hum": ("suspect", lambda x: x + mains(50.0)),
    "hum of 60 Hz": ("suspect", lambda x: x + mains(60.0)),
    "hum of a generator": ("suspect", lambda x: x + mains(50.4)),
    "level_low": ("bad", lambda x: x * np.float32(1e-5)),
    "level_high": ("bad", lambda x: np.sign(x) * np.float32(0.9) + x / 10),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_of_one_channel_is_told_and_the_other_is_left_alone(name: str) -> None:
    most, fault = FAULTS[name]
    x = sea()
    x[1] = of_converter(fault(x[1]))
    records = told(x)
    assert states(records, "ch1") == only(name.split()[0], most)
    assert states(records, "ch0") == [(1, ())]


@pytest.mark.parametrize("gain", [1.0, 0.5, -1.0])
def test_channel_that_is_another_one_is_told_of_both_and_who_the_other_is(gain: float) -> None:
    x = sea(3)
    x[2] = np.float32(gain) * x[0]
    records = told(x)
    for channel, other in (("ch0", "ch2"), ("ch2", "ch0")):
        said = [s for s in states(records, channel) if s[1]]
        assert said[0] == (2, (("identical", "suspect"),))
        assert ("identical", "bad") in said[-1][1]
        last = [h for h in records if h.channel == channel][-1]
        assert (last.alike_to, round(last.alike, 4)) == (other, np.sign(gain))
    assert states(records, "ch1") == [(1, ())]


def test_channels_that_hear_the_same_ship_and_have_their_own_noise_are_not_identical() -> None:
    ship = simulate(SCENARIOS["standard"], "test", 800, "vessel_0", float(N_S), FS).x[0]
    noise = np.random.default_rng(3).normal(0.0, ship.std() / 30, (2, ship.size))  # 30 dB below
    assert not any(h.quality for h in told((ship + noise).astype(np.float32)))


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_simulated_ocean_passes_every_check(scenario: str) -> None:
    x = simulate(SCENARIOS[scenario], "test", 5, "ambient", 20.0, FS).x
    assert not [h for h in told(np.ascontiguousarray(x)) if h.quality]


def test_fault_that_ends_is_over_after_as_long_as_it_took_to_be_bad() -> None:
    x = sea(1, 45)
    x[0, 5 * FS : 20 * FS] = 0.0
    assert states(told(x), "ch0") == [
        (1, ()), (7, (("dead", "suspect"),)), (15, (("dead", "bad"),)), (30, ()),
    ]  # fmt: skip


def test_fault_that_comes_and_goes_is_told_once() -> None:
    x = sea(1, 60)
    for second in range(60):
        if second % 3 != 2:  # two of three: the count rises by one in three seconds
            x[0, second * FS : (second + 1) * FS] += 0.5
    said = states(told(x), "ch0")
    assert [s[1] for s in said] == [(), (("dc", "suspect"),), (("dc", "bad"),)]


def test_value_between_limit_and_release_keeps_the_state_it_has() -> None:
    near = np.float32(0.9 * LIMITS.dc)
    x = sea(1, 40) * np.float32(0.01)
    x[0] += near
    assert states(told(x), "ch0") == [(1, ())]
    x[0, : 3 * FS] += np.float32(0.1)
    said = states(told(x), "ch0")
    assert [s[1] for s in said] == [(), (("dc", "suspect"),), (("dc", "bad"),)]  # and never released


def test_measured_values_are_told_once_a_minute_even_if_all_is_well() -> None:
    records = told(sea(1, 2 * REPORT_TILES + 1))
    assert [h.first_sample // FS for h in records] == [0, REPORT_TILES, 2 * REPORT_TILES]
    assert abs(records[0].level_db - 20 * np.log10(0.035)) < 0.2
    assert records[0].low_bit == 0


@given(st.lists(st.integers(1, 3 * FS), max_size=30))
@settings(max_examples=40, deadline=None)
def test_size_of_the_blocks_changes_neither_records_nor_states(cuts: list[int]) -> None:
    x = sea(2, 16)
    x[1, 3 * FS + 17 :] = 0.25
    edges = [0, *sorted({min(c * 5, x.shape[1]) for c in cuts} | {x.shape[1]})]
    whole, cut = ChannelChecks(LIMITS, start(2)), ChannelChecks(LIMITS, start(2))
    want = whole.process(x)
    got = [h for a, b in itertools.pairwise(edges) if b > a for h in cut.process(x[:, a:b])]
    assert got == want
    ends = range(0, 16 * FS, FS // 3)
    assert [cut.at(1, e) for e in ends] == [whole.at(1, e) for e in ends]


def test_state_of_a_window_is_that_of_the_last_second_that_ended_before_it() -> None:
    x = sea(1, 20)
    x[0] = 0.0
    checks = ChannelChecks(LIMITS, start(1))
    checks.process(x)
    assert checks.at(0, 2 * FS - 1) == ()
    assert checks.at(0, 2 * FS) == (("dead", "suspect"),)
    assert checks.at(0, 10 * FS) == (("dead", "bad"),)


def test_second_with_a_gap_is_not_judged_and_the_grid_stays() -> None:
    x = sea(1, 10)
    checks = ChannelChecks(LIMITS, start(1))
    first = checks.process(x[:, : FS + 100])
    checks.reset(5 * FS + 7)
    zeros = np.zeros((1, 4 * FS), np.float32)
    said = states(first + checks.process(zeros), "ch0")
    assert said == [(1, ()), (8, (("dead", "suspect"),))]  # 6..7 and 7..8 are the first whole seconds


def test_second_with_unfit_samples_of_one_channel_is_not_judged_for_it() -> None:
    x = sea(2, 6)
    x[0] = 0.0
    checks = ChannelChecks(LIMITS, start(2))
    checks.hole(0, 100, 3 * FS)
    assert states(checks.process(x), "ch0") == [(5, (("dead", "suspect"),))]


def test_limits_are_those_of_the_settings() -> None:
    x = sea(1, 12)
    limits = dataclasses.replace(LIMITS, suspect_s=1, bad_s=3, level_max_db_re_fs=-40.0)
    assert states(told(x, limits), "ch0") == [(1, (("level_high", "suspect"),)), (3, (("level_high", "bad"),))]


def test_worst_state_is_that_of_the_worst_check() -> None:
    assert worst(()) == "ok"
    assert worst((("hum", "suspect"), ("dead", "bad"))) == "bad"


def test_every_check_is_provoked_here() -> None:
    assert {c.name for c in CHECKS} == {name.split()[0] for name in FAULTS} | {"identical"}


def test_sound_beyond_full_scale_is_measured_without_a_warning() -> None:
    """Float sources may hold anything that is finite."""
    x = sea(1, 3) * np.float32(1e6)
    assert ("clipped", "suspect") in told(x)[-1].quality
