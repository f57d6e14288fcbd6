"""Memory, threads and open files of ``tonald run`` while it takes in sound as fast as it can.

The daemon is a process of its own, reads raw PCM from a pipe (back-pressure: it sets the pace) and has one subscriber.
After each span of sound its figures are read from ``/proc``. Two minutes of sound warm up; growth is what the last
tenth of the run holds beyond the first tenth after that, medians both.
"""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from calibration.dataset import Progress, no_progress
from daemon.capacity import Bank, PacedSource
from daemon.measure.fresh import command
from models.errors import EngineError, UsageError

__all__ = ["Reading", "measure_memory", "read_process", "summary"]

N_READINGS = 100
#: Sound that warms up, s: after it each stage has seen its longest span (DEMON: a minute) twice.
WARM_UP_S = 120.0


@dataclass(frozen=True, slots=True)
class Reading:
    """Of one moment."""

    audio_s: float
    """Sound handed over so far; what the pipe holds of it, a fraction of a second, is not yet read."""
    rss: int
    """Resident memory, bytes."""
    n_threads: int
    n_files: int
    """Open file descriptors."""


def read_process(pid: int, audio_s: float) -> Reading:
    """Figures of a process now.

    Raises
    ------
    UsageError
        If this system has no ``/proc``.
    OSError
        If the process is gone.
    """
    proc = Path("/proc") / str(pid)
    if not Path("/proc/self/status").exists():
        raise UsageError("bench memory reads /proc, which this system does not have: run it on Linux")
    status = dict(line.split(":", 1) for line in (proc / "status").read_text(encoding="utf-8").splitlines())
    rss = 1024 * int(status["VmRSS"].split()[0])
    return Reading(audio_s, rss, int(status["Threads"]), sum(1 for _ in (proc / "fd").iterdir()))


def summary(readings: Sequence[Reading]) -> dict[str, Any]:
    """What the readings say; those of the first two minutes warm up, in a short run those of its first half.

    Returns
    -------
    dict
        ``rss_mb`` and ``peak_mb`` (10^6 bytes): median over the last tenth, and most ever read; ``growth_percent``: of
        the last tenth over the first after warming up; ``n_threads``, ``n_files``: least and most after that.
    """
    tenth = max(1, len(readings) // 10)
    warm = min(WARM_UP_S, readings[-1].audio_s / 2)
    settled = [r for r in readings if r.audio_s >= warm]
    early, late = (float(np.median([r.rss for r in part])) for part in (settled[:tenth], readings[-tenth:]))
    return {
        "rss_mb": 1e-6 * late,
        "peak_mb": 1e-6 * max(r.rss for r in readings),
        "growth_percent": 100.0 * (late / early - 1.0),
        "n_threads": [min(r.n_threads for r in settled), max(r.n_threads for r in settled)],
        "n_files": [min(r.n_files for r in settled), max(r.n_files for r in settled)],
    }


def measure_memory(
    bank: Bank, scratch: Path, *, n_channels: int, seconds: float, engine: str, progress: Progress = no_progress
) -> dict[str, Any]:
    """Run the daemon over ``seconds`` of sound, every other channel with a vessel.

    Raises
    ------
    EngineError
        If the daemon ends before its time; its last words are quoted.
    """
    endpoint, n = f"ipc://{scratch}/out", bank.fs
    sound = PacedSource(bank, n_channels, 0.5, seconds)
    words = (
        "run", "--source", "-", "--fs", str(bank.fs), "--n-channels", str(n_channels), "--format", "s16le",
        "--engine", engine, "--publish", endpoint, "--wait-subscriber", "30", "--quiet",
    )  # fmt: skip
    log = scratch / "daemon.log"
    readings: list[Reading] = []
    listener = subprocess.Popen(  # noqa: S603  (our own interpreter and module)
        command("daemon.measure.listener", endpoint, str(scratch / "heard.jsonl")), stdin=subprocess.PIPE
    )
    try:
        with log.open("wb") as err:
            daemon = subprocess.Popen(  # noqa: S603
                command("daemon.cli", *words), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=err
            )
            try:
                assert daemon.stdin is not None
                for second in range(total := round(seconds)):
                    x = np.stack([sound.samples(c, second * n, n) for c in range(n_channels)], axis=1)
                    daemon.stdin.write(np.clip(np.rint(32767.0 * x), -32768, 32767).astype("<i2").tobytes())
                    if (second + 1) * N_READINGS // total > len(readings):
                        readings.append(read_process(daemon.pid, second + 1.0))
                        progress("seconds of sound", second + 1, total)
                daemon.stdin.close()
                code = daemon.wait(120.0)
            except (BrokenPipeError, OSError) as e:
                daemon.kill()
                raise EngineError(f"bench memory: the daemon ended: {_last_words(log)}") from e
            finally:
                daemon.kill()
                daemon.wait()
    finally:
        assert listener.stdin is not None
        listener.stdin.close()
        listener.wait(30.0)
    if code:
        raise EngineError(f"bench memory: the daemon ended with {code}: {_last_words(log)}")
    heard = (scratch / "heard.jsonl").read_text(encoding="utf-8").count('["window"')
    return summary(readings) | {
        "n_windows_heard": heard, "last_words": _last_words(log), "readings": [dataclasses.asdict(r) for r in readings],
    }  # fmt: skip


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "without a word"
