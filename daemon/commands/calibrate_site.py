"""``tonald calibrate --site``: thresholds of a place, from recordings of its empty sea."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from calibration.recordings import Refused
from calibration.site import ChannelCalibration, SiteCalibration
from calibration.site_scores import MAX_DETECTED, ChannelScores
from daemon.commands.progress import shown
from daemon.site_state import in_state, next_version, save_site
from models.bundle import Bundle
from models.errors import InputError, UsageError

__all__ = ["add_site_words", "run_site"]


def add_site_words(parser: argparse.ArgumentParser) -> None:
    """Declare the words that go with ``--site``."""
    site = parser.add_argument_group("thresholds of a site, laid over those of a bundle (instead of RUN_DIR)")
    site.add_argument("--site", type=Path, metavar="FOLDER", help="recordings of the site's sea without vessels")
    site.add_argument("--bundle", type=Path, metavar="BUNDLE", help="bundle they are for; the shipped one by default")
    site.add_argument(
        "--state-dir", type=Path, metavar="DIR", help="state directory of the daemon, whose site calibration it becomes"
    )
    site.add_argument(
        "--channel", action="append", metavar="NAME=PATTERN",
        help="files that belong to a channel, such as ch1='*aft*'; without it a sub-folder chN is channel chN, and of "
        "other files column N is",
    )  # fmt: skip
    site.add_argument("--hop", type=float, metavar="S", help="s between windows (default: as long as a window)")
    site.add_argument(
        "--keep-detected", action="store_true",
        help="no vessel was near: windows in which a class is detected all the same count too",
    )  # fmt: skip
    site.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")


def run_site(args: argparse.Namespace) -> int:
    """Measure, print, write; 0 when the calibration is in its place.

    Raises
    ------
    TonaldError
        If the words do not fit together, the recordings do not suffice, or something cannot be read or written.
    """
    named = _named(args.channel or [])
    if (args.out is None) == (args.state_dir is None):
        raise UsageError("--site: say where it goes, either --out FILE or --state-dir DIR")
    if args.json is not None and not args.json.parent.is_dir():
        raise InputError(f"{args.json}: no such folder {args.json.parent}")
    path: Path = args.out if args.out is not None else in_state(args.state_dir)
    if path.is_dir():
        raise UsageError(f"{path} is a folder: the site calibration is a file, such as {path / 'site.json'}")
    bundle = Bundle.load(args.bundle or Bundle.shipped())
    scores, refused = _measured(args, bundle, named)
    for r in refused:
        sys.stderr.write(f"not used: {r.reason}\n")
    channels = {name: _calibrated(args, name, scores[name]) for name in sorted(scores)}
    site = SiteCalibration.now(bundle, f"recordings in {args.site.resolve().name}", channels, next_version(path))
    if args.state_dir is None:
        site.write(path)
    else:
        save_site(path, site)
    if args.json is not None:
        _write(args.json, {"calibration_id": site.id, "bundle": bundle.id, "version": site.version, "file": str(path),
                           "channels": {n: dataclasses.asdict(c) for n, c in channels.items()},
                           "bundle_thresholds": {k: dict(v) for k, v in bundle.thresholds.mix.items()}})  # fmt: skip
    print(f"{path}: site calibration {site.id}, version {site.version}, for bundle {bundle.id}")
    for name, c in channels.items():
        _tell(name, c, bundle, scores[name])
    print("\nremoved: of source-free cells, each recording (long ones cut every 2 min) by the threshold of all others; "
          "95 % interval over recordings")  # fmt: skip
    if args.state_dir is None:
        print(f'to use it: [site] calibration = "{path.resolve()}", or write it with --state-dir')
    return 0


def _calibrated(args: argparse.Namespace, name: str, scores: ChannelScores) -> ChannelCalibration:
    try:
        return scores.calibrated("kept" if args.keep_detected else "left out")
    except InputError as e:
        raise InputError(f"{args.site}: channel {name}: {e}") from e


def _named(words: Sequence[str]) -> dict[str, str]:
    out: dict[str, str] = {}
    for word in words:
        name, equals, pattern = word.partition("=")
        if not (name and equals and pattern):
            raise UsageError(f"--channel {word!r}: write NAME=PATTERN, such as ch0='*bow*.wav'")
        if name in out:
            raise UsageError(f"--channel {name} is given twice")
        out[name] = pattern
    return out


def _measured(
    args: argparse.Namespace, bundle: Bundle, named: Mapping[str, str]
) -> tuple[dict[str, ChannelScores], list[Refused]]:
    from calibration.site_scores import measure
    from calibration.site_windows import windows_of_folder
    from models.engines import open_engine
    from models.explainer import Explainer, graphs_of

    with shown() as progress:
        windows, refused = windows_of_folder(bundle, args.site, named=named, hop_s=args.hop, progress=progress)
        engine, _ = open_engine(bundle, "auto", max_batch=32, graphs=graphs_of(bundle))
        try:
            scores = measure(bundle, Explainer(bundle, engine), windows, "kept" if args.keep_detected else "left out")
        finally:
            engine.close()
    if not scores:
        raise InputError(f"{args.site}: no window of any channel; not used: {refused[0].reason if refused else 'all'}")
    return scores, refused


def _tell(name: str, c: ChannelCalibration, bundle: Bundle, scores: ChannelScores) -> None:
    print(f"\nchannel {name}: {c.n_windows} windows of {c.n_recordings} recordings, {c.n_segments} independent pieces, "
          f"{c.seconds / 3600.0:.2f} h")  # fmt: skip
    if c.n_detected:
        share = c.share_detected
        if c.detected == "left out":
            print(f"  left out: {c.n_detected} windows ({share:.1%}) in which a class was detected; that biases: were "
                  f"they empty sea after all, at least {1.0 - share:.1%} of what is said below is removed of it; "
                  f"above {MAX_DETECTED:.0%} this is refused")  # fmt: skip
        else:
            print(f"  kept: {c.n_detected} windows ({share:.1%}) in which a class was detected; was a vessel among "
                  f"them, thresholds are too high and weak tones will be missed")  # fmt: skip
    print(f"  {'label':<16} {'nominal':>7} {'bundle':>8} {'site':>8}   removed by the site's (95 % interval), by the "
          f"bundle's")  # fmt: skip
    maps: list[tuple[str, Mapping[str, Any], Mapping[str, float]]] = [
        (label, levels, bundle.thresholds.mix[label]) for label, levels in c.labels.items()
    ]
    if c.vessel:
        maps.append(("", c.vessel, bundle.thresholds.vessel))
    for label, levels, own in maps:
        for q, t in levels.items():
            theirs = f"{own[q]:8.3f}" if q in own else f"{'-':>8}"
            by_bundle = f"{100 * scores.removed(label, own[q]):.1f} %" if q in own else "-"
            print(f"  {label or '(vessel map)':<16} {100 * float(q):>5.0f} % {theirs} {t.value:8.3f}   "
                  f"{100 * t.removed:5.1f} % ({100 * t.low:.1f}..{100 * t.high:.1f}), {by_bundle}")  # fmt: skip


def _write(path: Path, content: Mapping[str, Any]) -> None:
    try:
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as e:
        raise InputError(f"{path}: cannot be written: {e.strerror or e}") from e
