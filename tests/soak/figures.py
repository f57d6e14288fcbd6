"""Memory, files and threads of a process over a run, and the page and file that keep them."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

DOCS = Path(__file__).resolve().parents[2] / "docs"
MOST_GROWTH = 0.01


@dataclass
class Footprint:
    """Readings of one process: ``(audio_h, rss_mb, n_files, n_threads)``."""

    pid: int
    readings: list[tuple[float, float, int, int]] = field(default_factory=list)

    def read(self, audio_h: float) -> tuple[float, float, int, int]:
        """Take a reading."""
        p = psutil.Process(self.pid)
        with p.oneshot():
            reading = (audio_h, p.memory_info().rss / 1e6, p.num_fds(), p.num_threads())
        self.readings.append(reading)
        return reading

    def verdict(self, warm_up_h: float) -> dict[str, Any]:
        """From the warm-up on: growth of the median RSS from the first to the last tenth, and what else changed."""
        late = [r for r in self.readings if r[0] >= warm_up_h]
        n = max(1, len(late) // 10)
        first, last = (statistics.median(r[1] for r in part) for part in (late[:n], late[-n:]))
        return {
            "warm_up_h": warm_up_h, "n_readings": len(late), "rss_first_mb": first, "rss_last_mb": last,
            "rss_most_mb": max(r[1] for r in late), "growth": last / first - 1.0,
            "files": sorted({r[2] for r in late}), "threads": sorted({r[3] for r in late}),
        }  # fmt: skip


def write(figures: dict[str, Any], command: str) -> None:
    """docs/soak.json and docs/soak.md."""
    (DOCS / "soak.json").write_text(json.dumps(figures, indent=1) + "\n")
    m = figures["memory"]
    chosen = figures["readings"][:: figures["every"]]
    rows = "\n".join(f"| {h:.1f} | {rss:.1f} | {files} | {threads} |" for h, rss, files, threads in chosen)
    files, threads = (", ".join(map(str, m[k])) for k in ("files", "threads"))
    more = {
        "command": command, "rows": rows, "n_files": files, "n_threads": threads, "minutes": figures["took_s"] / 60,
        "growth_pc": 100 * m["growth"], "most_pc": 100 * MOST_GROWTH,
    }  # fmt: skip
    (DOCS / "soak.md").write_text(PAGE.format(**figures, **m, **more))


PAGE = """# Soak: a day of sound, nothing lost, memory flat

`{command}` plays {hours:g} h of sound on {n_channels} channels at {fs} Hz through a real `tonald run` at full
speed: some minutes of simulated sea over and over on its standard input, with {n_spoilt} NaN samples per channel and
round. A subscriber holds each record against the sound: every slot of the grid comes once and in order, and is analysed
exactly if none of its samples was spoilt.

| what | figure |
|---|---|
| sound | {hours:g} h x {n_channels} channels, in {minutes:.1f} min ({speed:.0f} times real time) |
| windows expected | {expected} |
| published | {published} |
| declared lost | {declared} (gaps tell of {lost_samples} samples, as many as were spoilt) |
| signatures | {signatures} |
| messages lost on the way | {n_lost} |
| records through the journal | {journal_records}, of which {journal_mb:.0f} MB are kept |
| RSS after {warm_up_h:g} h of sound | {rss_first_mb:.1f} MB |
| RSS at the end | {rss_last_mb:.1f} MB ({growth_pc:+.2f} %; at most {most_pc:g} % is promised) |
| open files | {n_files} |
| threads | {n_threads} |
| verdict | {summary} |

RSS is the median of the first and of the last tenth of the readings after the warm-up.

| sound, h | RSS, MB | files | threads |
|---|---|---|---|
{rows}
"""
