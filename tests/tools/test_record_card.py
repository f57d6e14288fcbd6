"""A real PortAudio card (JACK) recorded: files hold the very sound, a server that dies is a gap between files."""

from __future__ import annotations

import ctypes.util
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.counter_signal import HALF, decode
from tests.jack_server import FS, Jack

soundfile = pytest.importorskip("soundfile", reason="the audio extra is not installed")
pytestmark = pytest.mark.skipif(
    shutil.which("jackd") is None
    or ctypes.util.find_library("portaudio") is None
    or any(importlib.util.find_spec(m) is None for m in ("jack", "sounddevice")),
    reason="jackd2 and libportaudio2 ('make system'), JACK-Client and sounddevice are needed",
)
ROOT = Path(__file__).resolve().parents[2]


def test_card_is_recorded_with_its_time_and_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sea = (np.random.default_rng(0).integers(-(2**20), 2**20, 4 * FS) / 2**23).astype(np.float32)
    np.save(tmp_path / "sea.npy", sea)
    server = Jack(f"tonald{os.getpid()}r", str(tmp_path / "sea.npy"))
    monkeypatch.setenv("JACK_DEFAULT_SERVER", server.name)
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    out = tmp_path / "out"
    try:
        server.up()
        done = subprocess.run(
            [sys.executable, "-m", "daemon", "record", "--source", "device:hydro", "--channels", "0", "--seconds", "5",
             "--out", str(out)],
            cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
    finally:
        server.clean()
    assert done.returncode == 0, done.stderr
    files = sorted(out.glob("*.flac")) or sorted(out.glob("*.wav"))
    cars = [json.loads(f.with_suffix(".json").read_text()) for f in files]
    assert sum(car["n_samples"] for car in cars) == 5 * FS
    assert all(car["fs"] == FS and car["t_first_sample_ns"] and car["clock"]["source"] == "system" for car in cars)
    x = np.concatenate([soundfile.read(f, dtype="float32")[0] for f in files])
    heard = x[np.flatnonzero(x)[0] :]
    n = min(len(heard), FS)  # the player loops its file; find where
    at = next(k for k in range(len(sea)) if sea[k] == heard[0] and np.array_equal(sea[k : k + 50], heard[:50]))
    np.testing.assert_array_equal(heard[: min(n, len(sea) - at)], sea[at : at + min(n, len(sea) - at)])


def test_server_that_dies_ends_a_file_and_nothing_is_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Jack(f"tonald{os.getpid()}d")
    monkeypatch.setenv("JACK_DEFAULT_SERVER", server.name)
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    out = tmp_path / "out"
    try:
        server.up()
        process = subprocess.Popen(
            [sys.executable, "-m", "daemon", "record", "--source", "device:hydro", "--channels", "0", "--seconds", "8",
             "--out", str(out)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        end = time.monotonic() + 60
        while time.monotonic() < end and not any(p.stat().st_size > 10_000 for p in out.glob("*.part")):
            time.sleep(0.1)
        server.clean()
        server.up()
        _, err = process.communicate(timeout=120)
    finally:
        server.clean()
    assert process.returncode == 0, err
    assert "tonald: gap: " in err
    files = sorted(out.glob("*.flac")) + sorted(out.glob("*.wav"))
    cars = sorted((json.loads(f.with_suffix(".json").read_text()) for f in files), key=lambda c: c["utc_first_sample"])
    assert sum(car["n_samples"] for car in cars) == 8 * FS
    assert len({car["epoch"] for car in cars}) >= 2
    for file in files:
        counted = decode(soundfile.read(file, dtype="float32")[0])
        played = counted[counted != HALF]  # the rest is silence, before the player came and after it went
        assert np.all(np.diff(played) == 1)
