"""Words that the experiments on fresh simulated windows share: seed, windows, bundle, JSON file."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.bundle import Bundle
from models.errors import InputError

if TYPE_CHECKING:
    from calibration.dataset import Progress
    from calibration.experiments.trial import Trial
    from models.engines import Engine
    from models.explainer import Explainer

__all__ = ["Opened", "add_trial_words", "check", "opened"]

MAX_BATCH = 8


def add_trial_words(parser: argparse.ArgumentParser, scenarios: tuple[str, ...]) -> None:
    """Declare the words; the first scenario is the default."""
    parser.add_argument(
        "--fresh-seed", type=int, default=0, metavar="N", help="seed of the test recordings; one that no tuning has "
        "seen gives a proof (default: 0)"
    )  # fmt: skip
    parser.add_argument(
        "--windows", type=int, default=96, metavar="N", help="test windows, two of each recording, rounded up to equal "
        "shares of each class (default: 96)"
    )  # fmt: skip
    parser.add_argument("--scenario", choices=scenarios, default=scenarios[0], help=f"default: {scenarios[0]}")
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="bundle; the shipped one by default")
    parser.add_argument("--engine", default="onnxruntime", help="engine of the bundle's graphs (default: onnxruntime)")
    parser.add_argument("--asked", choices=("named", "true"), default="named", help="class asked for: the one the "
                        "daemon names, as on board, or the true one (default: named)")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")


def check(args: argparse.Namespace) -> None:
    """Refuse what would only fail after minutes of work.

    Raises
    ------
    InputError
        If the folder of the JSON file does not exist.
    """
    if args.json is not None and not args.json.parent.is_dir():
        raise InputError(f"{args.json}: no such folder {args.json.parent}")
    if args.json is not None and args.json.is_dir():
        raise InputError(f"{args.json}: is a folder")


@dataclass(frozen=True, slots=True, eq=False)
class Opened:
    """What the words ask for."""

    bundle: Bundle
    engine: Engine
    live: Explainer
    """As on board: the student stands in for Score-CAM."""
    full: Explainer
    trial: Trial


@contextmanager
def opened(args: argparse.Namespace, progress: Progress) -> Iterator[Opened]:
    """The bundle, its explainers on one engine, and the trial that the words ask for.

    Raises
    ------
    TonaldError
        If the bundle cannot be used, or seed, windows and scenario do not fit.
    """
    from calibration.experiments import trial as trials
    from calibration.experiments.ours import heard_namer
    from calibration.scenarios import scenario_named
    from models.engines import open_engine
    from models.explainer import Explainer, graphs_of

    bundle = Bundle.load(args.bundle or Bundle.shipped())
    engine, _ = open_engine(bundle, args.engine, max_batch=MAX_BATCH, n_threads=1, graphs=graphs_of(bundle))
    try:
        live = Explainer(bundle, engine)
        name = None if args.asked == "true" else heard_namer(live)
        trial = trials.make_trial(
            scenario_named(args.scenario), args.fresh_seed, args.windows, bundle.spec, bundle.labels, name,
            n_calm=trials.N_CALM, progress=progress,
        )  # fmt: skip
        yield Opened(bundle, engine, live, Explainer(bundle, engine, "full"), trial)
    finally:
        engine.close()
