"""``tonald levels``: what full scale is on each channel; or, from a recording of a known tone, what it must be."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibration.calibrator import Measured, measure_tone
from daemon.chosen_bundle import chosen_bundle
from daemon.config import Config
from daemon.frames import AudioBlock, StreamStart
from daemon.levels import levels_of
from daemon.sources.audio_file import AudioFileSource
from models.errors import AudioFormatError, InputError, UsageError

__all__ = ["add_arguments", "run"]

#: What is read of a recording at most, s.
MOST_S = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's words."""
    parser.add_argument("recording", nargs="?", type=Path, help="recording of a calibrator's or pistonphone's tone")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the daemon's settings: say what full scale is")
    parser.add_argument("--tone-hz", type=float, metavar="HZ", help="frequency of the tone")
    parser.add_argument("--tone-db", type=float, metavar="DB", help="its mean-square sound pressure level, dB re 1 uPa")
    parser.add_argument("--channel", action="append", metavar="NAME", help="only this one (again for more)")
    parser.add_argument("--gain-db", type=float, metavar="DB", help="amplifiers at the time; gives the sensitivity")
    parser.add_argument("--adc-vpeak", type=float, metavar="V", help="full scale of the converter, V, peak")


def run(args: argparse.Namespace) -> int:
    """Print the chains, or measure a tone; 65 where a channel asked for holds no usable tone.

    Raises
    ------
    TonaldError
        If the words do not fit together, or something cannot be read.
    """
    config = None if args.config is None else Config.load(args.config)
    if args.recording is None:
        if config is None:
            raise UsageError("give --config FILE to see what is set, or a recording with --tone-hz and --tone-db")
        spec = chosen_bundle(config).spec
        for words in levels_of(config).words(spec) or ("no channel is calibrated: levels are in dB re FS",):
            print(words)
        return 0
    if args.tone_hz is None or args.tone_db is None:
        raise UsageError("a recording needs --tone-hz and --tone-db: what the calibrator gives, dB re 1 uPa")
    if (args.gain_db is None) != (args.adc_vpeak is None):
        raise UsageError("--gain-db and --adc-vpeak go together; without both the whole chain is given as one value")
    x, fs, names = _read(args.recording)
    if missing := [name for name in args.channel or () if name not in names]:
        raise InputError(f"{args.recording} has no channel {missing[0]}: it has {', '.join(names)}")
    n_good = 0
    for row, name in zip(x, names, strict=True):
        if args.channel and name not in args.channel:
            continue
        measured = measure_tone(row, fs, args.tone_hz)
        n_good += not measured.problem
        _tell(args, name, measured, config)
    if not n_good:
        raise AudioFormatError(f"{args.recording}: no channel holds a usable tone of {args.tone_hz:g} Hz")
    return 0


def _tell(args: argparse.Namespace, name: str, m: Measured, config: Config | None) -> None:
    print(
        f"# {name}: {m.freq_hz:.1f} Hz at {m.level_db_re_fs:.2f} dB re FS (mean square), +-{m.spread_db:.2f} dB over "
        f"{m.n_pieces} s, {m.snr_db:.0f} dB over the noise"
    )
    if m.problem:
        print(f"# {name}: not used: {m.problem}\n")
        return
    full = m.full_scale_peak_db(args.tone_db)
    print(f'[[hydrophone]]\nchannel = "{name}"')
    if args.gain_db is None:
        print(f"full_scale_db = {full:.2f}   # dB re 1 uPa, peak, at {m.freq_hz:.0f} Hz")
    else:
        s = m.sensitivity_db(args.tone_db, args.gain_db, args.adc_vpeak)
        print(f"sensitivity_db = {s:.2f}   # dB re 1 V/uPa at {m.freq_hz:.0f} Hz")
        print(f"gain_db = {args.gain_db!r}\nadc_vpeak = {args.adc_vpeak!r}")
    chain = None if config is None else levels_of(config).chains.get(name)
    if chain is not None:
        was = chain.full_scale_peak_db - float(chain.response(m.freq_hz))
        print(f"# the settings say {was:.2f} dB re 1 uPa for full scale there, the tone {full - was:+.2f} dB of that")
    print()


def _read(path: Path) -> tuple[npt.NDArray[np.float32], int, tuple[str, ...]]:
    """Samples ``(n_channels, n)``, their rate and the channels' names."""
    source = AudioFileSource(path)
    blocks: list[npt.NDArray[np.float32]] = []
    start: StreamStart | None = None
    n, most = 0, math.inf
    try:
        while n < most and (event := source.read(0.0)) is not None:
            if isinstance(event, StreamStart):
                if start is not None:
                    raise UsageError(f"{path}: give one recording, not several")
                start, most = event, MOST_S * event.fs
            elif isinstance(event, AudioBlock):
                blocks.append(event.x)
                n += event.n_samples
    finally:
        source.close()
    if start is None or not blocks:
        raise AudioFormatError(f"{path}: holds no samples")
    return np.concatenate(blocks, axis=1), start.fs, start.channels
