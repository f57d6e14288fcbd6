"""``tonald doctor``: is this machine ready for sea? One line for each thing looked at, with the cure."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from collections import Counter
from pathlib import Path

from daemon.doctor.examine import examine
from daemon.doctor.finding import worst

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's words."""
    parser.description = (
        "Look at everything a start needs: ok, warn (it runs, but ...) or fail (it would not run), and after the bar "
        "what to do. Run it as the user the daemon runs as. Exit code 1 if anything failed."
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help="settings of the daemon (default: the defaults)")
    parser.add_argument("--unit", metavar="FILE", type=Path, help="unit file (default: the one installed)")
    parser.add_argument("--json", action="store_true", help="one JSON object per line instead of words")


def run(args: argparse.Namespace) -> int:
    """Print each finding as it comes; 0 if nothing failed, else 1."""
    logging.getLogger().addHandler(logging.NullHandler())  # what others log is in the findings
    findings = []
    for finding in examine(args.config, args.unit):
        findings.append(finding)
        print(json.dumps(dataclasses.asdict(finding)) if args.json else finding, flush=True)
    if not args.json:
        counts = Counter(f.status for f in findings)
        verdict = "not ready" if counts["fail"] else "ready"
        print(f"{verdict}: {counts['ok']} ok, {counts['warn']} warn, {counts['fail']} fail")
    return int(worst(findings) == "fail")
