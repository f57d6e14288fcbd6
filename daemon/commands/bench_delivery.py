"""``tonald bench delivery``: what keeping records costs, and how fast they come back to who missed them."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from daemon.commands.bench_words import add_json, check_json, write_json
from models.errors import UsageError

__all__ = ["add_arguments", "run"]

GROUPS = (1, 8, 32)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.description = (
        "Milliseconds to have signatures on disk, by the journal and by SQLite (write-ahead log, synced each time), in "
        "turns; and a subscriber that missed many, over tcp and ipc: all in order, once, and how fast."
    )
    parser.add_argument("--missed", type=int, default=10_000, metavar="N", help="signatures that it missed (10000)")
    parser.add_argument("--folder", type=Path, help="on the disk to measure; default: that of temporary files")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when every signature came once and in order.

    Raises
    ------
    TonaldError
        If words are out of range, the disk does not work, or something was lost.
    """
    if not 1 <= args.missed <= 1_000_000:
        raise UsageError(f"--missed {args.missed}: 1 to 1000000 signatures")
    check_json(args.json)
    from calibration.bench.cpu import cpu_name
    from daemon.measure.delivery import measure_append, measure_replay

    with tempfile.TemporaryDirectory(prefix="tonald-", dir=args.folder) as folder:
        appended = []
        for n in GROUPS:
            place = Path(folder) / f"append{n}"
            place.mkdir()
            appended.append(measure_append(place, 300, n))
        replayed = {}
        for name, endpoint in (("tcp", "tcp://127.0.0.1:*"), ("ipc", f"ipc://{folder}/out")):
            place = Path(folder) / name
            place.mkdir()
            replayed[name] = measure_replay(place, args.missed, endpoint)
    result: dict[str, Any] = {"append": appended, "replay": replayed, "cpu": cpu_name()}
    _tell(result)
    write_json(args.json, result)
    return 0


def _tell(r: dict[str, Any]) -> None:
    print(f"{r['cpu']}\n\nto have records on disk, ms{'':14}median     99 %      most")
    for row in r["append"]:
        for name in ("journal", "SQLite"):
            p = row[name]
            print(f"{row['group']:3d} of {row['record_bytes'] / 1e3:.0f} kB at once, {name:<12}"
                  f"{p['p50_ms']:9.2f}{p['p99_ms']:9.2f}{p['p100_ms']:10.2f}")  # fmt: skip
    for name, p in r["replay"].items():
        print(f"\n{name}: {p['n']} signatures of {p['message_bytes'] / 1e3:.1f} kB missed, all came in order, once: "
              f"{p['replayed_s']:.1f} s, {p['replayed_per_s']:.0f} per second, {p['replayed_mb_per_s']:.0f} MB/s "
              f"(published and journalled at {p['published_per_s']:.0f} per second)")  # fmt: skip
