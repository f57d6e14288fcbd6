"""``tonald own-ship``: learn the lines of the own vessel, show them, take some out, or forget them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from calibration.own_ship import OwnLine, OwnShip
from calibration.own_ship_learn import Heard, learn, together, unite
from daemon.curve import ClientKeys
from daemon.own_ship_heard import heard_in, heard_live
from daemon.site_state import next_version, own_ship_in, save_site
from models.bundle import Bundle
from models.errors import InputError, UsageError

__all__ = ["add_arguments", "run"]

WIDE = 0.2
"""Share of the analysed band above which own-ship lines make it deaf."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's words."""
    commands = parser.add_subparsers(dest="what", required=True, metavar="learn | show | forget")
    learning = commands.add_parser("learn", help="learn them from recordings, or from a running daemon")
    learning.add_argument(
        "recording",
        nargs="*",
        type=Path,
        help="the vessel alone, 3 min or more; one for each speed",
    )
    learning.add_argument("--from-live", metavar="ENDPOINT", help="listen to a running daemon instead")
    learning.add_argument("--minutes", type=float, default=10.0, metavar="MIN", help="so long (default: 10)")
    learning.add_argument("--server-key", type=Path, help="public key of a daemon that asks for keys")
    learning.add_argument("--client-key", type=Path, help="the own key pair, for such a daemon")
    learning.add_argument("--bundle", type=Path, metavar="DIR", help="as the daemon's (default: the shipped one)")
    learning.add_argument("--common", action="store_true", help="keep only lines that every recording has")
    learning.add_argument("--add", action="store_true", help="keep the lines known so far, too")
    learning.add_argument(
        "--tolerance-hz", type=float, default=1.0, metavar="HZ", help="a tonal so near to a line is it (default: 1)"
    )
    learning.add_argument(
        "--min-share", type=float, default=0.5, metavar="SHARE", help="of the windows, how many hold it (default: 0.5)"
    )
    learning.add_argument("--band", action="append", default=[], metavar="LO-HI", help="one more band, Hz (again)")
    _place(learning)
    _place(commands.add_parser("show", help="print them"))
    forgetting = commands.add_parser("forget", help="forget them, or those at some frequencies")
    forgetting.add_argument("--at", action="append", type=float, default=[], metavar="HZ", help="only the line there")
    forgetting.add_argument("--channel", metavar="NAME", help="only of this channel")
    _place(forgetting)


