"""``tonald experiments``: every figure of the documentation, each experiment a word of its own."""

from __future__ import annotations

import argparse
import importlib

__all__ = ["EXPERIMENTS", "add_arguments", "run"]

EXPERIMENTS = {
    "table1": "Table I of the paper beside the paper's own figures, and what beats it",
    "peers": "the truthless peers on the same windows with the same measures",
    "conformal": "truth-free thresholds, asked for and measured, here and at other places",
    "falsealarms": "contact starts on source-free sea, asked for and measured",
    "wgan": "whether generated windows help a classifier, and how good they are",
    "unknowns": "which score finds vessels no network was trained on",
}
"""Each lives in ``daemon/commands/experiments_<name>.py`` and imports its libraries when it runs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    parser.description = "Measure the product and its peers; simulated data unless said otherwise."
    what = parser.add_subparsers(dest="experiment", required=True, metavar="WHAT")
    for name, text in EXPERIMENTS.items():
        module = importlib.import_module(f"daemon.commands.experiments_{name}")
        module.add_arguments(what.add_parser(name, help=text, description=text[0].upper() + text[1:] + "."))


def run(args: argparse.Namespace) -> int:
    """Hand over to the experiment named."""
    code: int = importlib.import_module(f"daemon.commands.experiments_{args.experiment}").run(args)
    return code
