"""``tonald experiments``: every figure of the documentation, each experiment a word of its own."""

from __future__ import annotations

import argparse
import importlib

__all__ = ["EXPERIMENTS", "add_arguments", "run"]

EXPERIMENTS = {
    "table1": "Table I of the paper beside the paper's own figures, and what beats it",
    "peers": "the truthless peers on the same windows with the same measures",
    "networks": "the paper's network beside ours, representatives by number, epochs of the auto-encoder",
    "denoisers": "denoisers that learn, with truth and without, on the windows of the peers",
    "conformal": "truth-free thresholds, asked for and measured, here and at other places",
    "falsealarms": "contact starts on source-free sea, asked for and measured",
    "demon": "how well DEMON tells shaft rate and blades, simulated and on labelled recordings",
    "vessels": "vessel or not on real recordings, by splits that leak and one that does not",
    "wgan": "whether generated windows help a classifier, and how good they are",
    "unknowns": "which score finds vessels no network was trained on",
}
"""Each lives in ``daemon/commands/experiments_<name>.py`` and imports its libraries when it runs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command; those of an experiment are read when it is named."""
    parser.description = "Measure the product and its peers; simulated data unless said otherwise."
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    width = max(len(name) for name in EXPERIMENTS)
    parser.epilog = "experiments:\n" + "\n".join(f"  {name:{width}} {what}" for name, what in EXPERIMENTS.items())
    parser.add_argument("experiment", choices=EXPERIMENTS, metavar="WHAT", help="one of the experiments below")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help="its words; --help lists them")


def run(args: argparse.Namespace) -> int:
    """Hand over to the experiment named, the only one that is imported."""
    name: str = args.experiment
    what = EXPERIMENTS[name]
    module = importlib.import_module(f"daemon.commands.experiments_{name}")
    parser = argparse.ArgumentParser(
        prog=f"tonald experiments {name}", description=what[0].upper() + what[1:] + "."
    )  # fmt: skip
    module.add_arguments(parser)
    code: int = module.run(parser.parse_args(args.words))
    return code
