"""Contacts behind the real pipeline: blocks of any size, gaps, the wire, and the counter that experiments use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from calibration.dataset import Clip
from calibration.experiments import falsealarms as fa
from calibration.ocean import SCENARIOS, simulate
from daemon.config import Config
from daemon.contact_counting import ContactCounter
from daemon.contact_rule import ContactRule
from daemon.contacts import Contacts
from daemon.extract import Extractor, Limits
from daemon.frames import AudioBlock, Contact, Gap, StreamEnd, StreamStart
from daemon.pipeline import Pipeline
from daemon.records import Recorder
from daemon.wire import Identity, decode, encode, sequence_frame
from models.bundle import Bundle
from models.engines import open_engine
from models.explainer import Explainer, graphs_of

FS, N = 2000, 2000 * 30
SCHEMA = Path(__file__).parents[2] / "docs" / "wire" / "schema" / "contact.json"


@pytest.fixture(scope="module")
def engine() -> Iterator[tuple]:
    bundle = Bundle.load(Bundle.shipped())
    engine, _ = open_engine(bundle, max_batch=32, graphs=graphs_of(bundle))
    yield bundle, engine
    engine.close()


@pytest.fixture(scope="module")
def sea() -> np.ndarray:
    return simulate(SCENARIOS["standard"], "test", 820, "vessel_0", N / FS, FS).x


def contacts(parts: tuple, x: np.ndarray, block: int, gap: tuple[int, int] | None = None) -> list[Contact]:
    bundle, engine = parts

    stage = Contacts(bundle.spec, ContactRule())
    pipeline = Pipeline(
        bundle.spec,
        Explainer(bundle, engine),
        Extractor(bundle.spec, Limits.of(bundle.thresholds, "0.95", 3.0, 2)),
        stage,
    )
    events: list = [StreamStart("s", 0, FS, ("ch0",))]
    at = 0
    while at < N:
        if gap and at == gap[0]:
            events.append(Gap("s", 0, at, gap[1] - at, 0, 0, "overflow"))
            at = gap[1]
            continue
        end = min(at + block, N, *([gap[0]] if gap and at < gap[0] else []))
        events.append(AudioBlock("s", 0, at, FS, x[:, at:end]))
        at = end
    events.append(StreamEnd("s", 0, N, final=True))
    return [r for e in events for r in pipeline.process(e) if isinstance(r, Contact)]


def rounded(found: list[Contact]) -> list[tuple]:
    """What an engine's tolerance (the batch may change the last digits) must not change."""
    return [
        (
            c.label,
            c.event,
            c.reason,
            c.first_sample,
            c.n_samples,
            c.n_windows,
            round(c.peak_probability, 3),
            len(c.lines),
        )
        for c in found
    ]


@pytest.mark.parametrize("block", [480, 1000, 7919])
def test_size_of_the_blocks_changes_no_contact(engine: tuple, sea: np.ndarray, block: int) -> None:
    whole = contacts(engine, sea, N)
    assert {c.label for c in whole} == {"vessel_0"}
    assert rounded(contacts(engine, sea, block)) == rounded(whole)


def test_lines_of_a_ship_are_followed_through_its_contact(engine: tuple, sea: np.ndarray) -> None:
    end = contacts(engine, sea, N)[-1]
    truth = simulate(SCENARIOS["standard"], "test", 820, "vessel_0", N / FS, FS).truth
    strong = [np.median(t.f_hz) for t in truth.lines if t.label == "vessel_0" and t.snr_db.min() > 4.0]
    assert strong
    lasting = [line for line in end.lines if line.n_windows >= 0.6 * end.n_windows]
    found = [f for f in strong if any(abs(line.freq_hz - f) < 1.0 for line in lasting)]
    assert len(found) >= 0.75 * len(strong)


