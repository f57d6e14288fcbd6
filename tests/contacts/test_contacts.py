"""Contacts of labels that come and go: the n-of-m rule, hysteresis, gaps, several ships, several channels."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.contact_rule import ContactRule, score_of
from daemon.contacts import Contacts
from daemon.frames import Contact, Record, Signature, StreamEnd, StreamStart
from tests.contact_records import FS, LENGTH, SPEC, STEP, contacts_of, heard, line, slot, start, stream, unknown

LABELS = ("a", "b", "unknown")


def held(label: str) -> st.SearchStrategy[object]:
    if label == "unknown":
        return st.lists(st.floats(10.0, 500.0), max_size=9).map(lambda f: [line(x) for x in f])
    return st.floats(0.3, 1.0)


SLOT = st.one_of(
    st.none(),
    st.sets(st.sampled_from(LABELS)).flatmap(lambda s: st.fixed_dictionaries({x: held(x) for x in sorted(s)})),
)
RULES = st.tuples(
    st.integers(1, 6), st.integers(1, 6), st.integers(1, 6), st.floats(-1.0, 4.0), st.floats(0.0, 6.0)
).map(
    lambda v: ContactRule(
        n_hold=sorted(v[:3])[0], n_start=sorted(v[:3])[1], m=sorted(v[:3])[2], class_gate=v[3], unknown_gate=v[4]
    )
)


def identity(c: Contact) -> tuple[str, str, int, str, int]:
    return c.source, c.channel, c.epoch, c.label, c.first_sample


@settings(max_examples=80, deadline=None)
@given(st.lists(SLOT, max_size=60), RULES)
def test_every_start_has_its_end_and_no_two_contacts_share_an_identity(slots: list, rule: ContactRule) -> None:
    under_way: dict[str, Contact] = {}
    seen: set[object] = set()
    for c in contacts_of(stream(slots), rule):
        if c.event == "start":
            assert c.label not in under_way
            assert identity(c) not in seen
            seen.add(identity(c))
            under_way[c.label] = c
        else:
            before = under_way[c.label]
            assert identity(c) == identity(before)
            assert c.n_windows >= before.n_windows
            assert c.n_samples >= before.n_samples
            assert c.n_skipped >= before.n_skipped
            assert c.peak_score >= before.peak_score
            under_way[c.label] = c
            if c.event == "end":
                del under_way[c.label]
    assert not under_way


@settings(max_examples=80, deadline=None)
@given(st.text("x.", max_size=60), RULES.map(lambda r: dataclasses.replace(r, class_gate=-math.inf)))
def test_contact_is_held_exactly_while_the_rule_says_so(bits: str, rule: ContactRule) -> None:
    """Against the rule written out: counts over slices of the string."""
    expected, held_, cleared = [], False, 0
    for i in range(len(bits)):
        n = bits[max(cleared, i + 1 - rule.m) : i + 1].count("x")
        if not held_ and n >= rule.n_start:
            held_, first = True, max(cleared, i + 1 - rule.m)
            expected.append(("start", bits.index("x", first) * STEP))
        elif held_ and n < rule.n_hold:
            held_, cleared = False, i + 1
            expected.append(("end", expected[-1][1]))
    if held_:
        expected.append(("end", expected[-1][1]))
    got = [(c.event, c.first_sample) for c in contacts_of(stream(heard(bits)), rule) if c.event != "update"]
    assert got == expected


@pytest.mark.parametrize(
    ("bits", "events"),
    [
        ("xx", []),
        ("xxx", ["start", "end ended"]),
        ("x.x.x", ["start", "end ended"]),
        ("x..x.x", []),
        ("xxx.....", ["start", "end lost"]),
        ("xxx....x", ["start", "update", "end ended"]),
        ("xxx.....xx", ["start", "end lost"]),
        ("xxx.....xxx", ["start", "end lost", "start", "end ended"]),
    ],
)
def test_three_of_five_windows_start_and_five_without_end(bits: str, events: list[str]) -> None:
    got = contacts_of(stream(heard(bits)))
    assert [c.event + (f" {c.reason}" if c.event == "end" else "") for c in got] == events


def test_span_runs_from_the_first_to_the_last_window_it_was_heard_in() -> None:
    (end,) = (c for c in contacts_of(stream(heard("..x.xx.x....."))) if c.event == "end")
    assert end.first_sample == 2 * STEP
    assert end.first_sample + end.n_samples == 7 * STEP + LENGTH
    assert end.n_windows == 4
    assert end.n_skipped == 0


def test_gate_starts_and_a_margin_below_it_holds() -> None:
    rule = ContactRule(class_gate=4.0)  # p = 0.982; at 3.0: p = 0.953
    faint, clear = 0.96, 0.99
    assert contacts_of(stream([{"a": faint}] * 20), rule) == []
    slots = [{"a": clear}] * 3 + [{"a": faint}] * 20 + [{"a": 0.95}] * 5
    events = [c.event for c in contacts_of(stream(slots), rule)]
    assert events == ["start", *["update"] * 20, "end"]


def test_what_holds_lies_below_what_starts() -> None:
    rule = ContactRule(class_gate=-1.0, unknown_gate=6.0)
    assert (rule.hold_gate("a"), rule.hold_gate("unknown")) == (-2.0, 3.5)
    assert ContactRule().hold_gate("a") == -math.inf


def test_score_of_a_class_is_its_log_odds_within_bounds() -> None:
    def score(p: float) -> float:
        return score_of(next(r for r in slot(0, {"a": p}) if isinstance(r, Signature)), 8.0)

    assert score(0.5) == 0.0
    assert score(0.9) == pytest.approx(math.log(9.0))
    assert (score(0.0), score(1.0)) == (-20.0, 20.0)
    assert score(1e-300) == -20.0


def test_score_of_unknown_counts_lines_by_their_time_and_hum_not_at_all() -> None:
    def score(*lines: object) -> float:
        return score_of(next(r for r in slot(0, {"unknown": lines}) if isinstance(r, Signature)), 8.0)

    assert score(line(71.0, t_end_s=8.0), line(93.0, t_end_s=4.0)) == pytest.approx(1.5)
    assert score(line(50.3), line(180.5), line(299.6), line(239.5)) == 0.0
    assert score(line(50.8, t_start_s=0.2, t_end_s=8.5)) == 1.0
    assert score() == 0.0


def test_several_ships_are_several_contacts_that_overlap() -> None:
    slots = [
        ({"a": 0.9} if i < 12 else {}) | ({"b": 0.8} if 4 <= i < 20 else {}) | (unknown(71.0, 93.0) if i >= 8 else {})
        for i in range(24)
    ]
    ends = {c.label: c for c in contacts_of(stream(slots)) if c.event == "end"}
    assert {k: (c.first_sample // STEP, c.n_windows, c.reason) for k, c in ends.items()} == {
        "a": (0, 12, "lost"),
        "b": (4, 16, "ended"),
        "unknown": (8, 16, "ended"),
    }
    assert ends["a"].peak_probability == 0.9


def test_label_does_not_count_towards_another() -> None:
    assert contacts_of(stream([{"a": 0.9}, {"b": 0.9}] * 2)) == []


# gaps


def test_slots_not_analysed_count_as_neither() -> None:
    """Nine slots hold the one bad sample: all that lies before and behind it was heard, so nothing is bridged."""
    n_bad = -(-LENGTH // STEP)
    (end,) = (c for c in contacts_of(stream(heard("xx" + "-" * n_bad + "x...x"))) if c.event == "end")
    assert (end.n_windows, end.n_skipped, end.reason) == (4, n_bad, "ended")


@pytest.mark.parametrize("n_unheard", range(3, 9))
def test_contact_ends_when_more_than_m_steps_went_unheard(n_unheard: int) -> None:
    """Window 4 ends at 4 STEP + LENGTH; the stretch to the next window's first sample is what no window has heard."""
    rule = ContactRule(m=5)
    n_missing = -(-LENGTH // STEP) + n_unheard - 1
    unheard = (5 + n_missing) * STEP - (4 * STEP + LENGTH)
    got = contacts_of(stream(heard("xxxxx" + "-" * n_missing + "xxxxx")), rule)
    ends = [c for c in got if c.event == "end"]
    if unheard > rule.m * STEP:
        assert [c.reason for c in ends] == ["gap", "ended"]
        assert ends[1].first_sample == (5 + n_missing) * STEP
    else:
        assert [c.reason for c in ends] == ["ended"]
        assert ends[0].n_skipped == n_missing


def test_gap_ends_a_contact_while_it_lasts_not_after() -> None:
    records = stream(heard("xxxxx" + "-" * 40), end=False)
    assert [c.reason for c in contacts_of(records) if c.event == "end"] == ["gap"]


def test_candidate_is_forgotten_over_a_gap() -> None:
    assert contacts_of(stream(heard("xx" + "-" * 40 + "xx"))) == []


def test_slots_nobody_told_of_are_a_gap_too() -> None:
    records = [start(), *slot(0, {"a": 0.9}), *slot(1, {"a": 0.9}), *slot(200, {"a": 0.9}), *slot(201, {"a": 0.9})]
    assert contacts_of(records) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(SLOT, max_size=50), RULES, st.integers(0, 50))
