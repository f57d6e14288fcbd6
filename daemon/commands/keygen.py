"""``tonald keygen``: make keys, each in a file that only its owner may read."""

from __future__ import annotations

import argparse
from pathlib import Path

from daemon.key_files import check_name, make_pair, to_text, write_new
from models.bundle_signature import make_signer
from models.errors import InputError, UsageError

__all__ = ["add_arguments", "run"]

KINDS = ("server", "client", "signer")
EXAMPLE = "tonald keygen client bridge --into keys"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's words."""
    parser.add_argument("kind", choices=KINDS, help="of the daemon, of one who listens, of one who signs bundles")
    parser.add_argument("name", nargs="?", metavar="NAME", help="of a client or signer, such as bridge")
    parser.add_argument("--into", type=Path, default=Path(), metavar="FOLDER", help="where to write (default: here)")
    parser.epilog = f"writes NAME.key (secret, mode 0600) and NAME.pub (public); e.g. {EXAMPLE}"


def run(args: argparse.Namespace) -> int:
    """Write a pair; never over one that exists."""
    if args.kind != "server" and args.name is None:
        raise UsageError(f"keygen {args.kind} needs a name, e.g. {EXAMPLE}")
    name, folder = "server" if args.name is None else args.name, args.into
    check_name(name, "keygen")
    if args.kind == "signer":
        secret, public = make_signer()
        shown = "signs bundles: keep it ashore"
    else:
        pair = make_pair(name)
        secret, public = to_text(pair.public, pair.secret).encode(), to_text(pair.public).encode()
        shown = f"fingerprint {pair.public.fingerprint}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as e:
        raise InputError(f"{folder}: cannot be made: {e.strerror}") from e
    for path in (folder / f"{name}.key", folder / f"{name}.pub"):
        if path.exists():
            raise InputError(f"{path} exists already: choose another name or folder; its owner would be shut out")
    write_new(folder / f"{name}.key", secret, 0o600)
    write_new(folder / f"{name}.pub", public, 0o644)
    print(f"{folder / name}.key  secret, {shown}")
    print(f"{folder / name}.pub  public, give it to {_WHOM[args.kind]}")
    return 0


_WHOM = {
    "server": "each client (--server-key)",
    "client": "the daemon (into publish.allowed_keys)",
    "signer": "each vessel (bundle_key)",
}