def test_long_gap_ends_the_contact_and_begins_another(engine: tuple, sea: np.ndarray) -> None:
    x = np.concatenate([sea[:, : N // 2], sea[:, : N // 2]], axis=1)
    found = contacts(engine, x, 1000, (FS * 14, FS * 20 + 1))
    assert [(c.event, c.reason) for c in found if c.event != "update"] == [("start", "heard"), ("end", "gap")]
    assert found[-1].first_sample + found[-1].n_samples <= FS * 14


def test_every_contact_record_keeps_to_the_schema_and_comes_back(engine: tuple, sea: np.ndarray) -> None:
    bundle, _ = engine
    identity = Identity.new("vessel", bundle.id)
    recorder = Recorder(identity, bundle.spec, bundle.labels)
    list(recorder.process(StreamStart("s", 0, FS, ("ch0",))))
    schema = json.loads(SCHEMA.read_text())
    ids = set()
    for n, contact in enumerate(contacts(engine, sea, 1000)):
        (message,) = recorder.process(contact)
        assert message.topic == "contact/ch0/"
        jsonschema.validate({**message.body, "arrays": []}, schema)
        back, sequence = decode([*encode(message), sequence_frame(n)])
        assert (back.body, sequence) == (dict(message.body), n)
        ids.add(message.body["contact_id"])
    assert ids == {f"vessel/{identity.publisher}/ch0/0/{contact.first_sample}/vessel_0"}


def test_another_run_gives_other_ids() -> None:
    contact = Contact("s", "ch0", 0, FS, "a", "start", "heard", 0, 1, 3, 0, 0.9, 2.0, ())
    spec = Bundle.load(Bundle.shipped()).spec
    ids = set()
    for _ in range(2):
        recorder = Recorder(Identity.new("vessel", None), spec, ("a",))
        list(recorder.process(StreamStart("s", 0, FS, ("ch0",))))
        ids |= {m.body["contact_id"] for m in recorder.process(contact)}
    assert len(ids) == 2


# the counter and the experiment


def test_counter_counts_the_contacts_that_the_daemon_starts(engine: tuple, sea: np.ndarray) -> None:
    counter = ContactCounter(*engine, Config())
    heard = counter.listen(sea, FS)
    live = [c for c in contacts(engine, sea, 1000) if c.event == "start"]
    starts = counter.starts(heard, (-20.0, 0.0))
    assert [(s.label, s.t_s) for s in starts] == [(c.label, (c.first_sample + c.n_samples) / FS) for c in live]
    top = counter.highest(heard)
    assert counter.starts(heard, (top[0] + 1e-6, 1e9)) == []
    assert counter.starts(heard, (-20.0, 0.0)) == starts, "hearing once serves many gates"


class FakeListener:
    """Each recording holds its peak scores in its first samples."""

    def listen(self, x: np.ndarray, fs: int) -> tuple[float, float]:
        return float(x[0, 0]), float(x[0, 1])

    def starts(self, heard: tuple[float, float], gates: tuple[float, float]) -> list[fa.Start]:
        labels = ("vessel_0", "unknown")
        return [fa.Start(w, 9.0) for w, top, gate in zip(labels, heard, gates, strict=True) if top >= gate]

    def highest(self, heard: tuple[float, float]) -> tuple[float, float]:
        return heard


def clip(a: float, b: float, label: str = "ambient") -> Clip:
    x = np.zeros((1, 3600 * 10), np.float32)
    x[0, :2] = a, b
    return Clip("x", label, "x", 10, lambda: (x, None))


def test_curve_counts_recordings_by_their_peak() -> None:
    tops = [(0.6, 3.0), (-30.0, 5.1), (2.0, 0.0), (50.0, 99.0)]
    by_kind = {c.kind: c for c in fa.measure_curves(FakeListener(), [clip(*t) for t in tops])}
    assert by_kind["class"].hours == by_kind["unknown"].hours == 4.0
    for k, kind in enumerate(("class", "unknown")):
        c = by_kind[kind]
        expected = [sum(np.float32(t[k]) >= g for t in tops) for g in c.gates]
        assert list(c.counts) == list(c.recordings) == expected


def test_proof_reports_rate_interval_and_verdict() -> None:
    clips = [clip(1.0, 1.0)] * 6 + [clip(-9.0, 1.0)] * 6
    out = fa.prove(FakeListener(), clips, {36.0: (0.0, 0.0), 1.0: (0.0, 0.0), 12.0: (0.0, 2.0)})
    row = out[36.0]
    assert (row["n_starts"], row["hours"], row["per_day"], row["n_expected"]) == (18, 12.0, 36.0, 18.0)
    assert row["by_label"] == {"unknown": 12, "vessel_0": 6}
    lo, hi = row["interval_95_per_day"]
    assert lo < 36.0 < hi
    assert row["holds"]
    assert not out[1.0]["holds"]
    assert out[12.0]["n_starts"] == 6
    assert row["dispersion"] == pytest.approx(np.var([2] * 6 + [1] * 6, ddof=1) / 1.5)


def test_fresh_sea_shares_no_recording_with_that_of_the_curve() -> None:
    curve = {c.name for c in fa.sea_to_calibrate(SCENARIOS["standard"], 1.0)}
    fresh = {c.name for s in (0, 1) for c in fa.fresh_sea(SCENARIOS["standard"], s, 1.0)}
    assert len(curve) == 6
    assert len(fresh) == 12
    assert not curve & fresh
    assert {c.label for c in fa.fresh_sea(SCENARIOS["standard"], 0, 1.0)} == {"ambient"}
