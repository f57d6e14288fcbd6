"""Stamps of a real PortAudio callback on a JACK server, whose clock is that of this machine."""

from __future__ import annotations

import ctypes.util
import importlib.util
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from daemon.config import SourceConfig
from daemon.frames import AudioBlock, ClockUpdate, StreamStart
from daemon.open_source import open_source
from tests.jack_server import Jack

FS = 48_000
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("jackd") is None
        or ctypes.util.find_library("portaudio") is None
        or not all(map(importlib.util.find_spec, ("jack", "sounddevice"))),
        reason="jackd2, libportaudio2 ('make system'), JACK-Client or sounddevice is not installed",
    ),
]


def test_card_that_runs_by_this_machines_clock_is_measured_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "sea.npy", np.zeros(10 * FS))
    server = Jack(f"tonald{os.getpid()}t", str(tmp_path / "sea.npy"))
    monkeypatch.setenv("JACK_DEFAULT_SERVER", server.name)
    monkeypatch.setenv("JACK_NO_START_SERVER", "1")
    last, first, start = None, None, None
    try:
        server.up()
        source = open_source(SourceConfig(kind="device", device="hydro", channels=(0,)))
        deadline = time.monotonic() + 120
        try:
            while time.monotonic() < deadline and (last is None or last.from_sample < 50 * FS):
                match source.read(0.25):
                    case StreamStart() as start:
                        pass
                    case AudioBlock(arrived=None) as block:
                        pytest.fail(f"{block} has no stamp")
                    case AudioBlock():
                        first = first or time.time_ns()
                    case ClockUpdate() as last:
                        pass
        finally:
            source.close()
    finally:
        server.clean()
    assert start is not None
    assert last is not None
    assert last.clock.rate_ppm is not None
    assert last.clock.rate_err_ppm is not None
    assert abs(last.clock.rate_ppm) < 5 * last.clock.rate_err_ppm + 20.0  # jackd's dummy sleeps from period to period
    assert last.t_from_ns is not None
    assert abs(last.t_from_ns - time.time_ns()) < 30 * 10**9
    assert start.clock.source == last.clock.source == "system"
