"""``python -m tests.soak --hours 24``: a day of sound through a real daemon at full speed; non-zero if it fails."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from daemon.subscriber import Subscriber
from models.bundle import Bundle
from tests.faults.vessel import Daemon
from tests.soak.book import Book
from tests.soak.figures import MOST_GROWTH, Footprint, write
from tests.soak.sound import N_SPOILT, Loop

LINE_S = 30.0
READING_S = 5.0
SILENT_S = 300.0
"""Without a record for so long the daemon hangs."""
WARM_UP_H = 1.0
JOURNAL_MB = 200.0


def main() -> int:
    """Play, account, judge."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0, help="of sound (default 24)")
    parser.add_argument("--n-channels", type=int, default=4)
    parser.add_argument("--fs", type=int, default=8000, help="Hz")
    parser.add_argument("--loop", type=float, default=600.0, metavar="S", help="rendered sound, played over and over")
    parser.add_argument("--no-page", action="store_true", help="write no docs/soak.md and docs/soak.json")
    args = parser.parse_args()
    loop = Loop.render(args.fs, args.n_channels, args.loop)
    n_samples = round(args.hours * 3600 * args.fs)
    book = Book(Bundle.load(Bundle.shipped()).spec, loop, args.n_channels)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        figures = soak(Path(folder), loop, n_samples, book)
    warm_up_h = min(WARM_UP_H, args.hours / 4)
    figures |= judge(
        book, Footprint(0, figures["readings"]), warm_up_h, figures["exit_code"], figures["n_lost"], figures
    )
    if not args.no_page:
        write(figures, f"python -m tests.soak --hours {args.hours:g}")
    for problem in figures["problems"]:
        sys.stdout.write(f"broken: {problem}\n")
    sys.stdout.write(figures["summary"] + "\n")
    return int(bool(figures["problems"]))


def soak(folder: Path, loop: Loop, n_samples: int, book: Book) -> dict[str, Any]:
    """Play ``n_samples`` through a daemon; what happened."""
    words = ("--source", "-", "--fs", str(loop.fs), "--n-channels", str(len(loop.x)), "--format", "f32le")
    settings = {
        "publish.wait_subscriber_s": 60.0, "publish.stall_timeout_s": 120.0, "state_dir": str(folder / "state"),
        "journal.max_mb": JOURNAL_MB, "journal.reserve_mb": 0.0,
    }  # fmt: skip
    (folder / "state").mkdir()
    with (
        Daemon(folder, settings, words=words, stdin=subprocess.PIPE) as daemon,
        Subscriber(daemon.endpoint) as subscriber,
    ):
        assert daemon.process.stdin is not None
        player = threading.Thread(target=_play, args=(loop, daemon.process.stdin, n_samples), daemon=True)
        footprint = Footprint(daemon.process.pid)
        player.start()
        began = heard_at = time.monotonic()
        read_at = line_at = began + READING_S
        while book.final is None:
            message = subscriber.receive(1.0)
            now = time.monotonic()
            if message is not None:
                heard_at = now
                book.enter(message)
            elif now - heard_at > SILENT_S:
                break
            if now >= read_at and daemon.alive():
                read_at = now + READING_S
                audio_h = book.slots / len(loop.x) * book.spec.step(loop.fs) / loop.fs / 3600
                reading = footprint.read(audio_h)
                if now >= line_at:
                    line_at = now + LINE_S
                    _show(reading, now - began, book)
        took_s = time.monotonic() - began
        code = daemon.wait(30)
        n_lost = subscriber.losses.n_lost + subscriber.n_malformed
        journal = dict(subscriber.heartbeat.body["journal"]) if subscriber.heartbeat else {}
    book.close(n_samples)
    audio_s = n_samples / loop.fs
    return {
        "hours": audio_s / 3600, "n_channels": len(loop.x), "fs": loop.fs, "n_spoilt": N_SPOILT, "took_s": took_s,
        "speed": audio_s / took_s, "expected": book.spec.n_windows(loop.fs, n_samples) * len(loop.x),
        "published": book.n_published, "declared": book.n_declared, "lost_samples": book.lost_samples,
        "signatures": book.n_signatures, "n_lost": n_lost, "exit_code": code, "readings": footprint.readings,
        "journal_records": journal.get("next_seq", 1) - 1, "journal_mb": 1e-6 * journal.get("n_bytes", 0),
        "journal_missed": journal.get("n_missed"), "journal_problem": journal.get("problem"),
        "every": max(1, len(footprint.readings) // 24),
    }  # fmt: skip


def _play(loop: Loop, pipe: Any, n_samples: int) -> None:
    try:
        loop.play(pipe.fileno(), n_samples)
    except BrokenPipeError:
        sys.stdout.write("the daemon closed its standard input\n")
    finally:
        pipe.close()


def _show(reading: tuple[float, float, int, int], took_s: float, book: Book) -> None:
    audio_h, rss_mb, n_files, n_threads = reading
    sys.stdout.write(
        f"{took_s / 60:6.1f} min  {audio_h:6.2f} h of sound ({audio_h * 3600 / took_s:4.0f} x)  {book.n_published:7d} "
        f"windows published  {book.n_declared:5d} declared lost  {book.n_problems:3d} problems  RSS {rss_mb:6.1f} MB  "
        f"{n_files} files  {n_threads} threads\n"
    )
    sys.stdout.flush()


def judge(
    book: Book, footprint: Footprint, warm_up_h: float, code: int, n_lost: int, journal: dict[str, Any]
) -> dict[str, Any]:
    """Which promises were broken, and the summary."""
    problems = list(book.problems)
    if code:
        problems.append(f"exit code {code}")
    if n_lost:
        problems.append(f"{n_lost} messages lost or malformed")
    if journal["journal_missed"] or journal["journal_problem"]:
        problems.append(f"{journal['journal_missed']} records not in the journal: {journal['journal_problem']}")
    if journal["journal_mb"] > JOURNAL_MB:
        problems.append(f"the journal takes {journal['journal_mb']:.0f} MB, {JOURNAL_MB:g} were allowed")
    m = footprint.verdict(warm_up_h)
    if m["growth"] > MOST_GROWTH:
        problems.append(f"RSS grew by {100 * m['growth']:.2f} % from {warm_up_h:g} h of sound on")
    if len(m["files"]) > 1 or len(m["threads"]) > 1:
        problems.append(f"files {m['files']}, threads {m['threads']} are not constant")
    summary = (
        f"soak: {'broken' if problems else 'kept'}: {book.slots} windows = {book.n_published} published + "
        f"{book.n_declared} declared lost, RSS {100 * m['growth']:+.2f} % from {warm_up_h:g} h on, files {m['files']}, "
        f"threads {m['threads']}"
    )
    return {"memory": m, "problems": problems, "summary": summary}


if __name__ == "__main__":
    sys.exit(main())
