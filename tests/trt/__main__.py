"""``make check-tensorrt``: the proof without a card, one row per part, with figures; ends with 1 if a part is wrong.

``python -m tests.trt [--only a,b] [--bundle FOLDER] [--json FILE]``. Wheels go into ``build/tensorrt``.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from models.bundle import Bundle
from tests.trt.parts import PARTS
from tests.trt.rows import NOT_RUN, WRONG, Row
from tests.trt.wheels import MissingError

WIDTH = 118


def main() -> int:
    """Run the parts, print the table."""
    parser = argparse.ArgumentParser(prog="check-tensorrt", description="The TensorRT engine, proved without a card.")
    parser.add_argument("--only", default=",".join(PARTS), help=f"parts, of {', '.join(PARTS)}")
    parser.add_argument("--bundle", type=Path, default=Bundle.shipped(), help="the shipped one by default")
    parser.add_argument("--json", type=Path, help="write all figures there")
    args = parser.parse_args()
    wanted = args.only.split(",")
    if unknown := [p for p in wanted if p not in PARTS]:
        parser.error(f"no part {', '.join(unknown)}: choose of {', '.join(PARTS)}")
    bundle = Bundle.load(args.bundle)
    rows = []
    for part in wanted:
        what, prove = PARTS[part]
        row = Row(part, what)
        began = time.monotonic()
        try:
            prove(row, bundle)
        except MissingError as e:
            row.skip(str(e))
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as e:
            row.demand(ok=False, line=f"{e} {str(e.stderr or '').strip()[-300:]}")
        rows.append(row)
        _say(f"({part}) {what}: {row.state}, {time.monotonic() - began:.0f} s")
        for line in row.lines:
            _say(textwrap.fill(line, WIDTH, initial_indent="      ", subsequent_indent="        "))
    if args.json is not None:
        args.json.write_text(json.dumps([dataclasses.asdict(r) for r in rows], indent=1) + "\n")
    wrong, absent = ([r.part for r in rows if r.state == s] for s in (WRONG, NOT_RUN))
    _say(f"\n{len(rows) - len(wrong) - len(absent)} good, {len(wrong)} wrong{_listed(wrong)}, "
         f"{len(absent)} could not run here{_listed(absent)}")  # fmt: skip
    return 1 if wrong else 0


def _listed(parts: list[str]) -> str:
    return f" ({', '.join(parts)})" if parts else ""


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
