"""Curves of false alarms: gates keep to what is asked, extrapolation says so, files come back the same."""

from __future__ import annotations

import dataclasses
import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.false_alarms import MIN_COUNT, FalseAlarmCurve, FalseAlarms, poisson_interval
from models.errors import InputError

GATES = tuple(0.5 * k for k in range(41))


def exponential(n0: int = 4000, decay: float = 0.5, hours: float = 100.0, kind: str = "class") -> FalseAlarmCurve:
    """What ``n0`` contacts with exponential excesses give in expectation."""
    counts = tuple(round(n0 * math.exp(-decay * g)) for g in GATES)
    return FalseAlarmCurve(kind=kind, hours=hours, gates=GATES, counts=counts, recordings=counts)


def alarms(**changes: object) -> FalseAlarms:
    both = (exponential(), exponential(400, kind="unknown"))
    values: dict = {
        "n_start": 3, "m": 5, "n_hold": 1, "hop_s": 1.0, "mode": "signature",
        "line_snr_db": 2.0, "n_lines_unknown": 2, "data": "a test",
        "synthetic": True, "bundle": None, "curves": both,
    }  # fmt: skip
    return FalseAlarms(**{**values, **changes})


@pytest.mark.parametrize(("count", "lo", "hi"), [(0, 0.0, 3.689), (1, 0.0253, 5.572), (20, 12.217, 30.888)])
def test_poisson_interval_is_that_of_the_tables(count: int, lo: float, hi: float) -> None:
    """Garwood's table, 95 %, two-sided."""
    assert poisson_interval(count) == pytest.approx((lo, hi), abs=1e-3)


@given(st.floats(0.5, 30.0))
@settings(max_examples=50, deadline=None)
def test_poisson_interval_covers_the_expectation(mu: float) -> None:
    """Exactly: the probabilities of all counts whose interval holds ``mu`` add up to at least 95 %."""
    p = [math.exp(k * math.log(mu) - mu - math.lgamma(k + 1)) for k in range(120)]
    assert sum(q for k, q in enumerate(p) if poisson_interval(k)[0] <= mu <= poisson_interval(k)[1]) >= 0.95


def test_measured_gate_is_where_the_rate_is_what_is_asked() -> None:
    choice = exponential().gate_for(4.0)
    assert not choice.extrapolated
    assert choice.per_hour == 4.0
    assert choice.gate == pytest.approx(math.log(10.0) / 0.5, abs=0.05)


def test_rarer_than_measured_is_extrapolated_along_the_tail_and_says_so() -> None:
    """Counts of fewer than ten are rounded, so the decay is met to 10 %; the gate follows."""
    choice = exponential().gate_for(1e-4)
    assert choice.extrapolated
    assert choice.gate == pytest.approx(math.log(40.0 / 1e-4) / 0.5, rel=0.1)


def test_tail_that_is_cut_off_at_the_last_gate_is_not_taken_for_short() -> None:
    whole, cut = exponential(), exponential()
    n = sum(c >= MIN_COUNT for c in whole.counts) + 2
    cut = FalseAlarmCurve(
        kind="class", hours=100.0, gates=GATES[:n], counts=whole.counts[:n], recordings=whole.counts[:n]
    )
    assert cut.gate_for(1e-3).gate == pytest.approx(whole.gate_for(1e-3).gate, rel=0.15)


CURVES = st.tuples(st.lists(st.integers(0, 300), min_size=2, max_size=30), st.floats(0.5, 100.0)).map(
    lambda v: FalseAlarmCurve(
        kind="class", hours=v[1], gates=GATES[: len(v[0])], counts=tuple(v[0]), recordings=tuple(v[0])
    )
)


