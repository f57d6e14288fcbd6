"""``tonald freeze``: have a running daemon keep the latest sound for good."""

from __future__ import annotations

import argparse
from pathlib import Path

from daemon.config import Config
from daemon.requests import ask
from models.errors import ConfigError, InputError

__all__ = ["add_arguments", "forensic_root", "run"]

ANSWER_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's words."""
    parser.description = (
        "Ask the daemon that runs with this configuration to freeze its forensic ring: forensic.before_s before now, "
        "forensic.after_s after. Run it as root or as the daemon's user; it asks by a file in state_dir."
    )
    parser.add_argument("why", nargs="*", metavar="WORD", help="why, for the side-car")
    parser.add_argument("--config", metavar="FILE", type=Path, required=True, help="settings of the daemon")


def forensic_root(config: Config) -> Path:
    """Where the ring lies.

    Raises
    ------
    ConfigError
        If the settings have none.
    """
    if not config.forensic.max_mb:
        raise ConfigError("forensic.max_mb is 0: this daemon keeps no sound; set it, and state_dir")
    return Path(config.state_dir) / "forensic"


def run(args: argparse.Namespace) -> int:
    """Ask, print the answer."""
    root = forensic_root(Config.load(args.config))
    answer = ask(root, " ".join(args.why), ANSWER_S, "forensic.max_mb")
    if answer is None:
        raise InputError(f"{root}: no daemon answered within {ANSWER_S:g} s: is it running with this configuration?")
    print(answer)
    return 0