def _place(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--state-dir", type=Path, metavar="DIR", help="of the daemon: it serves from its next start")
    where.add_argument("--out", type=Path, metavar="FILE", help="this file instead")


def run(args: argparse.Namespace) -> int:
    """Do it; 0 when it is done.

    Raises
    ------
    TonaldError
        If the words do not fit together, nothing can be learned, or something cannot be read or written.
    """
    path: Path = args.out if args.out is not None else own_ship_in(args.state_dir)
    if args.what == "learn":
        return _learn(args, path)
    own = OwnShip.read(path)
    if args.what == "show":
        _tell(path, own)
        return 0
    return _forget(args, path, own)


def _learn(args: argparse.Namespace, path: Path) -> int:
    if bool(args.recording) == bool(args.from_live):
        raise UsageError("learn: give one or more recordings, or --from-live ENDPOINT")
    if not (0.1 <= args.min_share <= 1.0 and 0.1 <= args.tolerance_hz <= 10.0 and args.minutes > 0.0):
        raise UsageError("learn: --min-share is 0.1 to 1, --tolerance-hz 0.1 to 10, --minutes positive")
    bands = [_band(word) for word in args.band]
    bundle = Bundle.load(args.bundle or Bundle.shipped())
    regimes: list[Mapping[str, Heard]]
    if args.from_live:
        if (args.server_key is None) != (args.client_key is None):
            raise UsageError("--server-key and --client-key go together: 'tonald keygen client NAME' makes a client's")
        keys = None if args.server_key is None else ClientKeys.load(args.server_key, args.client_key)
        regimes = [heard_live(args.from_live, bundle, args.minutes, keys)]
        data = f"a running daemon, {args.minutes:g} min"
    else:
        regimes = [heard_in(r, bundle, lambda text: print(text, file=sys.stderr)) for r in args.recording]
        data = ", ".join(r.name for r in args.recording)
    channels: dict[str, list[OwnLine]] = {}
    for name in sorted({name for regime in regimes for name in regime}):
        learned = [learn(r[name], args.tolerance_hz, args.min_share) for r in regimes if name in r]
        channels[name] = unite([*together(learned, args.tolerance_hz, common=args.common), *bands], 0.0)
    if args.add and path.exists():
        before = OwnShip.read(path, bundle)
        data = f"{before.data}; {data}"
        for name, lines in before.channels.items():
            channels[name] = unite([*channels.get(name, []), *lines], 0.0)
    own = OwnShip.now(bundle, data, args.tolerance_hz, channels, next_version(path))
    _save(args, path, own)
    _tell(path, own)
    width = bundle.spec.f_hi_hz - bundle.spec.f_lo_hz
    for name in own.channels:
        if own.covered_hz(name) > WIDE * width:
            sys.stderr.write(
                f"channel {name}: own lines cover {own.covered_hz(name) / width:.0%} of the band: what sounds there "
                "alone is taken for the own ship; learn with --common, or at a steadier speed\n"
            )
    return 0


def _band(word: str) -> OwnLine:
    lo, dash, hi = word.partition("-")
    try:
        ends = float(lo), float(hi)
    except ValueError:
        ends = (0.0, 0.0)
    if not dash or not 0.0 < ends[0] <= ends[1]:
        raise UsageError(f"--band {word!r}: write LO-HI in Hz, such as 48-52")
    return OwnLine(lo_hz=ends[0], hi_hz=ends[1], share=0.0, level_db_re_fs=0.0)


def _forget(args: argparse.Namespace, path: Path, own: OwnShip) -> int:
    if args.channel is not None and args.channel not in own.channels:
        raise InputError(f"{path}: no channel {args.channel}; it holds {', '.join(own.channels)}")
    of = [args.channel] if args.channel is not None else list(own.channels)
    kept: dict[str, Sequence[OwnLine]] = dict(own.channels)
    for name in of:
        at, t = args.at, own.tolerance_hz
        kept[name] = tuple(x for x in own.channels[name] if at and not any(x.lo_hz - t <= f <= x.hi_hz + t for f in at))
    n_gone = sum(map(len, own.channels.values())) - sum(map(len, kept.values()))
    if args.at and n_gone == 0:
        raise InputError(f"{path}: no line of the own ship at {', '.join(f'{f:g}' for f in args.at)} Hz")
    left = OwnShip(
        bundle=own.bundle, version=next_version(path), created=own.created, data=own.data,
        tolerance_hz=own.tolerance_hz, channels={name: tuple(x) for name, x in kept.items()},
    )  # fmt: skip
    _save(args, path, left)
    print(f"{path}: {n_gone} lines forgotten; the version before lies beside it" if args.state_dir else path)
    return 0


def _save(args: argparse.Namespace, path: Path, own: OwnShip) -> None:
    if args.state_dir is None:
        own.write(path)
    else:
        save_site(path, own)


def _tell(path: Path, own: OwnShip) -> None:
    print(f"{path}: own ship {own.id}, version {own.version} of {own.created}, for bundle {own.bundle}")
    print(f"learned from {own.data}; a tonal within {own.tolerance_hz:g} Hz of a line is the own ship's")
    for name, lines in own.channels.items():
        print(f"\nchannel {name}: {len(lines)} lines over {own.covered_hz(name):.0f} Hz")
        if lines:
            print("     from Hz     to Hz  in windows  dB re FS")
        for x in lines:
            seen = f"{x.share:9.0%}  {x.level_db_re_fs:8.1f}" if x.share else "      set         -"
            print(f"  {x.lo_hz:10.2f}{x.hi_hz:10.2f}   {seen}")
