"""``tonald reprocess FOLDER --out DIR``: an archive of recordings through the daemon's stages, on many processes."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from daemon.commands.progress import shown
from daemon.commands.run import _channels
from daemon.config import Config
from models.errors import AudioFormatError, UsageError

if TYPE_CHECKING:
    from daemon.archive.cluster import Pool
    from daemon.archive.run import Summary

__all__ = ["add_arguments", "run"]

MEMORY = "2GiB"
LISTED = 10


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.description = (
        "Analyse all recordings below FOLDER as the daemon would, and write one record per window to Parquet files. "
        "Interrupted or run again, it goes on where it was. Ends with 0 when all recordings are done, "
        f"{AudioFormatError.exit_code} when some could not be read (they are listed, the rest is done)."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="recordings, searched through; or one file")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new, empty, or of an earlier run")
    parser.add_argument("--config", metavar="FILE", type=Path, help="settings, as for the daemon")
    parser.add_argument("--bundle", metavar="BUNDLE", help="instead of the shipped one")
    parser.add_argument("--engine", choices=("auto", "tensorrt", "openvino", "onnxruntime"))
    parser.add_argument("--channels", metavar="C[,C...]", help="which channels, counted from 0")
    parser.add_argument("--redo", action="store_true", help="replace all records there, made with whatever settings")
    parser.add_argument("--workers", type=int, metavar="N", help="processes on this machine (default: one per core)")
    parser.add_argument("--worker-memory", default=MEMORY, metavar="SIZE", help="of each (default: %(default)s)")
    cluster = parser.add_argument_group("cluster", "instead of processes on this machine")
    cluster.add_argument("--scheduler", metavar="ADDRESS", help="of a Dask scheduler: tls://HOST:PORT, tcp://...")
    for name, what in (("ca", "authority"), ("cert", "certificate"), ("key", "private key")):
        cluster.add_argument(f"--tls-{name}", type=Path, metavar="FILE", help=f"{what}, PEM")
    cluster.add_argument("--unencrypted", action="store_true", help="allow tcp:// beyond this machine")


def run(args: argparse.Namespace) -> int:
    """Reprocess; see the description for the exit code.

    Raises
    ------
    TonaldError
        If settings, folders, bundle or engine cannot be used.
    """
    import distributed  # noqa: F401  (absent: said before anything else is done)
    import pyarrow  # noqa: F401

    from daemon.archive.folder import ArchiveFolder
    from daemon.archive.job import Job, units_of
    from daemon.archive.run import in_pool, reprocess

    _check(args)
    config = _settings(args)
    units = units_of(args.folder)
    job = Job.of(config, args.out.absolute())
    folder = ArchiveFolder(args.out.absolute())
    t_start = time.monotonic()
    with _as_interrupt(signal.SIGTERM), folder.locked(), _pool(args) as pool, shown() as progress:
        print(f"{len(units)} recordings, {pool.words}, bundle {job.settings['bundle']}", file=sys.stderr)
        try:
            summary = reprocess(folder, job, units, in_pool(pool), progress, redo=args.redo)
        except KeyboardInterrupt:
            print(f"interrupted: what is done is kept in {args.out}, the same command goes on", file=sys.stderr)
            raise
    return _tell(summary, args.out, time.monotonic() - t_start)


def _check(args: argparse.Namespace) -> None:
    tls = (args.tls_ca, args.tls_cert, args.tls_key)
    if args.scheduler is None:
        if any(tls) or args.unencrypted:
            raise UsageError("--tls-... and --unencrypted belong to --scheduler")
        if args.workers is not None and args.workers < 1:
            raise UsageError(f"--workers {args.workers}: at least 1 is needed")
        return
    from daemon.archive.cluster import checked_scheduler

    if args.workers is not None:
        raise UsageError("--workers counts processes of this machine: leave it out with --scheduler")
    if any(tls) and not all(tls):
        raise UsageError("--tls-ca, --tls-cert and --tls-key go together")
    checked_scheduler(args.scheduler, has_tls=all(tls), unencrypted=args.unencrypted)


def _settings(args: argparse.Namespace) -> Config:
    config = Config.load(args.config) if args.config else Config()
    if config.site.refresh_hours:
        print("site.refresh_hours: not in an archive, thresholds stay as they are", file=sys.stderr)
    if args.bundle is not None:
        config = dataclasses.replace(config, bundle=args.bundle)
    if args.engine is not None:
        config = dataclasses.replace(config, engine=dataclasses.replace(config.engine, name=args.engine))
    if args.channels is not None:
        source = dataclasses.replace(config.source, channels=_channels(args.channels))
        config = dataclasses.replace(config, source=source)
    return config


def _pool(args: argparse.Namespace) -> contextlib.AbstractContextManager[Pool]:
    from daemon.archive.cluster import local_pool, remote_pool

    if args.scheduler is not None:
        return remote_pool(args.scheduler, args.tls_ca, args.tls_cert, args.tls_key)
    return local_pool(args.workers or len(os.sched_getaffinity(0)), args.worker_memory)


@contextlib.contextmanager
def _as_interrupt(number: signal.Signals) -> Iterator[None]:
    """Let another signal do what Ctrl-C does."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(number, interrupt)
    try:
        yield
    finally:
        signal.signal(number, before)


def _tell(summary: Summary, out: Path, took_s: float) -> int:
    done, failed = summary.with_state("done"), summary.with_state("failed")
    audio_s = sum(o["n_samples"] / o["fs"] for o in done if o["fs"])
    n_windows, n_skipped = (sum(o[name] for o in done) for name in ("n_windows", "n_skipped"))
    again = f", {summary.n_changed} of them again since they changed" if summary.n_changed else ""
    print(f"{len(done)} recordings done{again}, {summary.n_before} were done before, {len(failed)} failed")
    if summary.n_gone:
        print(f"{summary.n_gone} more, no longer in the folder, were done before: their records stay")
    print(f"{audio_s:.0f} s of audio in {took_s:.1f} s: {n_windows} windows analysed, {n_skipped} not; see {out}")
    _list("with a note", [o for o in done if o["detail"]])
    _list("FAILED", failed)
    return AudioFormatError.exit_code if failed else 0


def _list(what: str, outcomes: list[dict[str, Any]]) -> None:
    for outcome in sorted(outcomes, key=lambda o: str(o["recording"]))[:LISTED]:
        print(f"  {what}: {outcome['recording']}: {outcome['detail']}")
    if len(outcomes) > LISTED:
        print(f"  {what}: {len(outcomes) - LISTED} more, see recordings.parquet")
