"""The own ship: learned from recordings, kept in a strict file, never an alarm; others are heard beside it."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.hydrophone import Hydrophone
from calibration.own_ship import OwnLine, OwnShip
from calibration.own_ship_learn import Heard, learn, together
from daemon.cli import main
from daemon.config import Config, PublishConfig, SourceConfig
from daemon.own_ship_heard import heard_live, heard_windows
from daemon.recording import Recording
from daemon.service import Service
from daemon.site_state import choose_site, own_ship_in
from daemon.verify import Verifier
from daemon.wire import Message
from models.bundle import Bundle
from models.engines import open_engine
from models.errors import ConfigError, InputError
from models.explainer import graphs_of
from models.features import FeatureSpec
from tests.own_ship.conftest import FS, MACHINERY, STRANGER, put, sound, write


def run(path: Path, tmp_path: Path, **settings: Any) -> list[Message]:
    got: list[Message] = []
    config = Config(
        state_dir=str(tmp_path / "state"), source=SourceConfig(kind="file", path=str(path)),
        publish=PublishConfig(endpoints=(f"ipc://{tmp_path}/out",)), **settings,
    )  # fmt: skip
    service = Service(config, got.append)
    service.start()
    try:
        assert service.finished.wait(300)
    finally:
        service.stop()
    service.raise_failure()
    return got


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load(Bundle.shipped())


def test_running_daemon_teaches_what_it_publishes(tmp_path: Path, bundle: Bundle) -> None:
    path = write(tmp_path / "x.wav", sound(MACHINERY, 200.0, 9))
    endpoint = f"ipc://{tmp_path}/out"
    config = Config(
        source=SourceConfig(kind="file", path=str(path)),
        publish=PublishConfig(endpoints=(endpoint,), wait_subscriber_s=300.0),
    )  # fmt: skip
    service = Service(config)
    service.start()
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(heard_live, endpoint, bundle, 10.0)
        try:
            assert service.finished.wait(300)
        finally:
            service.stop()  # its last heartbeat ends the lesson
        heard = found.result(timeout=300)["ch0"]
    assert heard.n_windows in (22, 23)  # one window in 9 s, of 200 s
    lines = learn(heard, 1.0, 0.5)
    assert [round(x.freq_hz) for x in lines] == [round(f) for f in MACHINERY]


def counts(messages: list[Message]) -> dict[str, int]:
    families = [m.family for m in messages]
    return {
        "signatures": families.count("signature"), "own": families.count("own_ship"),
        "contacts": sum(m.family == "contact" and m.body["event"] == "start" for m in messages),
    }  # fmt: skip


def test_machinery_is_learned_line_by_line(learned: Path, bundle: Bundle) -> None:
    own = OwnShip.read(own_ship_in(learned), bundle)
    lines = own.channels["ch0"]
    assert len(lines) == len(MACHINERY)
    for line, f in zip(lines, MACHINERY, strict=True):
        assert line.freq_hz == pytest.approx(f, abs=0.2)
        assert line.share > 0.9
        assert line.level_db_re_fs == pytest.approx(20 * np.log10(0.006 / np.sqrt(2)), abs=0.7)
    assert all(own.owns("ch0", f) for f in MACHINERY)
    assert not any(own.owns("ch0", f) for f in STRANGER)
    assert not own.owns("ch1", MACHINERY[0])


def test_own_ship_alone_is_an_alarm_until_it_is_learned(learned: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "x.wav", sound(MACHINERY, 40.0, 2))
    before = run(path, tmp_path)
    assert counts(before)["contacts"] == 1
    assert {m.body["calibration_id"] for m in before} == {None}
    put(learned, tmp_path)
    after = run(path, tmp_path)
    found = counts(after)
    assert (found["signatures"], found["contacts"]) == (0, 0)
    windows = [m.body for m in after if m.family == "window"]
    assert found["own"] == sum(w["own_ship"] for w in windows) > 0.9 * len(windows)
    for w in windows:
        assert (w["unknown"], w["detections"], w["n_signatures"]) == (False, [], 0)
        assert w["n_own_ship_lines"] >= 8
    for m in after:
        if m.family == "own_ship":
            assert m.topic == "own_ship/ch0/unknown/"
            assert m.body["own_ship"]
            assert any(line["own_ship"] for line in m.body["lines"])
    (calibration,) = {m.body["calibration_id"] for m in after}
    assert calibration is not None


def test_stranger_beside_the_own_ship_is_still_a_contact_by_its_own_lines(learned: Path, tmp_path: Path) -> None:
    put(learned, tmp_path)
    overlapping = (*STRANGER, *MACHINERY[2:5])  # three of its lines cannot be told from ours
    own, other = sound(MACHINERY, 40.0, 3), sound(overlapping, 40.0, 4)
    messages = run(write(tmp_path / "x.wav", own + other), tmp_path)
    assert counts(messages)["contacts"] == 1
    (start,) = [m.body for m in messages if m.family == "contact" and m.body["event"] == "start"]
    for line in start["lines"]:  # the own ship is no part of it
        assert min(abs(line["freq_hz"] - f) for f in STRANGER) < 0.5
    marked = {
        round(x["freq_hz"]) for m in messages if m.family == "signature" for x in m.body["lines"] if x["own_ship"]
    }
    assert marked == {round(f) for f in MACHINERY}


def test_file_of_another_bundle_or_a_changed_one_is_refused_and_the_daemon_serves_on(
    learned: Path, tmp_path: Path, bundle: Bundle
) -> None:
    put(learned, tmp_path)
    path = own_ship_in(tmp_path / "state")
    config = Config(state_dir=str(tmp_path / "state"))
    good = choose_site(config, bundle)
    assert good.own_ship is not None
    raw = path.read_bytes()
    for changed in (raw.replace(b'"version": 1', b'"version": 2'), raw[:-20], b"", b"[]", raw + b" "):
        path.write_bytes(changed)
        site = choose_site(config, bundle)
        assert site.own_ship is None
        assert "learn it again" in site.own_ship_words()
    other = dataclasses.replace(good.own_ship, bundle="0" * 16, raw=b"")
    other.write(path)
    assert f"is for bundle {'0' * 16}" in choose_site(config, bundle).own_ship_problem
    assert choose_site(config, bundle).id is None


def test_lines_are_shown_forgotten_and_added(learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(learned, tmp_path)
    where = ["--state-dir", str(tmp_path / "state")]
    assert main(["own-ship", "show", *where]) == 0
    assert "channel ch0: 10 lines over 20 Hz" in capsys.readouterr().out.replace("21 Hz", "20 Hz")
    assert main(["own-ship", "forget", "--at", "62", "--at", "93", *where]) == 0
    own = OwnShip.read(own_ship_in(tmp_path / "state"))
    assert (own.version, len(own.channels["ch0"])) == (2, 8)
    assert main(["own-ship", "forget", "--at", "62", *where]) == 66
    recording = write(tmp_path / "faster.wav", sound((64.5, 480.0), 200.0, 5))
    assert main(["own-ship", "learn", str(recording), "--add", "--band", "90-96", *where]) == 0
    own = OwnShip.read(own_ship_in(tmp_path / "state"))
    assert own.version == 3
    assert [own.owns("ch0", f) for f in (31.0, 62.0, 64.5, 93.0, 480.0)] == [True, False, True, True, True]
    assert main(["own-ship", "forget", *where]) == 0
    assert OwnShip.read(own_ship_in(tmp_path / "state")).channels["ch0"] == ()
    for words in (["learn"], ["learn", str(recording), "--band", "5"], ["learn", str(recording), "--min-share", "0"]):
        assert main(["own-ship", *words, *where]) == 64
    short = write(tmp_path / "short.wav", sound(MACHINERY, 30.0, 6))
    assert main(["own-ship", "learn", str(short), *where]) == 66
    assert "too few to tell what stays" in capsys.readouterr().err


def observed(*lines: tuple[float, float, range], n_windows: int = 40, seed: int = 0) -> Heard:
    """Lines ``(freq_hz, spread_hz, windows)``."""
    rng = np.random.default_rng(seed)
    rows = [(w, f + rng.uniform(-spread, spread)) for f, spread, where in lines for w in where]
    window, freq = np.array([r[0] for r in rows], np.int64), np.array([r[1] for r in rows])
    return Heard(n_windows, window, freq, np.full(freq.size, -60.0))


def test_what_passed_by_is_not_learned() -> None:
    always, half, blinking = range(40), range(22, 40), range(0, 40, 3)
    lines = learn(observed((50.0, 0.2, always), (80.0, 0.2, half), (120.0, 0.2, blinking)), 1.0, 0.4)
    assert [round(x.freq_hz) for x in lines] == [50]


def test_line_that_wanders_with_the_speed_becomes_a_band() -> None:
    (line,) = learn(observed((200.0, 1.8, range(40))), 0.5, 0.5)
    assert line.lo_hz == pytest.approx(198.2, abs=0.4)
    assert line.hi_hz == pytest.approx(201.8, abs=0.4)


def test_of_several_regimes_all_lines_count_or_only_the_common_ones() -> None:
    slow = learn(observed((50.0, 0.1, range(40)), (80.0, 0.1, range(40))), 1.0, 0.5)
    fast = learn(observed((50.3, 0.1, range(40)), (95.0, 0.1, range(40))), 1.0, 0.5)
    assert [round(x.freq_hz) for x in together([slow, fast], 1.0, common=False)] == [50, 80, 95]
    assert [round(x.freq_hz) for x in together([slow, fast], 1.0, common=True)] == [50]


def test_random_lines_are_not_learned() -> None:
    rng = np.random.default_rng(0)
    window = np.repeat(np.arange(60), 8)
    lines = learn(Heard(60, window, rng.uniform(20, 500, window.size), np.zeros(window.size)), 1.0, 0.5)
    assert lines == []


def test_noise_alone_teaches_nothing() -> None:
    found = heard_windows(sound((), 200.0, 7)[None], FS, ("ch0",), FeatureSpec())
    assert found["ch0"].n_windows >= 20
    assert learn(found["ch0"], 1.0, 0.5) == []


def test_overlapping_bands_are_counted_once_and_bad_ones_refused(bundle: Bundle) -> None:
    def line(lo: float, hi: float) -> OwnLine:
        return OwnLine(lo_hz=lo, hi_hz=hi, share=1.0, level_db_re_fs=-60.0)

    own = OwnShip.now(bundle, "a test", 1.0, {"ch0": [line(50.0, 52.0), line(51.0, 53.0), line(100.0, 100.0)]}, 1)
    assert own.covered_hz("ch0") == pytest.approx(7.0)
    assert OwnShip.parse(own.raw) == own
    bad: Any
    for bad in (line(5.0, 4.0), line(0.0, 1.0), line(float("nan"), 1.0)):
        with pytest.raises(InputError, match="is no line"):
            OwnShip.now(bundle, "a test", 1.0, {"ch0": [bad]}, 1)


def test_records_with_calibrated_levels_and_an_own_ship_are_derived_again(
    learned: Path, tmp_path: Path, bundle: Bundle
) -> None:
    put(learned, tmp_path)
    path = write(tmp_path / "x.wav", sound(MACHINERY, 30.0, 3) + sound(STRANGER, 30.0, 4))
    chain = Hydrophone(channel="ch0", full_scale_db=175.0, response_hz=(20.0, 400.0), response_db=(-6.0, 0.0))
    messages = run(path, tmp_path, hydrophone=(chain,))
    config = Config(state_dir=str(tmp_path / "state"), hydrophone=(chain,))
    engine, _ = open_engine(bundle, max_batch=8, graphs=graphs_of(bundle))
    try:
        verifier = Verifier(config, bundle, engine, choose_site(config, bundle))
        records = [m for m in messages if m.family == "signature"]
        assert any(line["own_ship"] for m in records for line in m.body["lines"])
        assert all(line["level_db_re_1upa"] is not None for m in records for line in m.body["lines"])
        without = Config(state_dir=str(tmp_path / "state"))
        other = Verifier(without, bundle, engine, choose_site(without, bundle))
        with Recording(path) as recording:
            for record in (*records[:3], *[m for m in messages if m.family == "window"][:3]):
                finding = verifier.verify(record, recording)
                assert (finding.outcome, finding.details) == ("equal", ())
            louder = dict(records[0].body, level_db_re_1upa=records[0].body["level_db_re_1upa"] + 0.1)
            finding = verifier.verify(Message(records[0].topic, louder, records[0].arrays), recording)
            assert finding.outcome == "result differs"
            with pytest.raises(ConfigError, match="was made with site calibration"):
                other.verify(records[0], recording)
    finally:
        engine.close()