def test_no_contact_spans_an_unheard_stretch_longer_than_m_steps(slots: list, rule: ContactRule, at: int) -> None:
    slots = slots[:at] + [None] * (rule.m + 12) + slots[at:]
    first = min(at, len(slots)) * STEP
    for c in contacts_of(stream(slots), rule):
        assert c.first_sample + c.n_samples <= first + LENGTH - STEP or c.first_sample >= first + STEP


# streams


def test_new_stream_begins_anew_and_the_old_one_ends_before_it() -> None:
    records = stream(heard("xxxx"), end=False) + stream(heard("xx"), epoch=1)
    out = [r for s in [Contacts(SPEC, ContactRule())] for record in records for r in s.process(record)]
    ends = [i for i, r in enumerate(out) if isinstance(r, Contact) and r.event == "end"]
    assert len(ends) == 1
    assert isinstance(out[ends[0] + 1], StreamStart)
    assert out[ends[0]].epoch == 0


def test_end_of_contacts_comes_before_the_end_of_the_stream() -> None:
    stage = Contacts(SPEC, ContactRule())
    out = [r for record in stream(heard("xxxx")) for r in stage.process(record)]
    assert isinstance(out[-1], StreamEnd)
    assert isinstance(out[-2], Contact)
    assert (out[-2].event, out[-2].reason) == ("end", "ended")


