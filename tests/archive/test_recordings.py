"""One recording: the same records as the daemon's, one per window, the same whatever came before."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from calibration.ocean import AMBIENT
from daemon.archive.analyse import reprocess_recording
from daemon.archive.job import Job, Unit, units_of
from daemon.archive.parts import about_part, part_path
from daemon.archive.tables import TABLES, mask_of, schemas
from daemon.compose import Composition
from daemon.config import Config, DemonConfig
from daemon.frames import Analysed, Contact, Modulated, Signature, Skipped
from daemon.site_state import Site
from daemon.sources.audio_file import AudioFileSource
from models.bundle import Bundle
from models.engines import open_engine
from models.errors import BundleError, InputError
from models.explainer import graphs_of
from tests.archive.conftest import FS, HOLE, SECONDS

MakeJob = Callable[[Path], Job]


def rows(out: Path, unit: Unit, table: str = "windows") -> list[dict]:
    return pq.read_table(part_path(out, table, unit.part)).to_pylist()


def unit_named(folder: Path, name: str) -> Unit:
    return next(u for u in units_of(folder) if u.recording.endswith(name))


def test_records_are_those_of_the_daemon(good: Path, out: Path) -> None:
    """The daemon's own chain, fed with its own short blocks, window by window."""
    unit = unit_named(good, "two.wav")
    config = Config(demon=DemonConfig(window_s=10.0, step_s=2.0))
    outcome = reprocess_recording(Job.of(config, out), unit)
    bundle = Bundle.load(Bundle.shipped())
    engine, _ = open_engine(bundle, "auto", max_batch=32, n_threads=1, graphs=graphs_of(bundle))
    pipeline = Composition.of(config, bundle, engine, Site(None)).pipeline()
    source = AudioFileSource(Path(unit.path))
    live = []
    while (event := source.read(0.0)) is not None:
        live += list(pipeline.process(event))
    engine.close()
    slots = {(r["channel"], r["grid_index"]): r for r in rows(out, unit)}
    analysed = [r for r in live if isinstance(r, Analysed)]
    skipped = [r for r in live if isinstance(r, Skipped)]
    assert len(slots) == len(analysed) + len(skipped) == outcome["n_windows"] + outcome["n_skipped"]
    for record in analysed:
        row = slots[record.window.channel, record.window.grid_index]
        assert row["audio_digest"] == record.window.audio_digest
        assert [d["label"] for d in row["detections"]] == [d.label for d in record.verdict.detections]
        p = [row[f"p_{label}"] for label in bundle.labels]
        # sums of float32 in another batch: the golden tolerance of the bundle's probabilities is wider
        np.testing.assert_allclose(p, record.verdict.probabilities, atol=1e-4)
        assert row["level_db_re_fs"] == record.window.level_db
        assert row["n_signatures"] == record.n_signatures == len(row["signatures"])
    for record in skipped:
        row = slots[record.channel, record.grid_index]
        assert (row["analysed"], row["reason"]) == (False, record.reason)
        assert row["lost_samples"] == record.lost_samples
        assert row["p_vessel_0"] is None
    signatures = [r for r in live if isinstance(r, Signature)]
    assert len(signatures) == outcome["n_signatures"] > 0
    for record in signatures:
        row = slots[record.window.channel, record.window.grid_index]
        (own,) = [s for s in row["signatures"] if s["label"] == record.label]
        assert [line["freq_hz"] for line in own["lines"]] == [line.freq_hz for line in record.lines]
        mask = mask_of(own["mask"], record.mask.shape)
        assert own["mask_cells"] == mask.sum()
        assert np.mean(mask == record.mask) > 0.999
    contacts = rows(out, unit, "contacts")
    assert [(c["event"], c["label"], c["channel"]) for c in contacts] == [
        (c.event, c.label, c.channel) for c in live if isinstance(c, Contact)
    ]
    modulated = [r for r in live if isinstance(r, Modulated)]
    assert [(d["channel"], d["first_sample"], d["score_nats"]) for d in rows(out, unit, "demon")] == [
        (m.channel, m.first_sample, m.modulation.score) for m in modulated
    ]
    assert modulated
    assert len({c["contact_id"] for c in contacts if c["event"] == "start"}) == outcome["n_contacts"]


def test_each_slot_of_each_channel_is_one_row_and_holes_are_declared(good: Path, out: Path, make_job: MakeJob) -> None:
    unit = unit_named(good, "two.wav")
    reprocess_recording(make_job(out), unit)
    spec = Bundle.load(Bundle.shipped()).spec
    n = spec.n_windows(FS, round(SECONDS * FS))
    found = rows(out, unit)
    assert sorted((r["channel"], r["grid_index"]) for r in found) == [(c, g) for c in ("ch0", "ch1") for g in range(n)]
    for r in found:
        first, last = r["first_sample"], r["first_sample"] + r["n_samples"]
        hit = r["channel"] == "ch1" and first < HOLE.stop and last > HOLE.start
        assert r["analysed"] is not hit
        assert r["reason"] == ("invalid" if hit else None)
        assert r["lost_samples"] == (min(last, HOLE.stop) - max(first, HOLE.start) if hit else 0)
        assert r["recording"] == "_strange name é/two.wav"
        assert r["time"] is None, "its name tells no time"
    (gap,) = rows(out, unit, "gaps")
    assert (gap["channel"], gap["first_sample"], gap["n_samples"]) == ("ch1", HOLE.start, HOLE.stop - HOLE.start)


