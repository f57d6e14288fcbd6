"""``tonald experiments denoisers``: denoisers that learn, with truth and without, on the windows of the peers."""

from __future__ import annotations

import argparse
import functools
import time

from daemon.commands.progress import shown
from daemon.commands.trial_words import add_trial_words, check, opened

__all__ = ["add_arguments", "run"]

SCENARIOS = ("standard", "low_snr", "two_ships", "wide")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the words of the command."""
    add_trial_words(parser, SCENARIOS)


def run(args: argparse.Namespace) -> int:
    """Train, measure and print; 0 when the table is there, rows that failed included.

    Raises
    ------
    TonaldError
        If the words do not fit together or the bundle cannot be used.
    """
    check(args)
    from calibration.experiments.judge import LEVELS, point_of
    from calibration.experiments.ours import SignatureMap, vessel_of
    from calibration.experiments.peers import Entry, free_table, mask_table, reference_rows, run_rows
    from calibration.experiments.tables import about, headline, write_json
    from calibration.peers import denoisers
    from calibration.peers.noise2self import trained_on, training_scene
    from calibration.peers.normalisers import Tpsw
    from calibration.scenarios import scenario_named

    start = time.monotonic()
    with shown() as progress, opened(args, progress) as given:
        bundle, trial = given.bundle, given.trial
        scene = functools.cache(lambda: training_scene(scenario_named(args.scenario), bundle.spec, progress=progress))
        entries = [
            Entry("signature", lambda: SignatureMap("tonald, mode signature", given.live), gated=True),
            Entry("vessel", lambda: vessel_of("tonald, mode vessel", bundle)),
            Entry("dncnn", lambda: denoisers.supervised(scene())),
            Entry("autoencoder", lambda: denoisers.autoencoder(scene())),
            Entry("sure", lambda: denoisers.sure(scene())),
            Entry("gan_noise", lambda: denoisers.gan_noise(scene())),
            Entry("noise2self", lambda: trained_on(scene(), progress=progress)),
            Entry("tpsw_9", lambda: Tpsw(9)),
        ]
        rows = reference_rows(trial) | run_rows(entries, trial, levels=LEVELS, progress=progress)
    facts = about(trial, args.scenario, args.fresh_seed) | {"bundle": bundle.id, "asked": args.asked}
    if args.json is not None:
        write_json(args.json, {**facts, "methods": rows})
    print(headline(facts))
    print(f"\n{free_table(rows)}")
    for q in LEVELS:
        print(f"\n{mask_table(rows, point_of('conformal', q), f'masks, nominal {100 * q:.0f} %, no truth')}")
    print(f"\n{time.monotonic() - start:.0f} s")
    return 0
