"""``tonald config``: print the reference, or check a file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from daemon.chosen_bundle import chosen_bundle
from daemon.config import Config
from daemon.config_reference import reference
from daemon.contact_gate import effective_rule
from daemon.curve import CurveServer, open_endpoints
from daemon.journal.open import replay_endpoints
from daemon.pipeline import with_hop
from daemon.site_state import choose_site

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's words."""
    parser.add_argument("--check", metavar="FILE", type=Path, help="read FILE and say what is wrong with it")


def run(args: argparse.Namespace) -> int:
    """Print every key with its default and meaning, or the effect of a file."""
    if args.check is None:
        sys.stdout.write(reference())
        return 0
    config = Config.load(args.check)
    curve = CurveServer.of(config.publish)
    open_endpoints(config.publish.endpoints, curve)
    source = config.source
    what = {"file": source.path, "device": source.device, "simulated": source.scenario, "pcm": source.sample_format}
    print(f"{args.check}: good")
    print(f"  node       {config.node}")
    print(f"  source     {source.kind}: {what[source.kind]}")
    print(f"  bundle     {config.bundle or 'the shipped one (simulated ocean)'}")
    if config.bundle_key:
        print(f"  signed     bundles must be, by the key {config.bundle_key}")
    print(f"  windows    one every {config.window.hop_s:g} s and channel")
    print(f"  threshold  removes {float(config.extract.nominal):.0%} of source-free cells, as calibrated")
    bundle = chosen_bundle(config)
    with_hop(bundle.spec, config.window.hop_s)
    every = f"; estimated anew every {config.site.refresh_hours:g} h heard" if config.site.refresh_hours else ""
    site = choose_site(config, bundle)
    print(f"  site       {site.words()}{every}")
    for words in site.levels.words(bundle.spec) or ("not calibrated, levels are in dB re FS",):
        print(f"  hydrophone {words}")
    print(f"  own ship   {site.own_ship_words()}")
    contacts, gates, alarms = effective_rule(config, bundle).words()
    print(f"  contacts   {contacts}")
    print(f"  gates      {gates}")
    print(f"  alarms     {alarms}")
    print(f"  publishes  {', '.join(config.publish.endpoints)}")
    print(f"  journal    {_journal(config)}")
    if curve is not None:
        print(f"  keys       the daemon's: {curve.keys.public}; may listen: {_names(curve)}")
    return 0


def _journal(config: Config) -> str:
    kept = config.journal
    if not config.state_dir or not kept.enabled:
        why = "it is switched off" if config.state_dir else "state_dir is empty"
        return f"none, {why}: who misses a record cannot have it again"
    return (
        f"at most {kept.max_mb:g} MB and {kept.max_days:g} days in {config.state_dir}, "
        f"replayed on {', '.join(replay_endpoints(config))}"
    )


def _names(curve: CurveServer) -> str:
    return ", ".join(str(key) for key in curve.allowed.values()) or "nobody"
