"""``tonald simulate OUT``: recordings of the simulated ocean with truth, in the layout that ``evaluate`` reads."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import get_args

from calibration.ocean import AMBIENT, SCENARIOS, Scenario, SeedSpace, SimulatedRecording, scenario_named, simulate
from calibration.truth import truth_path
from models.errors import InputError, UsageError

__all__ = ["add_arguments", "run"]

MANIFEST = "manifest.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.description = (
        "Write synthetic hydrophone recordings: OUT/<label>/NAME.wav with NAME.truth.json beside it, "
        "and OUT/ambient/NAME.wav without vessels."
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; must be new or empty")
    parser.add_argument("--scenario", default="standard", help=f"one of {', '.join(SCENARIOS)} (default: %(default)s)")
    parser.add_argument(
        "--space", choices=get_args(SeedSpace), default="test", help="which seeds: no noise is shared (default: test)"
    )
    parser.add_argument("--n-recordings", type=int, default=4, metavar="N", help="recordings per label (default: 4)")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each recording (default: 60)")
    parser.add_argument("--fs", type=int, default=2000, help="sample rate, Hz (default: 2000)")
    parser.add_argument("--start-index", type=int, default=0, metavar="I", help="index of the first one (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Write the recordings; 0 when all are there.

    Raises
    ------
    UsageError
        If a word or number does not fit.
    InputError
        If OUT is in use or cannot be written.
    """
    out: Path = args.out
    scenario = scenario_named(args.scenario)
    if args.n_recordings < 1:
        raise UsageError(f"--n-recordings {args.n_recordings}: at least 1 is needed")
    if not 0 < args.seconds <= 86_400:
        raise UsageError(f"--seconds {args.seconds:g}: must lie in 0..86400")
    if args.start_index < 0:
        raise UsageError(f"--start-index {args.start_index}: must not be negative")
    simulate(scenario, args.space, 0, AMBIENT, 1.0, args.fs)  # complains about the rate before anything is written
    files: list[dict[str, object]] = []
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise InputError(f"{out}: exists and is not an empty folder; choose another, nothing was written")
        for label in (*scenario.labels, AMBIENT):
            (out / label).mkdir(parents=True, exist_ok=True)
            for index in range(args.start_index, args.start_index + args.n_recordings):
                recording = simulate(scenario, args.space, index, label, args.seconds, args.fs)
                files.append(_write(out, scenario, args.space, index, recording))
        _write_manifest(out, scenario, args, files)
    except OSError as e:
        raise InputError(f"{e.filename or out}: cannot be written: {e.strerror or e}") from e
    print(
        f"{out}: {len(files)} synthetic recordings of {args.seconds:g} s, scenario {scenario.name} v{scenario.version}"
    )
    return 0


def _write(out: Path, scenario: Scenario, space: str, index: int, recording: SimulatedRecording) -> dict[str, object]:
    """Write audio and truth of one recording; return its entry in the manifest."""
    import soundfile

    path = out / recording.label / f"{scenario.name}-{space}-{index:04d}.wav"
    try:
        soundfile.write(path, recording.x.T, recording.fs, subtype="PCM_24")
    except soundfile.SoundFileError as e:
        raise InputError(f"{path}: cannot be written: {e}") from e
    recording.truth.write(truth_path(path))
    return {
        "file": path.relative_to(out).as_posix(),
        "label": recording.label,
        "labels": list(recording.truth.labels),
        "seed": recording.seed_name,
    }


def _write_manifest(out: Path, scenario: Scenario, args: argparse.Namespace, files: list[dict[str, object]]) -> None:
    manifest = {
        "synthetic": True,
        "generator": "tonald simulate",
        "scenario": scenario.name,
        "version": scenario.version,
        "space": args.space,
        "fs": args.fs,
        "seconds": args.seconds,
        "canonical_lines_hz": {label: scenario.canonical_lines(label).tolist() for label in scenario.labels},
        "recordings": files,
    }
    (out / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