@settings(max_examples=150, deadline=None)
@given(CURVES, st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_gate_never_lets_more_through_than_asked_and_rarer_needs_a_higher_one(
    curve: FalseAlarmCurve, a: float, b: float
) -> None:
    choices = []
    for per_hour in sorted((a, b), reverse=True):
        try:
            choice = curve.gate_for(per_hour)
        except ValueError:
            return  # too rare for this curve: the other tests say when
        assert choice.per_hour <= per_hour * (1 + 1e-9) or not any(curve.counts)
        for gate, count in zip(curve.gates, curve.counts, strict=True):
            if gate >= choice.gate and not choice.extrapolated:
                assert count / curve.hours <= per_hour * (1 + 1e-9)
        choices.append(choice)
    assert choices[1].gate >= choices[0].gate - 1e-9


def test_rate_that_rises_with_the_gate_is_not_mistaken_for_a_low_one() -> None:
    """A contact that never ends starts once; at a higher gate it flickers."""
    curve = FalseAlarmCurve(
        kind="unknown", hours=10.0, gates=(0.0, 1.0, 2.0, 3.0), counts=(20, 60, 40, 12), recordings=(9, 9, 9, 9)
    )
    assert curve.gate_for(2.5).gate > 2.0


def test_few_contacts_are_extrapolated_and_a_curve_that_never_falls_tells_nothing() -> None:
    curve = FalseAlarmCurve(kind="class", hours=30.0, gates=(0.0, 1.0), counts=(4, 0), recordings=(4, 0))
    assert curve.gate_for(0.1).extrapolated
    with pytest.raises(ValueError, match=r"rarer than 30 h can tell of"):
        dataclasses.replace(curve, counts=(4, 4), recordings=(4, 4)).gate_for(0.05)


def test_decay_of_a_drawn_sample_is_met_within_its_error() -> None:
    """Excesses drawn from an exponential law: relative error of the decay 1 / sqrt(n), here 10 % of 100 in the tail."""
    rng = random.Random(7)
    ends = [rng.expovariate(0.8) for _ in range(5000)]
    counts = tuple(sum(e >= g for e in ends) for g in GATES)
    curve = FalseAlarmCurve(kind="class", hours=100.0, gates=GATES, counts=counts, recordings=counts)
    choice = curve.gate_for(1e-3)
    assert choice.gate == pytest.approx(math.log(50.0 / 1e-3) / 0.8, rel=0.3)


def test_file_comes_back_the_same_and_holds_intervals_for_people(tmp_path: Path) -> None:
    path = tmp_path / "false_alarms.json"
    path.write_text(alarms().to_json())
    assert FalseAlarms.read(path) == alarms()
    body = json.loads(path.read_text())
    curve = body["curves"][0]
    assert curve["per_hour"][0] == 40.0
    lo, hi = curve["interval_95_per_hour"][0]
    assert lo < 40.0 < hi


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b.pop("schema"),
        lambda b: b.update(schema="tonald/false-alarms/2"),
        lambda b: b["curves"].pop(),
        lambda b: b["curves"][0].update(hours=0),
        lambda b: b["curves"][0]["gates"].reverse(),
        lambda b: b["curves"][0]["gates"].pop(),
        lambda b: b["curves"][0]["counts"].__setitem__(0, -1),
        lambda b: b["curves"][0]["counts"].__setitem__(0, 1.5),
        lambda b: b["curves"][0]["recordings"].__setitem__(0, 10**6),
        lambda b: b["curves"][0].pop("recordings"),
        lambda b: b["curves"][0]["gates"].__setitem__(0, "x"),
        lambda b: b["curves"][0].update(gates=None),
        lambda b: b.update(n_start="3"),
        lambda b: b.pop("bundle"),
    ],
)
def test_damaged_file_is_one_error_that_names_it(damage: object) -> None:
    body = json.loads(alarms().to_json())
    damage(body)  # type: ignore[operator]
    with pytest.raises(InputError, match=r"^here\.json: holds no measured false alarms"):
        FalseAlarms.parse(json.dumps(body), "here.json")


@given(st.text(max_size=50))
@settings(max_examples=100, deadline=None)
def test_any_text_is_refused_in_one_way(text: str) -> None:
    with pytest.raises(InputError):
        FalseAlarms.parse(text)


def test_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        FalseAlarms.read(tmp_path / "no.json")


def test_many_contacts_of_few_seas_measure_nothing() -> None:
    """Forty starts in two recordings: that sea resembles a ship; what others do is extrapolated."""
    whole = exponential()
    few = dataclasses.replace(whole, recordings=tuple(min(c, 2) for c in whole.counts))
    assert not whole.gate_for(1.0).extrapolated
    assert few.gate_for(1.0).extrapolated
    assert few.gate_for(1e-3).gate == pytest.approx(whole.gate_for(1e-3).gate, rel=0.15)


def test_nothing_ever_heard_is_bounded_by_the_rule_of_three() -> None:
    silent = FalseAlarmCurve(kind="class", hours=30.0, gates=(0.0, 1.0), counts=(0, 0), recordings=(0, 0))
    for per_hour in (1.0, 0.01):
        choice = silent.gate_for(per_hour)
        assert (choice.gate, choice.per_hour, choice.extrapolated) == (0.0, 0.1, True)
