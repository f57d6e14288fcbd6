"""SIGHUP: bundle and settings are exchanged between two windows; no sample, slot or signature is lost over it."""

from __future__ import annotations

import dataclasses
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from calibration.ocean import SCENARIOS, simulate
from daemon.config import (
    ChecksConfig,
    Config,
    ContactsConfig,
    DemonConfig,
    EngineConfig,
    ExtractConfig,
    PublishConfig,
    SourceConfig,
    WindowConfig,
)
from daemon.frames import AudioBlock, Backlog, ClockState, Event, Gap, StreamEnd, StreamStart
from daemon.in_force import InForce
from daemon.reload import RELOADED, unlike
from daemon.service import Service
from daemon.site_state import in_state, save_site
from daemon.subscriber import Subscriber
from daemon.wire import Message
from models.bundle import Bundle
from models.engines import onnxruntime as ort_module
from tests.toy_bundle import LABELS, SPEC, arguments, make_bundle
from tests.toy_site import site_with

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 120.0
FS, SECONDS = 4000, 24
WINDOW_S, STEP_S = SPEC.n_samples(FS) / FS, SPEC.step_s


class Sea:
    """A live source whose sound comes when the test says so."""

    live, name = True, "sea"

    def __init__(self, x: np.ndarray) -> None:
        self.x, self.at = x, 0
        self.events: queue.Queue[Event] = queue.Queue()
        self.events.put(StreamStart(self.name, 0, FS, tuple(f"ch{c}" for c in range(len(x))), "sea", 0, ClockState()))
        self.read_by: set[str] = set()

    def give(self, seconds: float) -> None:
        """Sound of so long, in blocks of a quarter of a second."""
        for _ in range(round(4 * seconds)):
            block = self.x[:, self.at : self.at + FS // 4]
            self.events.put(AudioBlock(self.name, 0, self.at, FS, block))
            self.at += FS // 4

    def end(self) -> None:
        self.events.put(StreamEnd(self.name, 0, self.at, final=True))

    def read(self, timeout_s: float) -> Event | None:
        self.read_by.add(threading.current_thread().name)
        try:
            return self.events.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def backlog(self) -> Backlog | None:
        return None

    def close(self) -> None:
        pass


def sound(n_channels: int = 2) -> np.ndarray:
    """A line that the toy bundle names, in noise, throughout."""
    t = np.arange(FS * SECONDS) / FS
    noise = np.random.default_rng(3).normal(0.0, 0.01, (n_channels, t.size))
    x = (
        noise
        + 0.05 * np.sin(2 * np.pi * SPEC.bin_hz * (SPEC.n_freq // 4) * t) * (np.arange(n_channels) % 2 == 0)[:, None]
    )
    return x.astype(np.float32)


class Run:
    """A service on such a sea."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.messages: list[Message] = []
        self.sea = Sea(sound())
        self.config = dataclasses.replace(
            config, publish=dataclasses.replace(config.publish, endpoints=(f"ipc://{folder}/out",))
        )
        self.service = Service(self.config, self.messages.append, source=self.sea)

    def windows(self) -> list[dict]:
        return [m.body for m in self.messages if m.family == "window"]

    def heard(self, seconds: float) -> None:
        """Give sound and wait until every slot it completes is told."""
        self.sea.give(seconds)
        due = int((self.sea.at / FS - WINDOW_S) / STEP_S) + 1
        wait(lambda: len(self.windows()) >= 2 * due or self.service.finished.is_set())
        self.service.raise_failure()

    def reload(self, **changes: object) -> str:
        """Ask, wait, and say why it was refused."""
        self.ask(lambda: dataclasses.replace(self.config, **changes))
        return self.service.reloader.problem

    def ask(self, load: Callable[[], Config]) -> None:
        self.service.reload(load)
        wait(lambda: not self.service.reloader.busy)

    def through(self) -> list[dict]:
        """To the end; every slot has its record, in order, and no sample is lost."""
        left = SECONDS - self.sea.at / FS
        self.heard(left)
        self.sea.end()
        assert self.service.finished.wait(PATIENCE_S)
        self.service.raise_failure()
        windows = self.windows()
        for channel in ("ch0", "ch1"):
            mine = [w for w in windows if w["channel"] == channel]
            assert [w["grid_index"] for w in mine] == list(range(int((SECONDS - WINDOW_S) / STEP_S) + 1))
            assert all(w["lost_samples"] == 0 for w in mine)
        assert not [m for m in self.messages if m.family == "gap"]
        return windows


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not until():
        assert time.monotonic() < end
        time.sleep(0.01)


@contextmanager
def running(folder: Path, config: Config) -> Iterator[Run]:
    run = Run(folder, config)
    run.service.start()
    try:
        yield run
    finally:
        run.service.stop()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """``first``; ``other`` has another id; ``tuned`` another background; ``long`` other windows; ``wrong`` lies."""
    folder = tmp_path_factory.mktemp("bundles")
    golden = arguments()["golden"]
    inputs, outputs = golden["classify"]
    lie = golden | {"classify": (inputs, outputs | {"logits": outputs["logits"] + np.float32(1.0)})}
    return {
        "first": make_bundle(folder / "first"),
        "other": make_bundle(folder / "other", training={"seed": 8, "command": "tests"}),
        "tuned": make_bundle(folder / "tuned", spec=dataclasses.replace(SPEC, tpsw_clip=2.5)),
        "long": make_bundle(folder / "long", spec=dataclasses.replace(SPEC, n_fft=2000, fs_model=4000, hop=500)),
        "wrong": make_bundle(folder / "wrong", golden=lie),
    }


@pytest.fixture
def config(bundles: dict[str, Bundle]) -> Config:
    return Config(
        bundle=str(bundles["first"].path),
        window=WindowConfig(hop_s=STEP_S),
        engine=EngineConfig(name="onnxruntime", n_threads=1),
        contacts=ContactsConfig(false_alarms_per_day=0.0),
        publish=PublishConfig(endpoints=("ipc://unset",), masks=True),
        demon=DemonConfig(enabled=False),
    )


def test_another_bundle_serves_from_one_window_to_the_next(
    tmp_path: Path, config: Config, bundles: dict[str, Bundle]
) -> None:
    first, other = bundles["first"].id, bundles["other"].id
    assert first != other
    with running(tmp_path, config) as run:
        run.heard(10)
        n = len(run.windows())
        old_engine = run.service.in_force.engine
        assert run.reload(bundle=str(bundles["other"].path)) == ""
        assert run.service.in_force.engine is not old_engine
        windows = run.through()
        assert run.sea.read_by == {"processing"}
    assert {w["bundle"] for w in windows[:n]} == {first}
    assert {w["bundle"] for w in windows[n:]} == {other}
    assert all(w["analysed"] for w in windows)
    assert [m.body["bundle"] for m in run.messages if m.family == "contact" and m.body["event"] == "end"] == [
        first, other
    ]  # fmt: skip
    ends = [m.body["reason"] for m in run.messages if m.family == "contact" and m.body["event"] == "end"]
    assert ends == ["reload", "ended"]
    starts = [m.body["bundle"] for m in run.messages if m.family == "contact" and m.body["event"] == "start"]
    assert starts == [first, other]


def test_what_is_told_is_what_either_bundle_tells_alone(
    tmp_path: Path, config: Config, bundles: dict[str, Bundle]
) -> None:
    """The exchange leaves no mark in the numbers."""
    told = {}
    for name in ("first", "other"):
        with running(tmp_path, dataclasses.replace(config, bundle=str(bundles[name].path))) as run:
            told[name] = run.through()
    with running(tmp_path, config) as run:
        run.heard(12)
        n = len(run.windows())
        run.reload(bundle=str(bundles["other"].path))
        windows = run.through()
    for i, w in enumerate(windows):
        alone = told["first" if i < n else "other"][i]
        for key in ("grid_index", "channel", "audio_digest", "level_db", "probabilities", "detections", "n_signatures"):
            if key in alone:
                assert w[key] == alone[key], key


def test_the_new_info_goes_to_who_listens_and_to_who_comes_later(
    tmp_path: Path, config: Config, bundles: dict[str, Bundle]
) -> None:
    with running(tmp_path, config) as run:
        run.heard(4)
        with Subscriber(f"ipc://{tmp_path}/out", ["info/"]) as subscriber:
            assert _next(subscriber)["bundle"] == bundles["first"].id
            run.reload(bundle=str(bundles["other"].path))
            assert _next(subscriber)["bundle"] == bundles["other"].id
            with Subscriber(f"ipc://{tmp_path}/out", ["info/"]) as late:
                assert _next(late)["bundle"] == bundles["other"].id


def _next(subscriber: Subscriber) -> dict:
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        if (message := subscriber.receive(0.2)) is not None:
            return message.body
    raise AssertionError("nothing came")


def test_settings_alone_keep_the_engine_and_the_contacts(tmp_path: Path, config: Config) -> None:
    with running(tmp_path, config) as run:
        run.heard(10)
        engine = run.service.in_force.engine
        publish = dataclasses.replace(run.config.publish, masks=False, spectrogram=True)
        assert run.reload(publish=publish, extract=ExtractConfig(nominal="0.99")) == ""
        assert run.service.in_force.engine is engine
        n = len(run.messages)
        run.through()
    later = run.messages[n:]
    assert [m for m in later if m.family == "spectrogram"]
    assert not [m for m in run.messages[:n] if m.family == "spectrogram"]
    assert all("mask" not in m.arrays for m in later if m.family == "signature")
    events = [(m.body["event"], m.body["reason"]) for m in run.messages if m.family == "contact"]
    assert [e for e in events if e[0] != "update"] == [("start", "heard"), ("end", "ended")]


def test_another_rule_ends_the_contacts_of_the_old_one(tmp_path: Path, config: Config) -> None:
    with running(tmp_path, config) as run:
        run.heard(10)
        assert run.reload(contacts=ContactsConfig(false_alarms_per_day=0.0, n_start=2, m=4)) == ""
        run.through()
    events = [(m.body["event"], m.body["reason"]) for m in run.messages if m.family == "contact"]
    assert [e for e in events if e[0] != "update"] == [
        ("start", "heard"), ("end", "reload"), ("start", "heard"), ("end", "ended")
    ]  # fmt: skip


def test_another_front_end_declares_the_slots_that_lie_across_the_exchange(
    tmp_path: Path, config: Config, bundles: dict[str, Bundle]
) -> None:
    with running(tmp_path, config) as run:
        run.heard(10)
        assert run.reload(bundle=str(bundles["tuned"].path)) == ""
        windows = run.through()
    at, step, n = 10 * FS, SPEC.step(FS), SPEC.n_samples(FS)
    for w in windows:
        first = w["grid_index"] * step
        across = first < at < first + n
        assert w["analysed"] is not across
        assert w["reason"] == ("warm-up" if across else None)
    with running(tmp_path, dataclasses.replace(config, bundle=str(bundles["tuned"].path))) as alone:
        same = alone.through()
    after = [(w, s) for w, s in zip(windows, same, strict=True) if w["grid_index"] * step >= at]
    assert after
    assert all(w["probabilities"] == s["probabilities"] for w, s in after)


def test_demon_and_checks_start_anew_where_they_are_asked_for(tmp_path: Path, config: Config) -> None:
    with running(tmp_path, config) as run:
        run.heard(4)
        assert run.reload(demon=DemonConfig(window_s=10.0, step_s=2.0), checks=ChecksConfig(enabled=False)) == ""
        windows = run.through()
    demon = [m.body for m in run.messages if m.family == "demon"]
    assert demon
    assert min(m["first_sample"] for m in demon) >= 4 * FS
    assert windows[0]["quality"] is not None
    assert windows[-1]["quality"] is None


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ({"bundle": "/nowhere"}, "/nowhere"),
        ({"bundle": "wrong"}, "golden"),
        ({"bundle": "long"}, "restart"),
        ({"bundle": "torn"}, "does not match its hash"),
        ({"extract": ExtractConfig(mode="vessel")}, "extract.mode"),
        ({"source": SourceConfig(seed=5)}, "source.seed changed: that needs a restart"),
        ({"window": WindowConfig(hop_s=2 * STEP_S)}, "window.hop_s changed: that needs a restart"),
        ({"node": "aft"}, "node changed"),
        ({"hydrophones": "/nowhere.toml"}, "/nowhere.toml"),
    ],
)
def test_what_cannot_serve_is_refused_and_what_served_goes_on(
    tmp_path: Path,
    config: Config,
    bundles: dict[str, Bundle],
    what: dict,
    says: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    torn = tmp_path / "torn"
    shutil.copytree(bundles["other"].path, torn)
    with next(torn.rglob("*.onnx")).open("r+b") as f:
        f.seek(100)
        byte = f.read(1)
        f.seek(100)
        f.write(bytes([byte[0] ^ 1]))
    named = {name: str(b.path) for name, b in bundles.items()} | {"torn": str(torn)}
    changes = {k: named.get(v, v) if isinstance(v, str) else v for k, v in what.items()}
    with running(tmp_path, config) as run:
        run.heard(6)
        before = run.service.in_force
        problem = run.reload(**changes)
        assert says in problem, problem
        assert "\n" not in problem
        assert f"not reloaded: {problem}; what served before goes on" in caplog.text
        assert run.service.in_force is before
        assert run.service.config == run.config
        windows = run.through()
    assert {w["bundle"] for w in windows} == {bundles["first"].id}
    assert all(w["analysed"] for w in windows)


def test_a_good_reload_after_a_bad_one_takes_its_complaint_back(
    tmp_path: Path, config: Config, bundles: dict[str, Bundle]
) -> None:
    with running(tmp_path, config) as run:
        assert run.reload(bundle="/nowhere")
        assert run.reload(bundle=str(bundles["other"].path)) == ""
        assert (run.service.reloader.n_done, run.service.reloader.n_refused) == (1, 1)


def test_what_is_not_ours_to_foresee_is_refused_with_its_traceback_in_the_log(
    tmp_path: Path, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    def load() -> Config:
        raise RuntimeError("a library gave up")

    with running(tmp_path, config) as run:
        run.ask(load)
        assert run.service.reloader.problem == "RuntimeError: a library gave up"
        assert "Traceback" in caplog.text
        run.through()


def test_nothing_changed_is_no_exchange(tmp_path: Path, config: Config, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    with running(tmp_path, config) as run:
        run.heard(6)
        before = run.service.in_force
        assert run.reload() == ""
        assert run.service.in_force is before
    assert "settings, bundle and site are as they were" in caplog.text
    assert len([m for m in run.messages if m.family == "info"]) == 0  # info goes past the callback, straight out


def test_an_exchange_within_a_gap_or_between_streams_is_as_good(
    tmp_path: Path, config: Config, bundles: dict[str, Bundle]
) -> None:
    with running(tmp_path, config) as run:
        run.heard(6)
        run.sea.events.put(Gap("sea", 0, run.sea.at, FS, 0, 0, "overflow"))
        run.sea.at += FS
        assert run.reload(bundle=str(bundles["tuned"].path)) == ""
        run.sea.give(5)
        run.sea.events.put(StreamEnd("sea", 0, run.sea.at, final=False))
        wait(lambda: run.service.progress().streaming is False)
        assert run.reload(bundle=str(bundles["other"].path)) == ""
        run.sea.events.put(StreamStart("sea", 1, FS, ("ch0", "ch1"), "again", 0, ClockState()))
        run.sea.events.put(AudioBlock("sea", 1, 0, FS, run.sea.x[:, : 4 * FS]))
        run.sea.events.put(StreamEnd("sea", 1, 4 * FS, final=True))
        assert run.service.finished.wait(PATIENCE_S)
        run.service.raise_failure()
    by_epoch = {e: [w for w in run.windows() if w["epoch"] == e] for e in (0, 1)}
    assert {w["bundle"] for w in by_epoch[1]} == {bundles["other"].id}
    assert all(w["analysed"] for w in by_epoch[1])
    assert {w["reason"] for w in by_epoch[0]} >= {None, "gap"}
    assert [w["grid_index"] for w in by_epoch[0]][::2] == list(range(len(by_epoch[0]) // 2))


def test_requests_that_come_while_one_is_under_way_are_one_request(
    tmp_path: Path, config: Config, bundles: dict[str, Bundle]
) -> None:
    n_loads = 0
    go = threading.Event()

    def load() -> Config:
        nonlocal n_loads
        n_loads += 1
        assert go.wait(PATIENCE_S)
        return dataclasses.replace(run.config, bundle=str(bundles["other"].path))

    with running(tmp_path, config) as run:
        run.service.reload(load)
        wait(lambda: n_loads == 1)
        for _ in range(50):
            run.service.reload(load)
        go.set()
        wait(lambda: not run.service.reloader.busy)
        assert n_loads == 2
        run.through()


def test_a_daemon_that_stops_does_not_wait_for_a_reload_and_closes_what_it_built(
    tmp_path: Path, config: Config, bundles: dict[str, Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, closed = [], []
    engine = ort_module.OnnxRuntimeEngine
    init, close = engine.__init__, engine.close

    def opening(self: object, *args: object, **kw: object) -> None:
        opened.append(id(self))
        init(self, *args, **kw)

    def closing(self: object) -> None:
        closed.append(id(self))
        close(self)

    monkeypatch.setattr(engine, "__init__", opening)
    monkeypatch.setattr(engine, "close", closing)
    with running(tmp_path, config) as run:
        run.sea.end()
        assert run.service.finished.wait(PATIENCE_S)  # nobody is left to take it
        run.service.reload(lambda: dataclasses.replace(run.config, bundle=str(bundles["other"].path)))
        wait(lambda: run.service.reloader.ready() is not None)
    assert len(opened) == 2
    assert sorted(opened) == sorted(closed)


def test_every_key_is_known_to_need_a_restart_or_not() -> None:
    """A new key is a decision: whoever adds a table says here which it is."""
    known = {f.name for f in dataclasses.fields(Config)}
    restart = {
        "node",
        "state_dir",
        "source",
        "window",
        "publish",
        "journal",
        "forensic",
        "selftest",
        "status",
        "metrics",
    }
    reloaded = {name.partition(".")[0] for name in RELOADED}
    assert restart | reloaded == known
    assert restart & reloaded == {"publish"}
    a = Config(node="a", publish=PublishConfig(hwm=5, masks=False), extract=ExtractConfig(nominal="0.86"))
    assert unlike(Config(node="a"), a) == ["publish.hwm"]
    page = (ROOT / "docs" / "install.md").read_text()
    table = page.partition("| comes into force by SIGHUP |")[2].partition("\n\n")[0]
    assert [name for name in RELOADED if f"`{name}`" not in table] == []
    assert [
        name for name in sorted(restart - {"publish"}) if f"`{name}`" not in page.partition("All other keys")[2]
    ] == []


def test_a_new_site_calibration_comes_into_force_and_a_bad_one_does_not(
    tmp_path: Path, config: Config, bundles: dict[str, Bundle]
) -> None:
    path = in_state(tmp_path / "state")
    config = dataclasses.replace(config, state_dir=str(tmp_path / "state"))
    first, second = (site_with(bundles["first"], 0.5 + 0.1 * n, n) for n in (1, 2))
    save_site(path, first)
    with running(tmp_path, config) as run:
        run.heard(6)
        engine = run.service.in_force.engine
        save_site(path, second)
        assert run.reload() == ""
        run.heard(6)
        path.write_bytes(path.read_bytes()[:-20])
        assert str(path) in run.reload()
        run.heard(4)
        path.unlink()
        assert run.reload() == ""
        assert run.service.in_force.engine is engine
        windows = run.through()
    ids = [w["calibration_id"] for w in windows]
    assert list(dict.fromkeys(ids)) == [first.id, second.id, None]


def test_thresholds_refreshed_while_a_reload_is_built_are_kept(
    config: Config, bundles: dict[str, Bundle], tmp_path: Path
) -> None:
    path = in_state(tmp_path / "state")
    config = dataclasses.replace(config, state_dir=str(tmp_path / "state"))
    save_site(path, site_with(bundles["first"], 0.5, 1))
    old = InForce.open(config)
    try:
        new = InForce.open(dataclasses.replace(config, extract=ExtractConfig(nominal="0.99")), before=old)
        refreshed = site_with(bundles["first"], 0.7, 2)
        old.refreshed(dataclasses.replace(old.site, calibration=refreshed))
        new.keep_newer(old)
        assert new.site.id == refreshed.id
    finally:
        old.engine.close()


# the command, its signals, and a real NOTIFY_SOCKET


def test_hangup_reloads_the_daemon_as_systemd_sees_it(tmp_path: Path, bundles: dict[str, Bundle]) -> None:
    settings, endpoint = tmp_path / "tonald.toml", f"ipc://{tmp_path}/out"

    def write(bundle: str, more: str = "") -> None:
        settings.write_text(
            f'bundle = "{bundle}"\n{more}[source]\nkind = "simulated"\nn_channels = 2\n[window]\nhop_s = {STEP_S}\n'
            f'[contacts]\nfalse_alarms_per_day = 0\n[publish]\nendpoints = ["{endpoint}"]\nwait_subscriber_s = 60\n'
        )

    write(str(bundles["first"].path))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(tmp_path / "notify"))
        s.settimeout(PATIENCE_S)
        env = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000"}
        env.pop("WATCHDOG_PID", None)
        daemon = subprocess.Popen(
            [sys.executable, "-m", "daemon", "run", "--config", str(settings), "--quiet"],
            cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            bodies: list[dict] = []
            with Subscriber(endpoint, ["window/", "gap/"]) as subscriber:
                _until(s, "READY=1")
                _windows(subscriber, bodies, 4)
                write(str(bundles["other"].path))
                daemon.send_signal(signal.SIGHUP)
                _until(s, "RELOADING=1\nMONOTONIC_USEC=")
                assert "not reloaded" not in _until(s, "READY=1")
                _windows(subscriber, bodies, 4)
                write(str(bundles["wrong"].path))
                daemon.send_signal(signal.SIGHUP)
                _until(s, "RELOADING=1")
                assert "not reloaded" in _until(s, "READY=1")
                write(str(bundles["first"].path), 'bundel = "x"\n')
                for _ in range(200):  # a storm
                    daemon.send_signal(signal.SIGHUP)
                assert "unknown key 'bundel'" in _until(s, "READY=1")
                _windows(subscriber, bodies, 4)
                assert subscriber.losses.n_lost == 0
            daemon.send_signal(signal.SIGTERM)
            _until(s, "STOPPING=1")
            _, errors = daemon.communicate(timeout=PATIENCE_S)
        finally:
            daemon.kill()
            daemon.wait()
    assert daemon.returncode == 0, errors
    assert "Traceback" not in errors
    assert f"reloaded: bundle {bundles['other'].id} ({', '.join(LABELS)})" in errors
    assert all("grid_index" in b for b in bodies), "a gap was published"
    assert [b["grid_index"] for b in bodies if b["channel"] == "ch0"] == list(range(len(bodies) // 2))
    assert {b["bundle"] for b in bodies} == {bundles["first"].id, bundles["other"].id}


def _until(s: socket.socket, begins: str) -> str:
    while not (got := s.recv(2000).decode()).startswith(begins):
        pass
    return got


def _windows(subscriber: Subscriber, bodies: list[dict], n: int) -> None:
    want, end = len(bodies) + 2 * n, time.monotonic() + PATIENCE_S
    while (len(bodies) < want or len(bodies) % 2) and time.monotonic() < end:
        if (message := subscriber.receive(0.2)) is not None:
            bodies.append(message.body)
    assert len(bodies) >= want


@pytest.mark.slow
def test_the_shipped_bundle_goes_from_one_engine_to_another_without_a_mark(tmp_path: Path) -> None:
    """The real network and stages: the same slots, sound and names whether the engine was exchanged or not."""
    sim = simulate(SCENARIOS["standard"], "test", 77, "vessel_1", 24.0, FS)
    told = []
    for reload in (False, True):
        run = Run(tmp_path, Config(engine=EngineConfig(name="onnxruntime"), demon=DemonConfig(enabled=False)))
        run.sea = Sea(np.repeat(sim.x[:1], 2, axis=0).astype(np.float32))
        run.service = Service(run.config, run.messages.append, source=run.sea)
        run.service.start()
        try:
            run.sea.give(14)
            wait(lambda run=run: len(run.windows()) >= 12)
            if reload:
                assert run.reload(engine=EngineConfig(name="openvino")) == ""
            run.sea.give(10)
            run.sea.end()
            assert run.service.finished.wait(PATIENCE_S)
            run.service.raise_failure()
        finally:
            run.service.stop()
        told.append(run.windows())
    a, b = told
    assert [w["grid_index"] for w in a] == [w["grid_index"] for w in b]
    assert [w["audio_digest"] for w in a] == [w["audio_digest"] for w in b]
    for x, y in zip(a, b, strict=True):
        assert [d["label"] for d in x["detections"]] == [d["label"] for d in y["detections"]]


def test_in_force_closes_the_engine_if_the_stages_do_not_fit(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    engine = ort_module.OnnxRuntimeEngine
    close = engine.close
    monkeypatch.setattr(engine, "close", lambda self: (closed.append(1), close(self)))
    with pytest.raises(Exception, match=r"extract\.mode"):
        InForce.open(dataclasses.replace(config, extract=ExtractConfig(mode="vessel")))
    assert closed == [1]
