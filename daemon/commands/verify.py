"""``tonald verify``: whether records are of a recording, and the same comes out again."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections import Counter
from pathlib import Path

from daemon.chosen_bundle import chosen_bundle
from daemon.config import Config
from daemon.record_file import read_records
from daemon.recording import Recording
from daemon.site_state import choose_site
from daemon.verify import FAMILIES, Outcome, Verifier
from daemon.wire import Message
from models.engines import open_engine
from models.errors import InputError
from models.explainer import graphs_of

__all__ = ["EXIT_CODES", "add_arguments", "run"]

EXIT_CODES: dict[Outcome, int] = {"equal": 0, "audio differs": 10, "result differs": 11}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's words."""
    parser.add_argument(
        "message", metavar="MESSAGE", type=Path, help="file of 'tonald listen --save FILE' or 'tonald listen --json'"
    )
    parser.add_argument("recording", metavar="RECORDING", type=Path, help="the sound, as the daemon had it")
    parser.add_argument("--config", metavar="FILE", type=Path, help="settings of the daemon that made the records")
    parser.add_argument("--bundle", metavar="FOLDER", help="instead of the shipped one")
    parser.add_argument("--engine", choices=("auto", "tensorrt", "openvino", "onnxruntime"))
    parser.add_argument("--column", metavar="C", type=int, help="column of the recording, from 0 (default: chC is C)")
    parser.add_argument(
        "--precision", choices=("f32", "f16"), help="of the engine that made the records (default: as info/ says)"
    )
    parser.add_argument("--verbose", action="store_true", help="name equal records, too")
    parser.epilog = "last line and exit code: " + ", ".join(f"{o} ({c})" for o, c in EXIT_CODES.items())


def run(args: argparse.Namespace) -> int:
    """Verify each window/ and signature/ record; the last line is the verdict on all."""
    config = Config.load(args.config) if args.config else Config()
    if args.engine:
        config = dataclasses.replace(config, engine=dataclasses.replace(config.engine, name=args.engine))
    records, precision = _records(args.message, args.recording.name)
    bundle = chosen_bundle(config, args.bundle)
    with Recording(args.recording, args.column) as recording:
        records = _within(records, recording)
        c = config.engine
        engine, _ = open_engine(
            bundle, c.name, max_batch=c.max_batch, n_threads=c.n_threads or os.cpu_count(), graphs=graphs_of(bundle),
            state_dir=Path(config.state_dir) if config.state_dir else None,
        )  # fmt: skip
        try:
            verifier = Verifier(config, bundle, engine, choose_site(config, bundle), args.precision or precision)
            counts = _verify(verifier, records, recording, verbose=args.verbose)
        finally:
            engine.close()
    sys.stderr.write(f"tonald: {len(records)} records: {', '.join(f'{n} {o}' for o, n in counts.items())}\n")
    worst = max(counts, key=lambda o: EXIT_CODES[o])
    print(worst)
    return EXIT_CODES[worst]


def _records(path: Path, recording: str) -> tuple[list[Message], str | None]:
    """Records of analysed windows, and the precision that info/ states among them.

    Where status/ says that one stream was the file named ``recording``, records of others are passed over.
    """
    records: list[tuple[tuple[str, str, int], Message]] = []
    labels: dict[tuple[str, str, int], str] = {}
    precision, n_other = None, 0
    for message in read_records(path):
        body = message.body
        if message.family == "info":
            precision = body["engine"]["precision"]
        if message.family == "status" and body["epoch"] is not None:
            labels[body["publisher"], body["source"], body["epoch"]] = body["label"]
        if message.family in FAMILIES and body["audio_digest"] is not None:
            records.append(((body["publisher"], body["source"], body["epoch"]), message))
        else:
            n_other += 1
    if not records:
        raise InputError(
            f"{path}: nothing to verify: {n_other} records, none a window/ or signature/ of an analysed window"
        )
    of_others = {stream for stream, label in labels.items() if label != recording}
    if recording not in labels.values():
        of_others = set()
    kept = [message for stream, message in records if stream not in of_others]
    if len(kept) < len(records):
        sys.stderr.write(f"tonald: {len(records) - len(kept)} records of other streams than {recording} passed over\n")
    if not kept:
        raise InputError(f"{path}: no window/ or signature/ of the stream {recording}")
    return kept, precision


def _within(records: list[Message], recording: Recording) -> list[Message]:
    """Of a file with the daemon's own side-car: those of its stream that lie in the span it states."""
    take = recording.take
    if take is None:
        return records
    stream, end = (take.stamp.stream, take.epoch), take.first_sample + take.n_samples
    mine = [r for r in records if (r.body["publisher"], r.body["epoch"]) == stream]
    if not mine:
        return records
    inside = [
        r for r in mine
        if r.body["first_sample"] >= take.first_sample and r.body["first_sample"] + r.body["n_samples"] <= end
    ]  # fmt: skip
    if not inside:
        raise InputError(
            f"{recording.path}: none of {len(mine)} records lies in it: "
            f"it holds samples {take.first_sample} to {end - 1}"
        )
    if len(inside) < len(records):
        sys.stderr.write(f"tonald: {len(records) - len(inside)} records outside {recording.path.name} passed over\n")
    return inside


def _verify(verifier: Verifier, records: list[Message], recording: Recording, *, verbose: bool) -> Counter[Outcome]:
    counts: Counter[Outcome] = Counter()
    for record in records:
        finding = verifier.verify(record, recording)
        counts[finding.outcome] += 1
        if verbose or finding.outcome != "equal":
            body = record.body
            print(f"{finding.outcome}: {record.topic} epoch {body['epoch']}, sample {body['first_sample']}")
            for detail in finding.details:
                print(f"    {detail}")
    return counts
