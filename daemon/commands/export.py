"""``tonald export``: records as Raven selection tables, CSV or SigMF."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from daemon.export.place import place
from daemon.export.selections import KINDS, Stream, column_of, read_streams
from daemon.export.sigmf import meta_of, to_text, write_data
from daemon.export.tables import to_csv, to_raven
from daemon.recording import Recording
from daemon.takes.side_car import read_take
from models.errors import InputError, UsageError

__all__ = ["add_arguments", "run"]

SUFFIX = {"raven": ".selections.txt", "csv": ".csv", "sigmf": ".sigmf-meta"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's words."""
    parser.description = (
        "Write what was heard as boxes in time and frequency. Times count from the first sample of the stream, or of "
        "the recording, if one is given."
    )
    parser.add_argument(
        "records", metavar="RECORDS", type=Path,
        help="file of 'tonald listen --save FILE' or '--json', or folder of 'tonald reprocess'",
    )  # fmt: skip
    parser.add_argument("--to", required=True, choices=tuple(SUFFIX), help="format")
    parser.add_argument(
        "--out", required=True, metavar="FILE", type=Path,
        help="new file; a folder that exists: one file per stream; '-' for csv and raven: standard output",
    )  # fmt: skip
    parser.add_argument("--what", choices=tuple(KINDS), default="signatures", help="boxes of (default: %(default)s)")
    parser.add_argument("--recording", metavar="FILE", type=Path, help="the sound, to which times are to count")
    parser.add_argument("--least-probability", metavar="P", type=float, default=0.0, help="leave out what is below")


def run(args: argparse.Namespace) -> int:
    """Write; say on standard error how much."""
    if not 0.0 <= args.least_probability <= 1.0:
        raise UsageError(f"--least-probability {args.least_probability:g}: give 0 to 1")
    if str(args.out) == "-" and args.to == "sigmf":
        raise UsageError("--out -: SigMF is a pair of files, give a name")
    streams = read_streams(args.records, args.what)
    for stream in streams:
        stream.selections = [s for s in stream.selections if (s.probability or 0.0) >= args.least_probability]
    n_left_out, first = 0, None
    if args.recording is not None:
        placed = place(streams, args.recording)
        streams, n_left_out, first = [placed.stream], placed.n_left_out, placed.first_sample
    if args.to == "csv" and not args.out.is_dir():
        _write(args.out, to_csv(streams))
    elif args.out.is_dir():
        for stream in streams:
            _one(args, stream, args.out / f"{_name(stream)}{SUFFIX[args.to]}", first)
    elif len(streams) > 1:
        raise UsageError(f"{args.records} holds {len(streams)} streams, each needs a table of its own: give a folder")
    else:
        _one(args, streams[0], args.out, first)
    n = sum(len(s.selections) for s in streams)
    outside = f", {n_left_out} outside the recording left out" if n_left_out else ""
    sys.stderr.write(f"tonald: {n} {args.what} of {len(streams)} streams{outside}\n")
    return 0


def _one(args: argparse.Namespace, stream: Stream, path: Path, first_sample: int | None) -> None:
    """One stream into one file, or with SigMF a pair."""
    take = None if args.recording is None else read_take(args.recording)
    if args.to == "csv":
        _write(path, to_csv([stream]))
    elif args.to == "raven":
        _write(path, to_raven(stream, None if take is None else take.channels))
    else:
        meta = path if path.suffix == ".sigmf-meta" else path.with_name(path.name + ".sigmf-meta")
        if args.recording is None:
            known = next((s for s in stream.selections if s.utc_ns is not None), None)
            utc = None if known is None or known.utc_ns is None else known.utc_ns - round(known.begin / stream.fs * 1e9)
            n_channels = 1 + max(column_of(s.channel) for s in stream.selections)
            _write(meta, to_text(meta_of(stream, n_channels=n_channels, utc_ns=utc)))
            return
        with Recording(args.recording) as recording:
            start = recording.start
        data = meta.with_suffix(".sigmf-data")
        try:
            sha512, n_channels = write_data(args.recording, data)
        except OSError as e:
            raise InputError(f"{data}: cannot be written: {e.strerror or e}") from e
        utc = None if start is None else start.t_ns
        _write(meta, to_text(
            meta_of(stream, n_channels=n_channels, sha512=sha512, first_sample=first_sample, utc_ns=utc)
        ))  # fmt: skip


def _name(stream: Stream) -> str:
    name = "".join(c if c.isalnum() or c in "._-" else "_" for c in stream.name)[:100] or "stream"
    return f"{name}.{stream.epoch}" if stream.epoch else name


def _write(path: Path, text: str) -> None:
    if str(path) == "-":
        sys.stdout.write(text)
        return
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{path} exists: it is not written over; give another name") from None
    except OSError as e:
        raise InputError(f"{path}: cannot be written: {e.strerror or e}") from e