def test_time_follows_from_the_name(good: Path, out: Path, make_job: MakeJob) -> None:
    unit = unit_named(good, "20250901T070010Z.wav")
    reprocess_recording(make_job(out), unit)
    table = pq.read_table(part_path(out, "windows", unit.part), columns=["time", "first_sample"])
    t = table["time"].to_numpy().astype("datetime64[ns]")
    expected = np.datetime64("2025-09-01T07:00:10", "ns") + (table["first_sample"].to_numpy() * 10**9 // FS).astype(
        "timedelta64[ns]"
    )
    assert (t == expected).all()


def test_parts_are_identical_whatever_was_analysed_before(good: Path, tmp_path: Path, make_job: MakeJob) -> None:
    units = units_of(good)
    contents = []
    for name, order in (("a", units), ("b", units[::-1])):
        out = tmp_path / name
        for table in (*TABLES, "unfinished"):
            (out / table).mkdir(parents=True)
        for unit in order:
            assert reprocess_recording(make_job(out), unit)["state"] == "done"
        contents.append({p.relative_to(out): p.read_bytes() for p in out.rglob("*.parquet")})
    assert len(contents[0]) == len(TABLES) * len(units)
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("name", "state", "words"),
    [
        ("cut.wav", "done", "truncated"),
        ("short.wav", "done", "too short: 3.0 s"),
        ("garbage.flac", "failed", "not audio, or damaged"),
        ("low.wav", "failed", "sampled at 1000 Hz"),
    ],
)
def test_bad_recordings_are_told_and_what_they_hold_is_kept(
    bad: Path, out: Path, make_job: MakeJob, name: str, state: str, words: str
) -> None:
    unit = unit_named(bad, name)
    outcome = reprocess_recording(make_job(out), unit)
    assert (outcome["state"], words in outcome["detail"]) == (state, True), outcome["detail"]
    parts = [p for table in TABLES if (p := part_path(out, table, unit.part)).exists()]
    assert len(parts) == (len(TABLES) if state == "done" else 0)
    assert (outcome["n_windows"] > 0) == (name == "cut.wav")
    assert not list((out / "unfinished").iterdir())


def test_a_recording_that_went_bad_loses_its_old_records(good: Path, out: Path, make_job: MakeJob) -> None:
    unit = unit_named(good, "site.wav")
    reprocess_recording(make_job(out), unit)
    gone = Unit(str(out / "nowhere.wav"), unit.recording, unit.part, (0,))
    assert "no such file" in reprocess_recording(make_job(out), gone)["detail"]
    assert about_part(out, unit.part) is None
    assert not list(out.rglob("*.parquet"))


def test_what_stops_half_way_leaves_no_part(
    good: Path, out: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = AudioFileSource.read
    left = iter(range(2))

    def fails(self: AudioFileSource, timeout_s: float) -> object:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return read(self, timeout_s)

    monkeypatch.setattr(AudioFileSource, "read", fails)
    with pytest.raises(KeyboardInterrupt):
        reprocess_recording(make_job(out), unit_named(good, "site.wav"))
    assert not [p for p in out.rglob("*") if p.is_file() and p.name != ".lock"]


def test_an_unexpected_error_fails_its_recording_only(
    good: Path, out: Path, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as m:
        m.setattr(AudioFileSource, "read", lambda self, timeout_s: 1 / 0)
        outcome = reprocess_recording(make_job(out), unit_named(good, "site.wav"))
    assert (outcome["state"], outcome["detail"]) == ("failed", "unexpected ZeroDivisionError: division by zero")
    assert "ZeroDivisionError" in caplog.text, "the log holds where"
    assert reprocess_recording(make_job(out), unit_named(good, "site.wav"))["state"] == "done"


def test_a_folder_that_cannot_be_written_stops_the_run(good: Path, tmp_path: Path, make_job: MakeJob) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        reprocess_recording(make_job(tmp_path / "nowhere"), units_of(good)[0])


def test_another_bundle_on_a_worker_stops_the_run(good: Path, out: Path, make_job: MakeJob) -> None:
    job = make_job(out)
    other = Job(job.out, job.config, job.bundle_path, job.site, {**job.settings, "bundle": "0" * 16}, job.labels)
    with pytest.raises(BundleError, match="the run needs 0000000000000000"):
        reprocess_recording(other, units_of(good)[0])


def test_every_column_says_what_it_holds() -> None:
    for schema in schemas(("a", AMBIENT)).values():
        for column in schema:
            assert column.metadata[b"doc"], column.name
    assert {"p_a", "p_ambient", "signatures", "reason"} <= set(schemas(("a", AMBIENT))["windows"].names)