def test_reset_forgets_everything() -> None:
    stage = Contacts(SPEC, ContactRule())
    for record in stream(heard("xxxx"), end=False):
        list(stage.process(record))
    stage.reset()
    assert not [r for r in stage.process(StreamEnd("s", 0, 1)) if isinstance(r, Contact)]


def test_every_record_is_handed_on_once_and_in_order() -> None:
    records = stream(heard("xxx-x......x"))
    stage = Contacts(SPEC, ContactRule())
    assert [r for record in records for r in stage.process(record) if not isinstance(r, Contact)] == records


@settings(max_examples=60, deadline=None)
@given(st.lists(SLOT, max_size=30), st.lists(SLOT, max_size=30), RULES)
def test_channels_do_not_know_of_each_other(fore: list, aft: list, rule: ContactRule) -> None:
    """Nor does it matter in which order the channels' slots come: blocks of any size give the same contacts."""
    n = min(len(fore), len(aft))
    mixed: list[Record] = [start(channels=("fore", "aft"))]
    for i in range(n):
        mixed += [*slot(i, fore[i], "fore"), *slot(i, aft[i], "aft")]
    mixed.append(StreamEnd("s", 0, 10**9))
    together = contacts_of(mixed, rule)
    for name, slots in (("fore", fore[:n]), ("aft", aft[:n])):
        assert [c for c in together if c.channel == name] == contacts_of(stream(slots, channel=name), rule)


@settings(max_examples=40, deadline=None)
@given(st.lists(SLOT, max_size=40), RULES)
def test_same_records_give_the_same_contacts(slots: list, rule: ContactRule) -> None:
    assert contacts_of(stream(slots), rule) == contacts_of(stream(slots), rule)


@pytest.mark.parametrize("n_time_step", [1, 2, 8, 32])
def test_updates_are_at_least_a_second_of_sound_apart(n_time_step: int) -> None:
    spec = dataclasses.replace(SPEC, n_time_step=n_time_step)
    records = [start(), *(r for i in range(80) for r in slot(i, {"a": 0.9}, step=spec.step(FS)))]
    ends = [c.first_sample + c.n_samples for c in contacts_of(records, spec=spec)]
    assert len(ends) == 1 + (79 - 2) // max(1, 8 // n_time_step)
    assert all(b - a >= FS for a, b in itertools.pairwise(ends))


def test_signature_of_another_window_is_a_mistake_that_is_told() -> None:
    first, second = list(slot(0, {"a": 0.9})), list(slot(1, {"a": 0.9}))
    stage = Contacts(SPEC, ContactRule())
    for record in (start(), first[0]):
        list(stage.process(record))
    with pytest.raises(ValueError, match="does not belong to the window"):
        list(stage.process(second[1]))


@pytest.mark.parametrize("wrong", [{"n_hold": 4}, {"n_start": 6}, {"n_hold": 0}, {"class_gate": math.nan}])
def test_rule_that_contradicts_itself_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"does not hold|not a number"):
        ContactRule(**wrong)


def test_of_a_label_that_stands_twice_in_a_window_the_clearer_one_counts() -> None:
    records: list[Record] = [start()]
    for i in range(3):
        analysed, faint = slot(i, {"a": 0.6})
        clear = dataclasses.replace(faint, probability=0.99)
        records += [dataclasses.replace(analysed, n_signatures=2), *((clear, faint) if i % 2 else (faint, clear))]
    (found,) = contacts_of(records, ContactRule(class_gate=4.0))
    assert (found.event, found.n_windows, found.peak_probability) == ("start", 3, 0.99)
