"""``make unit``: the service unit under a real systemd, each promise caused and judged.

``python -m tests.unit [--only start,hang] [--page docs/security.md]``, as root, about six minutes. Ends with 1 if a
promise is broken, with 2 where no container can be booted.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.unit import page
from tests.unit.container import Container, ContainerError
from tests.unit.parts import PARTS
from tests.unit.steps import BrokenError


def say(line: str) -> None:
    """Print it now."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Boot once, try everything in turn, print the table."""
    parser = argparse.ArgumentParser(prog="unit", description="The service unit under a real systemd.")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {', '.join(PARTS)}")
    parser.add_argument("--page", type=Path, help="put the table of a whole run between the marks of this page")
    args = parser.parse_args()
    wanted = args.only.split(",")
    if unknown := [p for p in wanted if p not in PARTS]:
        parser.error(f"no part {', '.join(unknown)}: choose of {', '.join(PARTS)}")
    n_broken, rows = 0, []
    try:
        with Container() as container:
            say(page.HEAD)
            for name in wanted:
                promise, prove = PARTS[name]
                began = time.monotonic()
                try:
                    seen = prove(container)
                except (BrokenError, ContainerError) as e:
                    n_broken += 1
                    seen = f"BROKEN: {e}"
                    sys.stderr.write(container.log()[-4000:] + "\n")
                seen = " ".join(seen.replace("|", "/").split())
                rows.append(f"| `{name}` | {promise} | {seen} | {time.monotonic() - began:.0f} |")
                say(rows[-1])
    except ContainerError as e:
        say(f"unit: not run: {e}")
        return 2
    last = f"unit: {len(wanted) - n_broken} of {len(wanted)} promises kept"
    if args.page is not None and len(wanted) == len(PARTS):
        page.write(args.page, rows, last)
    say(last)
    return 1 if n_broken else 0


if __name__ == "__main__":
    sys.exit(main())
