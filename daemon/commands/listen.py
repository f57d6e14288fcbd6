"""``tonald listen``: show what a daemon publishes, and count what was lost on the way."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from daemon.config import PublishConfig
from daemon.curve import ClientKeys
from daemon.journal.bookmark import Bookmark
from daemon.journal.repair import Repaired
from daemon.record_file import RecordFile
from daemon.view import LiveTable, format_line
from daemon.wire import Message
from models.errors import UsageError

__all__ = ["add_arguments", "client_keys", "run"]

LINES = ("info/", "status/", "signature/", "contact/", "gap/", "forensic/")
TABLE = (*LINES, "window/")
JSON = (*TABLE, "own_ship/")
Show = Callable[[Message], None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's words."""
    endpoint = PublishConfig().endpoints[0]
    parser.add_argument(
        "endpoint", nargs="?", default=endpoint, metavar="ENDPOINT", help=f"of the daemon (default: {endpoint})"
    )
    parser.add_argument(
        "--topics", nargs="+", metavar="PREFIX", help="e.g. signature/ch0/ window/; '' for all (default: what is shown)"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per line; arrays are described, not shown")
    parser.add_argument(
        "--save", type=Path, metavar="FILE", help="also write the messages to a new file, for 'tonald verify'"
    )
    parser.add_argument(
        "--since",
        type=int,
        metavar="SEQ",
        help="begin with signatures and gaps after this journal_seq (0: all kept)",
    )
    parser.add_argument(
        "--resume", type=Path, metavar="FILE",
        help="go on after the last journal_seq noted there, and note it there; a new FILE begins now",
    )  # fmt: skip
    parser.add_argument(
        "--replay", metavar="ENDPOINT", help="where to ask for what was missed (default: as the daemon says)"
    )
    parser.add_argument("--no-replay", action="store_true", help="do not ask for what was missed, only count it")
    parser.add_argument("--once", type=int, metavar="N", help="end after N messages")
    parser.add_argument(
        "--server-key", type=Path, metavar="FILE", help="the daemon's public key (.pub), if it asks for keys"
    )
    parser.add_argument("--client-key", type=Path, metavar="FILE", help="our own key pair (.key), if it asks for keys")


def run(args: argparse.Namespace) -> int:
    """Show messages until Ctrl-C or SIGTERM; then say how many came and how many were lost."""
    if args.once is not None and args.once < 1:
        raise UsageError(f"--once {args.once}: at least 1 message is needed")
    if args.no_replay and (args.since is not None or args.resume or args.replay):
        raise UsageError("--no-replay with --since, --resume or --replay: choose one")
    if args.since is not None and args.resume is not None:
        raise UsageError("--since and --resume: the file says where to go on; choose one")
    if args.since is not None and args.since < 0:
        raise UsageError(f"--since {args.since}: a journal_seq is 0 or more")
    keys = client_keys(args.server_key, args.client_key)
    mark = Bookmark(args.resume) if args.resume else None
    live = not args.json and sys.stdout.isatty() and _has_rich()
    topics = args.topics or (JSON if args.json else TABLE if live or args.save else LINES)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.ExitStack() as stack:
        saved = stack.enter_context(RecordFile(args.save)) if args.save else None
        repaired = stack.enter_context(
            Repaired(
                args.endpoint, topics, keys=keys, replay=args.replay, repair=not args.no_replay,
                since=mark.seq if mark else args.since, journal=mark.journal if mark else "",
            )
        )  # fmt: skip
        try:
            with _show(repaired, as_json=args.json, live=live) as show:
                for n, message in enumerate(repaired, 1):
                    if saved is not None:
                        saved.add(repaired.frames)
                    show(message)
                    if mark is not None:
                        mark.note(repaired.journal, repaired.seq)
                    if n == args.once:
                        break
        except KeyboardInterrupt:
            pass  # the way to end it
        finally:
            if mark is not None:
                mark.write(repaired.journal, repaired.seq)
        sys.stderr.write(f"tonald: {_summary(repaired)}\n")
    return 0


def client_keys(server_key: Path | None, client_key: Path | None) -> ClientKeys | None:
    """Keys of the two files; None: none were given.

    Raises
    ------
    UsageError
        If one was given without the other.
    ConfigError
        If a file cannot be used.
    """
    if server_key is None and client_key is None:
        return None
    if server_key is None or client_key is None:
        raise UsageError("--server-key and --client-key go together: 'tonald keygen client NAME' makes a client's")
    return ClientKeys.load(server_key, client_key)


@contextlib.contextmanager
def _show(repaired: Repaired, *, as_json: bool, live: bool) -> Iterator[Show]:
    if live:
        with LiveTable("tonald") as table:
            yield lambda message: table.update(message, _summary(repaired))
    else:
        yield lambda message: print(_json(message) if as_json else format_line(message), flush=True)


def _json(message: Message) -> str:
    arrays = [{"name": name, "dtype": a.dtype.str, "shape": list(a.shape)} for name, a in message.arrays]
    body: dict[str, Any] = {"topic": message.topic, **message.body, "arrays": arrays}
    return json.dumps(body, ensure_ascii=True, default=_bytes)


def _bytes(value: object) -> str:
    """Fields of a later version may hold bytes; JSON cannot."""
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} has no place in a message")


def _summary(repaired: Repaired) -> str:
    subscriber = repaired.subscriber
    losses = subscriber.losses
    again = f" ({repaired.n_replayed} by replay)" if repaired.n_replayed else ""
    parts = [f"{losses.n_heard + repaired.n_replayed} messages{again}"]
    where = ", ".join(f"{topic} {n}" for topic, n in losses.lost.most_common(3) if n)
    parts.append(f"{losses.n_lost} lost" + (f" ({where})" if where else ""))
    if gone := repaired.n_missing + repaired.n_expired:
        parts.append(f"{gone} no longer in the journal")
    if repaired.n_given_up:
        parts.append(f"{repaired.n_given_up} times nobody replayed what was missed")
    if losses.n_restarts:
        parts.append(f"{losses.n_restarts} restarts of the daemon")
    if subscriber.n_malformed:
        parts.append(f"{subscriber.n_malformed} malformed")
    return ", ".join(parts)


def _has_rich() -> bool:
    try:
        import rich.live  # noqa: F401  (only whether it is there)
    except ModuleNotFoundError:
        return False
    return True
