"""From the start of a ``tonald run`` process to its first window computed.

The sound is a recording that is there as a whole, so the window's own duration does not count. Two kinds of run take
turns: ``tonald run`` as it is, judged by the first window it prints, and the same with a clock at its joints
(`daemon.measure.startup_child`), which says what the time goes into.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np

from daemon.measure.fresh import command
from models.errors import EngineError

__all__ = ["measure_startup", "split", "write_recording"]

GIVE_UP_S = 120.0


def write_recording(path: Path, fs: int, n_channels: int, seconds: float) -> None:
    """Write noise as 16-bit WAV."""
    x = np.random.default_rng(3).standard_normal((round(seconds * fs), n_channels)) * 0.02
    with wave.open(str(path), "wb") as f:
        f.setnchannels(n_channels)
        f.setsampwidth(2)
        f.setframerate(fs)
        f.writeframes((x * 32767).astype("<i2").tobytes())


def measure_startup(scratch: Path, recording: Path, *, engine: str, n_runs: int) -> dict[str, Any]:
    """Start ``n_runs`` times each way, after one that is not counted.

    Returns
    -------
    dict
        ``plain_s``: seconds of each plain run. ``parts``: of each clocked run, see `split`.

    Raises
    ------
    EngineError
        If a run ends, or two minutes pass, before its first window; its last words are quoted.
    """
    words = ["--source", str(recording), "--engine", engine, "--wait-subscriber", "0"]
    plain, parts = [], []
    for i in range(n_runs + 1):
        own = [*words, "--publish", f"ipc://{scratch}/out{i}"]
        seconds, clocked = _plain(own), _clocked(own, scratch / f"parts{i}.json")
        if i:
            plain.append(seconds)
            parts.append(split(clocked))
    return {"plain_s": plain, "parts": parts}


def split(told: dict[str, float]) -> dict[str, float]:
    """Parts that follow one another and add up to ``total``, s."""
    engine = told["engine, in all"] - told["golden outputs"]
    start = told["start, in all"] - told["engine, in all"] - told["bundle loaded and hashed"] - told["source opened"]
    known = {
        "interpreter": told["interpreter"],
        "imports": told["imports"],
        "source opened": told["source opened"],
        "bundle loaded and hashed": told["bundle loaded and hashed"],
        "engine built": engine,
        "golden outputs": told["golden outputs"],
        "stages, publisher": start,
        "first window": told["first window"],
    }
    return known | {"words, settings": told["total"] - sum(known.values()), "total": told["total"]}


def _plain(words: list[str]) -> float:
    """Seconds until ``tonald run`` prints its first window."""
    begun = time.monotonic()
    process = _start(command("daemon.cli", "run", *words, "--verbose"))
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        seconds = time.monotonic() - begun
        if not line:
            raise _no_window(process)
        return seconds
    finally:
        _end(process)


def _clocked(words: list[str], path: Path) -> dict[str, float]:
    begun_ns = time.monotonic_ns()
    process = _start(command("daemon.measure.startup_child", str(path), str(begun_ns), *words, "--quiet"))
    try:
        while not path.exists():
            if process.poll() is not None or time.monotonic_ns() - begun_ns > 1e9 * GIVE_UP_S:
                raise _no_window(process)
            time.sleep(0.02)
        told: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return told
    finally:
        _end(process)


def _start(words: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603  (our own interpreter and modules)
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )


def _no_window(process: subprocess.Popen[bytes]) -> EngineError:
    process.kill()
    last = process.communicate()[1].decode("utf-8", "replace").strip().splitlines()
    return EngineError(f"bench startup: tonald run gave no window: {last[-1] if last else 'without a word'}")


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.communicate(timeout=15.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
