"""The ``tonald`` program: finds the command, hands over, turns errors into one line and an exit code."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence

from models.errors import TonaldError, UsageError

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "run": "listen to hydrophones, recordings or the simulated ocean and publish signatures",
    "listen": "show what a daemon publishes: live table, lines or JSON",
    "status": "say how the running daemon is; ends non-zero if it is not well, or its status is stale",
    "verify": "hold saved records against a recording: equal, audio differs or result differs",
    "record": "write the source's sound into files with side-cars, for calibration and for proof",
    "freeze": "have a running daemon keep the latest sound for good",
    "demo": "simulated ocean, daemon and live table in one: the product in three minutes",
    "doctor": "say whether this machine is ready for sea, one line for each thing, with the cure",
    "selftest": "put a known signature in digitally: it must come out at a subscriber",
    "support": "gather settings, log, versions and findings into one archive, without secrets",
    "config": "print the commented reference of all settings, or check a file",
    "keygen": "make keys: of the daemon, of those who listen, of whoever signs bundles",
    "bundle": "sign a bundle, or verify who signed it",
    "levels": "say what full scale is on each channel; or calibrate by a recording of a known tone",
    "own-ship": "learn, show or forget the lines of the own vessel",
    "devices": "list the sound cards",
    "export": "records as Raven selection tables, CSV or SigMF",
    "inspect": "say what a bundle holds and whether it is whole",
    "simulate": "write simulated recordings with their exact truth",
    "train": "train a Spec-CNN on simulated or real recordings",
    "calibrate": "make a bundle of a trained network: representatives, class masks, thresholds, graphs",
    "reprocess": "analyse an archive of recordings on many processes, into Parquet files",
    "evaluate": "train, calibrate and score on folders of recordings",
    "bench": "measure speed against peers in one run",
    "experiments": "measure the product and its peers: Table I, peers, false alarms",
}
"""Command and what it does; each lives in ``daemon/commands/<command>.py`` and is imported only when called."""

EXTRAS = {
    "torch": "train", "sklearn": "train", "onnx": "train", "onnxscript": "train", "matplotlib": "train",
    "soundfile": "audio", "sounddevice": "audio", "rich": "view", "openvino": "cpu", "onnxruntime": "onnx",
    "pyarrow": "archive", "dask": "archive", "distributed": "archive", "cryptography": "signed",
    "librosa": "experiments", "noisereduce": "experiments", "pywt": "experiments",
}  # fmt: skip
"""Which extra brings which module."""

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code (see models.errors)."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        if words[:1] != ["doctor"]:  # which says so itself, beside all else
            _refuse_rival()
        return _dispatch(words)
    except TonaldError as e:
        _say(f"tonald: {e}")
        return e.exit_code
    except ModuleNotFoundError as e:
        extra = EXTRAS.get((e.name or "").split(".")[0])
        if extra is None:
            raise
        _say(f"tonald: '{words[0]}' needs {e.name}, which is not installed: pip install 'tonald[{extra}]'")
        return UsageError.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away: nothing is wrong, nobody is there to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(words: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="tonald",
        description="Passive-sonar daemon: which known source is heard, and which tonals prove it.",
        epilog="commands:\n" + "\n".join(f"  {name:11} {what}" for name, what in COMMANDS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tonald {importlib.metadata.version('tonald')}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help="one of the commands below")
    name = parser.parse_args(words[:1] or ["--help"]).command
    module = importlib.import_module(f"daemon.commands.{name.replace('-', '_')}")
    command = argparse.ArgumentParser(prog=f"tonald {name}", description=COMMANDS[name])
    module.add_arguments(command)
    code: int = module.run(command.parse_args(words[1:]))
    return code


def _refuse_rival() -> None:
    """Stop if another distribution provides the import name ``daemon`` (python-daemon does): the two would mix."""
    owners = set(importlib.metadata.packages_distributions().get("daemon", [])) - {"tonald"}
    if owners:
        raise UsageError(
            f"the import name 'daemon' is also provided by {sorted(owners)}: "
            "install tonald in an environment of its own"
        )


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
