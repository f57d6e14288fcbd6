"""``tonald bundle``: sign a bundle ashore, verify on board who signed it."""

from __future__ import annotations

import argparse
import datetime
from pathlib import Path

from daemon.chosen_bundle import signer_key
from daemon.key_files import read_private
from models.bundle_signing import sign_bundle, verify_bundle
from models.errors import UsageError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's words."""
    parser.add_argument("action", choices=("sign", "verify"))
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder")
    parser.add_argument(
        "--key", type=Path, required=True, metavar="FILE", help="sign: the signer's .key; verify: the signer's .pub"
    )
    parser.add_argument("--expires", metavar="DATE", help="sign: refused from then on, e.g. 2027-06-30 (0:00 UTC)")
    parser.epilog = "'tonald keygen signer NAME' makes the keys; bundle_key in the settings asks for signatures"


def run(args: argparse.Namespace) -> int:
    """Sign, or verify; the hash of every file is checked in either case."""
    if args.action == "verify":
        if args.expires is not None:
            raise UsageError("--expires belongs to 'tonald bundle sign'")
        bundle, signed = verify_bundle(args.bundle, signer_key(args.key, "--key"))
    else:
        bundle, signed = sign_bundle(args.bundle, read_private(args.key, "--key"), _date(args.expires))
    until = "never" if signed.expires is None else signed.expires.isoformat()
    print(f"{args.bundle}: bundle {bundle.id}, signed {signed.at.isoformat()}, expires {until}")
    return 0


def _date(text: str | None) -> datetime.datetime | None:
    if text is None:
        return None
    try:
        t = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--expires {text!r}: give a date such as 2027-06-30, or 2027-06-30T12:00:00+00:00") from None
    return t if t.tzinfo else t.replace(tzinfo=datetime.timezone.utc)
