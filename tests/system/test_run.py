"""The program as its users start it: subprocesses, real sockets, real files, the shipped bundle."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from calibration.ocean import SCENARIOS, simulate
from daemon.subscriber import Subscriber
from models.bundle import Bundle

soundfile = pytest.importorskip("soundfile", reason="the audio extra is not installed")

ROOT = Path(__file__).resolve().parents[2]
TONALD = [sys.executable, "-m", "daemon"]
FS = 8000


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 s of simulated vessel_1, seed space test."""
    path = tmp_path_factory.mktemp("audio") / "vessel.wav"
    sim = simulate(SCENARIOS["standard"], "test", 900, "vessel_1", 30.0, FS)
    soundfile.write(path, sim.x.T, FS, subtype="FLOAT")
    return path


def n_windows(n_samples: int, fs: int) -> int:
    return Bundle.load(Bundle.shipped()).spec.n_windows(fs, n_samples)


def run(*words: str | Path, timeout: float = 120.0, **more) -> subprocess.CompletedProcess[str]:  # noqa: ANN003
    command = [*TONALD, *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False, **more)


def once(source: str | Path, tmp_path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    endpoint = f"ipc://{tmp_path}/out"
    return run("run", "--source", source, "--once", "--wait-subscriber", "0", "--publish", endpoint, *more)


def heard(source: str | Path, tmp_path: Path, *more: str, stdin: bytes | None = None) -> list:
    """All messages of a run, by our own subscriber; nothing may be lost."""
    endpoint = f"ipc://{tmp_path}/heard"
    words = ["run", "--source", str(source), "--once", "--wait-subscriber", "30", "--publish", endpoint, *more]
    with Subscriber(endpoint) as subscriber:
        daemon = subprocess.Popen([*TONALD, *words], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        assert daemon.stdin is not None
        if stdin is not None:
            daemon.stdin.write(stdin)
        daemon.stdin.close()
        messages, deadline = [], time.monotonic() + 200
        while time.monotonic() < deadline:
            message = subscriber.receive(0.5)
            if message is not None:
                messages.append(message)
                if message.family == "heartbeat" and message.body["final"]:
                    break
        assert daemon.wait(30) in (0, 65)
        assert subscriber.losses.n_lost == 0
    return messages


def records(messages: list, family: str) -> list[dict]:
    return [dict(m.body) for m in messages if m.family == family]


def test_recording_is_heard_whole_and_rightly(recording: Path, tmp_path: Path) -> None:
    messages = heard(recording, tmp_path)
    windows = records(messages, "window")
    assert [w["grid_index"] for w in windows] == list(range(n_windows(30 * FS, FS)))
    assert all(w["analysed"] for w in windows)
    said = Counter(w["detections"][0]["label"] if w["detections"] else "-" for w in windows)
    assert said["vessel_1"] >= len(windows) / 2, said  # one recording of the simulator's; the report has the accuracy
    signatures = records(messages, "signature")
    assert len(signatures) == sum(w["n_signatures"] for w in windows)
    assert any(s["lines"] and s["label"] == "vessel_1" for s in signatures)
    assert records(messages, "status")[-1]["state"] == "ended"


@pytest.mark.parametrize("scheme", ["tcp", "ipc"])
def test_independent_subscriber_reads_every_record(recording: Path, tmp_path: Path, scheme: str) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    endpoint = f"tcp://127.0.0.1:{port}" if scheme == "tcp" else f"ipc://{tmp_path}/x"
    script = [sys.executable, str(ROOT / "docs" / "wire" / "subscriber.py"), endpoint]
    listener = subprocess.Popen(script, stdout=subprocess.PIPE, text=True)
    done = run("run", "--source", recording, "--publish", endpoint, "--once", "--wait-subscriber", "30", "--quiet")
    assert done.returncode == 0, done.stderr
    out, _ = listener.communicate(timeout=60)
    assert listener.returncode == 0, out
    assert out.count("window/ch0/") == n_windows(30 * FS, FS), out[-2000:]
    assert all(line.endswith("lost=0") for line in out.splitlines()), out[-2000:]
    numbers = [int(line.split()[1]) for line in out.splitlines() if line.startswith("window/ch0/ ")]
    assert numbers == list(range(len(numbers)))


def test_raw_pcm_on_standard_input_gives_the_same_records(recording: Path, tmp_path: Path) -> None:
    x, _ = soundfile.read(recording, dtype="float32")
    options = ("--fs", str(FS), "--n-channels", "1", "--format", "f32le")
    by_pipe = records(heard("-", tmp_path, *options, stdin=x.astype("<f4").tobytes()), "signature")
    by_file = records(heard(recording, tmp_path), "signature")
    keep = ("grid_index", "first_sample", "audio_digest", "label", "lines", "mask_cells")
    assert [{k: r[k] for k in keep} for r in by_pipe] == [{k: r[k] for k in keep} for r in by_file]


def test_samples_that_are_no_numbers_become_a_counted_gap(recording: Path, tmp_path: Path) -> None:
    x, _ = soundfile.read(recording, dtype="float32")
    x[12 * FS : 12 * FS + 100], x[20 * FS] = np.nan, np.inf
    soundfile.write(tmp_path / "bad.wav", x, FS, subtype="FLOAT")
    messages = heard(tmp_path / "bad.wav", tmp_path)
    assert [(g["first_sample"], g["n_samples"], g["reason"]) for g in records(messages, "gap")] == [
        (12 * FS, 100, "invalid"), (20 * FS, 1, "invalid"),
    ]  # fmt: skip
    windows = records(messages, "window")
    assert len(windows) == n_windows(30 * FS, FS)
    for w in windows:
        span = range(w["first_sample"], w["first_sample"] + w["n_samples"])
        holed = 12 * FS + 99 in span or 12 * FS in span or 20 * FS in span
        assert w["analysed"] != holed
    done = once(tmp_path / "bad.wav", tmp_path, "--quiet")
    assert done.returncode == 0
    assert "gap (invalid)" in done.stderr


def test_truncated_file_publishes_what_it_holds_and_says_so(recording: Path, tmp_path: Path) -> None:
    x, _ = soundfile.read(recording, dtype="float32")
    soundfile.write(tmp_path / "whole.flac", x, FS)
    data = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(data[: len(data) * 2 // 3])
    messages = heard(tmp_path / "cut.flac", tmp_path)
    assert 5 < len(records(messages, "window")) < n_windows(30 * FS, FS)
    done = once(tmp_path / "cut.flac", tmp_path, "--quiet")
    assert done.returncode == 65
    assert done.stderr.splitlines()[-1].startswith("tonald: cut.flac: ")


def test_bad_input_gives_one_line_and_its_exit_code(recording: Path, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("this is no sound")
    (tmp_path / "key.toml").write_text("[publish]\nendpoint = ''\n")
    (tmp_path / "hop.toml").write_text("[window]\nhop_s = -1.0\n")
    broken = tmp_path / "broken"
    shutil.copytree(Bundle.shipped(), broken)
    victim = next((broken / "graphs").iterdir())
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        cases = {
            "no such file": (66, once(tmp_path / "none.wav", tmp_path)),
            "not audio": (65, once(tmp_path / "text.wav", tmp_path)),
            "unknown key 'publish.endpoint'; nearest is 'endpoints'": (
                78, run("run", "--config", tmp_path / "key.toml"),
            ),
            "window.hop_s = -1.0 is not positive": (78, run("run", "--config", tmp_path / "hop.toml")),
            victim.name: (79, once(recording, tmp_path, "--bundle", str(broken))),
            f"tcp://127.0.0.1:{port}": (
                71, run("run", "--source", recording, "--publish", f"tcp://127.0.0.1:{port}", "--once"),
            ),
            "channel 3": (65, once(recording, tmp_path, "--channels", "3")),
            "no input device matches": (69, once("device:no such card", tmp_path)),
        }  # fmt: skip
    for text, (code, done) in cases.items():
        last = (done.stderr.splitlines() or [""])[-1]
        assert done.returncode == code, (text, done.stderr)
        assert last.startswith("tonald: "), (text, done.stderr)
        assert text in last
        assert "Traceback" not in done.stderr


def _collect(endpoint: str, got: list) -> None:
    """Read until the last heartbeat of a daemon."""
    with Subscriber(endpoint) as subscriber:
        end = time.monotonic() + 60
        while time.monotonic() < end and not (got and got[-1].body.get("final") and got[-1].family == "heartbeat"):
            message = subscriber.receive(0.5)
            if message is not None:
                got.append(message)


def test_terminated_daemon_drains_and_says_so_to_the_service_manager(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        env = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        endpoint = f"ipc://{tmp_path}/out"
        command = [*TONALD, "run", "--source", "ocean", "--publish", endpoint, "--quiet"]
        got: list = []
        reader = threading.Thread(target=_collect, args=(endpoint, got))
        reader.start()
        daemon = subprocess.Popen(command, cwd=ROOT, env=env)
        states = [manager.recv(4096).decode() for _ in range(4)]
        end = time.monotonic() + 30
        while time.monotonic() < end and not any(m.family == "window" for m in got):
            states.append(manager.recv(4096).decode())  # a subscriber that came before tries again every 2 s
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0
        while not states[-1].startswith("STOPPING=1"):
            states.append(manager.recv(4096).decode())
        reader.join(30)
    assert states[0].startswith("READY=1")
    assert all(s.startswith("WATCHDOG=1") for s in states[1:-1])
    assert got[-1].body["final"] is True
    assert [m.body["state"] for m in got if m.family == "status"][-1] == "ended"


def test_daemon_asked_to_stop_before_its_first_window_ends_well(tmp_path: Path) -> None:
    """A stream too short for a window is a problem of a recording, not of who stops the daemon early."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        env = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
        pcm = ["--source", "-", "--fs", str(FS), "--n-channels", "1", "--format", "s16le"]
        command = [*TONALD, "run", *pcm, "--publish", f"ipc://{tmp_path}/out", "--quiet"]
        daemon = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        daemon.stdin.write(np.zeros(2 * FS, "<i2").tobytes())
        daemon.stdin.flush()
        while "STATUS=2 s of audio, 0 windows" not in manager.recv(4096).decode():
            pass
        daemon.send_signal(signal.SIGTERM)
        said = daemon.communicate(timeout=60)[1].decode()
    assert "too short" in said
    assert daemon.returncode == 0


def test_demo_shows_vessels_with_their_tonals(tmp_path: Path) -> None:
    done = run("demo", "--seconds", "16", "--max-speed", "--n-channels", "1")
    assert done.returncode == 0, done.stderr
    signatures = [line for line in done.stdout.splitlines() if "  signature  " in line]
    assert signatures
    assert all(" Hz" in line or "no tonal" in line for line in signatures)
    assert any("(truly: vessel_" in line for line in signatures)


def test_listen_prints_json_that_parses(recording: Path, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/j"
    listener = subprocess.Popen(
        [*TONALD, "listen", endpoint, "--json", "--once", "10"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    done = run("run", "--source", recording, "--publish", endpoint, "--once", "--wait-subscriber", "30", "--quiet")
    assert done.returncode == 0, done.stderr
    out, _ = listener.communicate(timeout=30)
    assert listener.returncode == 0
    assert len([json.loads(line) for line in out.splitlines()]) == 10


def test_daemon_runs_where_the_training_half_is_absent(recording: Path, tmp_path: Path) -> None:
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "sklearn", "matplotlib", "onnx", "onnxscript", "rich"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from daemon.cli import main
sys.exit(main(["run", "--source", {str(recording)!r}, "--once", "--wait-subscriber", "0",
               "--publish", "ipc://{tmp_path}/t"]))"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "signature" in done.stdout


def test_daemon_asked_to_stop_while_it_waits_for_a_subscriber_stops(recording: Path, tmp_path: Path) -> None:
    words = [
        "run",
        "--source",
        str(recording),
        "--publish",
        f"ipc://{tmp_path}/w",
        "--wait-subscriber",
        "300",
        "--quiet",
    ]
    daemon = subprocess.Popen([*TONALD, *words], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert daemon.stderr is not None
    for line in daemon.stderr:
        if "publishing on" in line:
            break
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(8) == 0  # the loop turns four times a second; the rest is a busy machine's margin
    daemon.stderr.close()
