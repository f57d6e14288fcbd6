"""``tonald experiments table1``: Table I of the paper beside the paper's own figures, and what beats it."""

from __future__ import annotations

import argparse

from daemon.commands.progress import shown
from daemon.commands.trial_words import add_trial_words, check, opened

__all__ = ["add_arguments", "run"]

SCENARIOS = ("standard", "low_snr", "two_ships", "wide")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    add_trial_words(parser, SCENARIOS)


def run(args: argparse.Namespace) -> int:
    """Measure and print; 0 when all figures are there, whatever they say.

    Raises
    ------
    TonaldError
        If the words do not fit together or the bundle cannot be used.
    """
    check(args)
    from calibration.experiments import table1
    from calibration.experiments.tables import about, headline, write_json
    from calibration.scenarios import scenario_named

    with shown() as progress, opened(args, progress) as given:
        result = table1.run(
            given.trial, scenario_named(args.scenario), given.bundle, given.engine, given.live, given.full,
            progress=progress,
        )  # fmt: skip
        if args.scenario == "standard":
            result = table1.with_wide(result, args.fresh_seed, args.windows, given.bundle.spec, progress=progress)
    facts = about(given.trial, args.scenario, args.fresh_seed) | {"bundle": given.bundle.id, "asked": args.asked}
    if args.json is not None:
        write_json(args.json, {**facts, **result})
    print(headline(facts))
    print(table1.text(result))
    return 0
