"""``tonald verify``: equal for what a daemon published, and not for one bit of sound or one number changed."""

from __future__ import annotations

import copy
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.ocean import SCENARIOS, simulate
from calibration.site import ChannelCalibration, SiteCalibration, SiteThreshold
from calibration.thresholds import NOMINAL_LEVELS
from daemon.cli import main
from daemon.config import (
    Config,
    ExplanationConfig,
    ExtractConfig,
    PublishConfig,
    SiteConfig,
    SourceConfig,
    WindowConfig,
)
from daemon.record_file import MAGIC, RecordFile, read_records
from daemon.recording import Recording
from daemon.service import Service
from daemon.site_state import Site, choose_site, save_site
from daemon.verify import Verifier
from daemon.wire import Message, encode, sequence_frame
from models.bundle import Bundle
from models.engines import open_engine
from models.errors import AudioFormatError, BundleError, ConfigError, InputError, WireError
from models.explainer import graphs_of

soundfile = pytest.importorskip("soundfile", reason="the audio extra is not installed")

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
FS = 8000
Change = Callable[[dict[str, Any]], Any]


def published(config: Config) -> list[Message]:
    """All messages of one run of the daemon."""
    messages: list[Message] = []
    service = Service(config, messages.append)
    service.start()
    assert service.finished.wait(600)
    service.stop()
    service.raise_failure()
    return messages


def config_of(path: Path, endpoint: Path, **more) -> Config:  # noqa: ANN003
    source = SourceConfig(kind="file", path=str(path))
    return Config(source=source, publish=PublishConfig(endpoints=(f"ipc://{endpoint}/out",)), **more)


def verifiable(messages: list[Message]) -> list[Message]:
    return [m for m in messages if m.family in ("window", "signature") and m.body["audio_digest"]]


