"""``tonald devices``: the sound cards that can be captured from."""

from __future__ import annotations

import argparse
import json
import subprocess

from daemon.capture.devices import InputDevice
from daemon.capture.process import CHILD
from models.errors import DeviceError

__all__ = ["add_arguments", "input_devices", "run"]

_TIMEOUT_S = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.description = (
        "List the input devices of PortAudio. '--source device:PART-OF-NAME' captures from one; channels count from 0."
    )
    parser.add_argument("--json", action="store_true", help="one JSON list instead of a table")


def run(args: argparse.Namespace) -> int:
    """Print the devices; 0 also if there is none.

    Raises
    ------
    DeviceError
        If PortAudio is missing, hangs or crashes.
    """
    devices = input_devices()
    if args.json:
        keys = ("name", "host_api", "n_channels", "fs")
        print(json.dumps([{k: getattr(d, k) for k in keys} for d in devices], indent=1, ensure_ascii=False))
        return 0
    if not devices:
        print("no input device: PortAudio works but sees no sound card (is it plugged in, is the user in group audio?)")
        return 0
    rows = [("name", "host API", "channels", "default rate")]
    rows += [(d.name, d.host_api, str(d.n_channels), f"{d.fs:g} Hz") for d in devices]
    widths = [max(len(row[c]) for row in rows) for c in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip())
    return 0


def input_devices() -> list[InputDevice]:
    """Ask PortAudio in a process of its own: looking for cards can hang or crash it.

    Raises
    ------
    DeviceError
        As ``run``.
    """
    try:
        done = subprocess.run(  # noqa: S603  (our own interpreter and module)
            [*CHILD, "--list"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as e:
        raise DeviceError(f"PortAudio did not list its devices within {_TIMEOUT_S:g} s: a sound server hangs") from e
    try:
        listing = json.loads(done.stdout)
    except ValueError as e:
        words = done.stderr.decode("utf-8", "replace").strip().splitlines()
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise DeviceError(f"PortAudio crashed while it looked for devices ({how}): {words[-1:]}") from e
    if "detail" in listing:
        raise DeviceError(listing["detail"])
    return [InputDevice(**d) for d in listing["devices"]]