@pytest.fixture(scope="module")
def sea(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two channels, 36 s: a vessel and ambient noise; float, as a daemon has it."""
    path = tmp_path_factory.mktemp("sea") / "sea.wav"
    vessel = simulate(SCENARIOS["standard"], "test", 910, "vessel_1", 36.0, FS).x[0]
    ambient = simulate(SCENARIOS["standard"], "test", 911, "ambient", 36.0, FS).x[0]
    soundfile.write(path, np.stack([vessel, ambient]).T, FS, subtype="FLOAT")
    path.with_suffix(".json").write_text(json.dumps({"t_first_sample_ns": 1_790_000_000_000_000_000}))
    return path


@pytest.fixture(scope="module")
def records(sea: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Message]:
    return verifiable(published(config_of(sea, tmp_path_factory.mktemp("out"))))


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    bundle = Bundle.load(Bundle.shipped())
    engine, _ = open_engine(bundle, max_batch=8, graphs=graphs_of(bundle))
    yield Verifier(Config(), bundle, engine, Site(None))
    engine.close()


def signature(records: list[Message]) -> Message:
    return next(m for m in records if m.family == "signature" and m.body["lines"] and m.body["label"] != "unknown")


def altered(record: Message, change: Change) -> Message:
    body = copy.deepcopy(dict(record.body))
    change(body)
    return Message(record.topic, body, record.arrays)


def with_lsb_changed(path: Path, to: Path, sample: int) -> Path:
    """A copy, float32, in which one sample of column 0 is the next number that float32 knows."""
    x, fs = soundfile.read(path, dtype="float32", always_2d=True)
    x[sample, 0] = np.nextafter(x[sample, 0], np.float32(1.0))
    soundfile.write(to, x, fs, subtype="FLOAT")
    return to


def test_every_published_window_and_signature_is_equal(verifier: Verifier, sea: Path, records: list[Message]) -> None:
    assert len([r for r in records if r.family == "window"]) == 2 * 28
    assert len([r for r in records if r.family == "signature"]) > 10
    with Recording(sea) as recording:
        for record in records:
            finding = verifier.verify(record, recording)
            assert finding.outcome == "equal", (record.topic, finding)
            assert finding.at_sample == record.body["first_sample"]


def test_one_altered_sample_is_other_audio_in_each_window_that_holds_it_and_in_no_other(
    verifier: Verifier, sea: Path, records: list[Message], tmp_path: Path
) -> None:
    at = 15 * FS + 3
    with Recording(with_lsb_changed(sea, tmp_path / "sea.wav", at)) as recording:
        outcomes = []
        for record in records:
            body = record.body
            holds = body["first_sample"] <= at < body["first_sample"] + body["n_samples"] and body["channel"] == "ch0"
            finding = verifier.verify(record, recording)
            assert finding.outcome == ("audio differs" if holds else "equal"), (record.topic, body["first_sample"])
            outcomes.append(finding)
    bad = [f for f in outcomes if f.outcome == "audio differs"]
    assert bad
    assert "the record says" in bad[0].details[0]


def test_one_lsb_of_sixteen_bits_is_other_audio(verifier: Verifier, sea: Path, tmp_path: Path) -> None:
    x, _ = soundfile.read(sea, dtype="float32", always_2d=True)
    whole = np.round(x[: 20 * FS, :1] / np.abs(x).max() * 20_000).astype(np.int16)
    soundfile.write(tmp_path / "sea.flac", whole, FS, subtype="PCM_16")
    (record, *_) = verifiable(published(config_of(tmp_path / "sea.flac", tmp_path)))
    with Recording(tmp_path / "sea.flac") as recording:
        assert verifier.verify(record, recording).outcome == "equal"
    whole[4 * FS] += 1
    soundfile.write(tmp_path / "sea.flac", whole, FS, subtype="PCM_16")
    with Recording(tmp_path / "sea.flac") as recording:
        assert verifier.verify(record, recording).outcome == "audio differs"


LINE_CHANGES = [
    ("freq_hz", 0.01), ("freq_err_hz", 0.01), ("bandwidth_hz", 0.01), ("snr_db", 0.01), ("level_db_re_fs", 0.01),
    ("t_start_s", 0.01), ("t_end_s", -0.01), ("drift_hz_per_s", 0.01), ("label_probability", 0.01),
]  # fmt: skip


@pytest.mark.parametrize(("name", "by"), LINE_CHANGES)
def test_one_altered_number_of_a_line_is_another_result(
    verifier: Verifier, sea: Path, records: list[Message], name: str, by: float
) -> None:
    def change(body: dict) -> None:
        body["lines"][-1][name] += by

    with Recording(sea) as recording:
        finding = verifier.verify(altered(signature(records), change), recording)
    assert finding.outcome == "result differs"
    assert len(finding.details) == 1
    assert f".{name} is" in finding.details[0]


@pytest.mark.parametrize(
    ("family", "change", "says"),
    [
        ("signature", lambda b: b["lines"].pop(), "lines has"),
        ("signature", lambda b: b["lines"][0].update(label="vessel_9"), "lines[0].label"),
        ("signature", lambda b: b.update(mask_cells=b["mask_cells"] + 40), "mask_cells"),
        ("signature", lambda b: b.update(nearest="vessel_0/999"), "nearest"),
        ("window", lambda b: b.update(n_lines=b["n_lines"] + 1), "n_lines"),
        ("window", lambda b: b.update(unknown=not b["unknown"]), "unknown"),
        ("window", lambda b: b["detections"].clear(), "detections has 0 entries"),
        ("window", lambda b: b["probabilities"].update(ambient=b["probabilities"]["ambient"] + 0.01), "probabilities"),
        ("window", lambda b: b.update(level_db_re_fs=b["level_db_re_fs"] + 0.01), "level_db_re_fs"),
    ],
)
def test_any_other_altered_result_is_named(
    verifier: Verifier, sea: Path, records: list[Message], family: str, change: Change, says: str
) -> None:
    record = next(
        r for r in records
        if r.family == family and (r.body.get("lines") or r.body.get("detections")) and r.body.get("label") != "unknown"
    )  # fmt: skip
    with Recording(sea) as recording:
        finding = verifier.verify(altered(record, change), recording)
    assert finding.outcome == "result differs"
    assert any(says in d for d in finding.details), finding.details


def test_altered_cell_of_the_mask_and_a_label_that_does_not_come_out(
    verifier: Verifier, sea: Path, records: list[Message]
) -> None:
    record = signature(records)
    mask = dict(record.arrays)["mask"].copy()
    mask[100, 10] ^= 1
    with Recording(sea) as recording:
        finding = verifier.verify(Message(record.topic, record.body, (("mask", mask),)), recording)
        assert finding.details == ("mask differs in 1 cells",)
        other = Message("signature/ch0/vessel_9/", {**record.body, "label": "vessel_9"}, record.arrays)
        assert verifier.verify(other, recording).details == ("no record on signature/ch0/vessel_9/ comes out",)


def test_part_of_the_stream_is_found_by_its_time(
    verifier: Verifier, sea: Path, records: list[Message], tmp_path: Path
) -> None:
    cut = 9 * FS + 1234
    x, _ = soundfile.read(sea, dtype="float32", always_2d=True, start=cut)
    part = tmp_path / "part.wav"
    soundfile.write(part, x, FS, subtype="FLOAT")
    off = 150_000  # ns: a little more than a sample, within the error that the record states
    t = 1_790_000_000_000_000_000 + cut * 10**9 // FS + off
    part.with_suffix(".json").write_text(json.dumps({"t_first_sample_ns": t}))
    later = [r for r in records if r.body["first_sample"] >= cut][:6]
    assert len(later) == 6
    with Recording(part) as recording:
        for record in later:
            said = altered(record, lambda b: b["clock"].update(est_error_ns=1_000_000))
            finding = verifier.verify(said, recording)
            assert finding.outcome == "equal"
            assert finding.at_sample == record.body["first_sample"] - cut
        early = next(r for r in records if r.body["first_sample"] < cut)
        assert verifier.verify(early, recording).outcome == "audio differs"


def test_recording_that_is_another_or_too_short_says_why(
    verifier: Verifier, sea: Path, records: list[Message], tmp_path: Path
) -> None:
    x, _ = soundfile.read(sea, dtype="float32", always_2d=True)
    soundfile.write(tmp_path / "short.wav", x[: 10 * FS], FS, subtype="FLOAT")
    soundfile.write(tmp_path / "rate.wav", x, 16_000, subtype="FLOAT")
    record = records[-1]
    with Recording(tmp_path / "short.wav") as recording:
        assert "the recording of 80000 samples does not hold samples" in verifier.verify(record, recording).details[0]
    with Recording(tmp_path / "rate.wav") as recording:
        assert "16000 Hz" in verifier.verify(record, recording).details[0]
    soundfile.write(tmp_path / "many.wav", x[:, [1, 0]], FS, subtype="FLOAT")
    with Recording(tmp_path / "many.wav", column=1) as recording:
        assert verifier.verify(next(r for r in records if r.body["channel"] == "ch0"), recording).outcome == "equal"
    with Recording(tmp_path / "many.wav") as recording, pytest.raises(AudioFormatError, match="--column"):
        verifier.verify(altered(record, lambda b: b.update(channel="fore")), recording)
    with pytest.raises(AudioFormatError, match="no column 2"):
        Recording(tmp_path / "many.wav", column=2)


def test_records_of_other_makers_are_refused_and_the_cure_named(
    verifier: Verifier, sea: Path, records: list[Message], tmp_path: Path
) -> None:
    with Recording(sea) as recording:
        with pytest.raises(BundleError, match="made by bundle 0000, this is"):
            verifier.verify(altered(records[0], lambda b: b.update(bundle="0000")), recording)
        with pytest.raises(ConfigError, match="site calibration abc, in force here is none"):
            verifier.verify(altered(records[0], lambda b: b.update(calibration_id="abc")), recording)
        config = config_of(sea, tmp_path, window=WindowConfig(hop_s=2.0), extract=ExtractConfig(line_snr_db=6.0))
        (_, _, _, record, *_) = verifiable(published(config))
        with pytest.raises(ConfigError, match="windows every 2 s, the settings say 1 s"):
            verifier.verify(record, recording)
        assert Verifier(
            config, verifier._bundle, verifier._composition.explainer._engine, Site(None)
        ).verify(record, recording).outcome == "equal"  # fmt: skip


@pytest.mark.parametrize("which", ["vessel", "full", "site", "hop"])
def test_settings_of_the_daemon_make_its_records_equal(
    which: str, sea: Path, verifier: Verifier, tmp_path: Path
) -> None:
    bundle = verifier._bundle
    more: dict[str, Any] = {
        "vessel": {"extract": ExtractConfig(mode="vessel")},
        "full": {"explanation": ExplanationConfig(mode="full")},
        "site": {"site": SiteConfig(calibration=str(tmp_path / "site.json"))},
        "hop": {"window": WindowConfig(hop_s=0.5), "extract": ExtractConfig(nominal="0.99")},
    }
    if which == "site":
        levels = {q: SiteThreshold(0.3 + 0.05 * i, 0.9, 0.8, 1.0) for i, q in enumerate(NOMINAL_LEVELS)}
        labels = dict.fromkeys([label for label in bundle.labels if label != "ambient"], levels)
        channel = ChannelCalibration(
            n_windows=30,
            n_recordings=8,
            n_segments=8,
            seconds=70.0,
            n_detected=0,
            detected="left out",
            labels=labels,
            vessel=levels,
        )
        save_site(tmp_path / "site.json", SiteCalibration.now(bundle, "a test", {"ch0": channel}, 1))
    config = config_of(sea, tmp_path, **more[which])
    made = verifiable(published(config))
    assert any(m.family == "signature" for m in made)
    site = choose_site(config, bundle)
    own = Verifier(config, bundle, verifier._composition.explainer._engine, site)
    with Recording(sea) as recording:
        assert {own.verify(m, recording).outcome for m in made} == {"equal"}
        if which in ("vessel", "full"):  # another way of explaining gives another result, and is noticed
            others = [verifier.verify(m, recording).outcome for m in made if m.family == "signature"]
            assert "result differs" in others
        if which == "site":
            with pytest.raises(ConfigError, match="--config"):
                verifier.verify(made[0], recording)


@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed")
def test_another_engine_is_within_the_golden_tolerance(sea: Path, records: list[Message], verifier: Verifier) -> None:
    bundle = verifier._bundle
    engine, report = open_engine(bundle, "onnxruntime", max_batch=8, graphs=graphs_of(bundle))
    assert report.name == "onnxruntime"
    try:
        other = Verifier(Config(), bundle, engine, Site(None))
        with Recording(sea) as recording:
            assert {other.verify(m, recording).outcome for m in records} == {"equal"}
    finally:
        engine.close()


# the command and its files


def save(path: Path, messages: list[Message]) -> Path:
    with RecordFile(path) as file:
        for n, message in enumerate(messages):
            file.add([*encode(message), sequence_frame(n)])
    return path


def test_saved_records_are_read_as_they_were(records: list[Message], tmp_path: Path) -> None:
    read = list(read_records(save(tmp_path / "r", records)))
    assert [(m.topic, m.body) for m in read] == [(m.topic, m.body) for m in records]
    for a, b in zip(read, records, strict=True):
        for (_, x), (_, y) in zip(a.arrays, b.arrays, strict=True):
            np.testing.assert_array_equal(x, y)
    with pytest.raises(InputError, match="exists"):
        RecordFile(tmp_path / "r")


def test_damaged_file_of_records_names_the_record(records: list[Message], tmp_path: Path) -> None:
    data = save(tmp_path / "r", records[:3]).read_bytes()
    first = len(save(tmp_path / "one", records[:1]).read_bytes())
    ends = {len(save(tmp_path / f"{n}", records[:n]).read_bytes()) for n in range(3)}  # there nothing shows it
    for cut in set(range(len(MAGIC) + 1, len(data), 97)) - ends:
        (tmp_path / "cut").write_bytes(data[:cut])
        with pytest.raises(WireError, match=r"record \d is cut off"):
            list(read_records(tmp_path / "cut"))
    first = sorted(ends)[1]
    (tmp_path / "bad").write_bytes(data[:first] + b"\xff" * 40)
    with pytest.raises(WireError, match="record 2 says it has"):
        list(read_records(tmp_path / "bad"))
    (tmp_path / "text").write_text("hello")
    with pytest.raises(WireError, match="holds no records"):
        list(read_records(tmp_path / "text"))
    (tmp_path / "json").write_text('{"topic": "window/ch0/"}\n')
    with pytest.raises(WireError, match="line 1: field 'schema' is missing"):
        list(read_records(tmp_path / "json"))
    with pytest.raises(InputError, match="cannot be read"):
        list(read_records(tmp_path / "none"))


def test_command_says_equal_audio_differs_or_result_differs(
    sea: Path, records: list[Message], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def verdict(messages: Path, recording: Path) -> tuple[int, str]:
        code = main(["verify", str(messages), str(recording)])
        return code, capsys.readouterr().out

    some = save(tmp_path / "some", records[:6])
    assert verdict(some, sea) == (0, "equal\n")
    other = with_lsb_changed(sea, tmp_path / "other.wav", 2 * FS + 5)
    code, out = verdict(some, other)
    assert (code, out.splitlines()[-1]) == (10, "audio differs")
    wrong = altered(signature(records), lambda b: b["lines"][0].update(freq_hz=b["lines"][0]["freq_hz"] + 0.5))
    code, out = verdict(save(tmp_path / "wrong", [*records[:3], wrong]), sea)
    assert (code, out.splitlines()[-1]) == (11, "result differs")
    assert "lines[0].freq_hz is" in out
    gap = next(m for m in read_records(some)).body
    assert main(["verify", str(save(tmp_path / "none", [_gap(gap)])), str(sea)]) == 66
    assert "nothing to verify" in capsys.readouterr().err


def test_of_a_run_over_many_files_the_records_of_one_are_taken(
    sea: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "archive"
    folder.mkdir()
    x, _ = soundfile.read(sea, dtype="float32", always_2d=True)
    for k in range(3):
        soundfile.write(folder / f"{k}.wav", x[k * FS : (k + 12) * FS, :1], FS, subtype="FLOAT")
    messages = [m for m in published(config_of(folder, tmp_path)) if m.family in ("info", "status", "window")]
    kept = save(tmp_path / "kept", messages)
    assert main(["verify", str(kept), str(folder / "1.wav"), "--verbose"]) == 0
    said = capsys.readouterr()
    assert said.out.count("equal: ") == 4  # 12 s: four windows
    assert "8 records of other streams than 1.wav passed over" in said.err
    shutil.copy(folder / "1.wav", folder / "renamed.wav")
    assert main(["verify", str(kept), str(folder / "renamed.wav")]) == 10  # then nothing says which are meant


def _gap(body: Mapping[str, Any]) -> Message:
    more = {"reason": "lost", "duration_ns": 1, "err_ns": 0, "journal_seq": None, "audio_digest": None}
    keep = {k: v for k, v in body.items() if k not in ("schema",)}
    return Message("gap/ch0/", {**keep, "schema": "tonald/gap", **more})


@pytest.mark.parametrize("kind", ["--save", "--json"])
def test_what_listen_keeps_can_be_verified(kind: str, sea: Path, tmp_path: Path) -> None:
    """Whole, as users do it: daemon, listener, verify, each a program of its own."""
    tonald = [sys.executable, "-m", "daemon"]
    endpoint, kept = f"ipc://{tmp_path}/out", tmp_path / "kept"
    words = [*tonald, "listen", endpoint, "--topics", "info/", "window/", "signature/", "status/"]
    words += ["--once", "60", *(("--save", str(kept)) if kind == "--save" else ("--json",))]
    with (tmp_path / "printed").open("wb") as printed:
        listener = subprocess.Popen(words, cwd=ROOT, stdout=printed)
        run = ["run", "--source", str(sea), "--once", "--wait-subscriber", "60", "--publish", endpoint, "--quiet"]
        done = subprocess.run([*tonald, *run], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
        assert done.returncode == 0, done.stderr
        assert listener.wait(60) == 0
    if kind == "--json":
        shutil.copy(tmp_path / "printed", kept)
    out = subprocess.run(
        [*tonald, "verify", str(kept), str(sea), "--verbose"],
        cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert out.returncode == 0, out.stdout + out.stderr
    assert out.stdout.splitlines()[-1] == "equal"
    assert out.stdout.count("equal: ") >= 55


# all together


def random_windows(paths: list[Path], endpoint: Path, n: int, seed: int) -> dict[Path, list[Message]]:
    """``n`` random windows, each with its signatures, of one run per recording."""
    rng = np.random.default_rng(seed)
    runs: dict[Path, list[Message]] = {}
    for k, path in enumerate(paths):
        (endpoint / str(k)).mkdir()
        runs[path] = verifiable(published(config_of(path, endpoint / str(k))))
    keys = [
        (path, m.body["channel"], m.body["grid_index"])
        for path, messages in runs.items()
        for m in messages
        if m.family == "window"
    ]
    assert len(keys) >= n, f"only {len(keys)} windows"
    chosen = {keys[int(i)] for i in rng.choice(len(keys), n, replace=False)}
    return {
        path: [m for m in messages if (path, m.body["channel"], m.body["grid_index"]) in chosen]
        for path, messages in runs.items()
    }


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the real recordings (../shared/data) are not at hand")
@pytest.mark.timeout(1800)
def test_a_thousand_random_windows_of_real_and_simulated_recordings_are_equal(
    verifier: Verifier, tmp_path: Path
) -> None:
    spec = Bundle.load(Bundle.shipped()).spec
    real = [p for p in sorted(DATA.rglob("*.flac")) if soundfile.info(p).samplerate >= spec.fs_model]
    real = [p for p in real if soundfile.info(p).duration > 9.0]
    simulated = []
    for k, (scenario, label, fs) in enumerate(
        [("standard", "vessel_0", 4000), ("low_snr", "vessel_1", 8000), ("two_ships", "vessel_2", 48_000),
         ("standard", "ambient", 32_000), ("wide", "vessel_3", 44_100)]
    ):  # fmt: skip
        if label not in SCENARIOS[scenario].labels:
            label = next(x for x in SCENARIOS[scenario].labels if x != "ambient")
        path = tmp_path / f"{scenario}_{label}_{fs}.wav"
        sim = simulate(SCENARIOS[scenario], "test", 920 + k, label, 120.0, fs)
        soundfile.write(path, sim.x.T, fs, subtype="FLOAT")
        simulated.append(path)
    kept = random_windows([*simulated, *real], tmp_path, 1000, 1)
    n_windows, n_signatures = 0, 0
    for path, messages in kept.items():
        with Recording(path) as recording:
            for record in messages:
                finding = verifier.verify(record, recording)
                assert finding.outcome == "equal", (path, record.topic, record.body["grid_index"], finding)
                n_windows += record.family == "window"
                n_signatures += record.family == "signature"
    assert n_windows == 1000
    assert n_signatures > 300
    sys.stderr.write(f"\n{n_windows} windows, {n_signatures} signatures of {len(kept)} recordings: equal\n")
