"""docs/faults.md: the page the command writes, and reads again when only some faults are caused."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.catalogue import PENDING, Fault

PAGE = Path(__file__).resolve().parents[2] / "docs" / "faults.md"
_ROW = re.compile(r"\| (\d+) \| .* \| (?P<observed>.*) \| (?P<verdict>kept|broken|not run) \|$")

HEAD = """# Faults: each caused on real parts, and what happened

`make faults` causes every fault below and writes this page: a real `tonald run` in a process of its own over ipc or
tcp, a real JACK server and PortAudio for the sound card, real signals, real file systems. A subscriber adds up every
sample (each slot of the grid is one record; windows and gaps make up all samples). `python -m tests.faults --only 3,7`
causes some, `--list` shows them. The command ends non-zero if a promise is broken. What cannot be caused on the machine
it ran on says `not run`, why, and what comes nearest; it is never counted as kept.

{summary}.

Machine: {n_cores} cores. The system clock is set, and runs off, by a wrapper around `clock_gettime` in the processes of
the daemon (`tests/faults/shim.c`), so that the machine's own clock is left alone.

| # | cause | expected | observed | verdict |
|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Outcome:
    """What came of one fault."""

    number: int
    verdict: str
    """kept, broken or not run."""
    observed: str
    took_s: float


def read_page() -> dict[int, Outcome]:
    """Outcomes of the last run, as the page has them."""
    if not PAGE.exists():
        return {}
    rows = (_ROW.match(line) for line in PAGE.read_text().splitlines())
    return {int(m[1]): Outcome(int(m[1]), m["verdict"], m["observed"], 0.0) for m in rows if m}


def write_page(faults: Sequence[Fault], outcomes: Mapping[int, Outcome]) -> None:
    """Write the table anew; a fault never caused is not run."""
    done = [_outcome(f.number, outcomes) for f in faults]
    rows = [
        f"| {f.number} | {_cell(f.cause)} | {_cell(f.expected)} | {_cell(o.observed)} | {o.verdict} |"
        for f, o in zip(faults, done, strict=True)
    ]
    head = HEAD.format(summary=summary(done)[0].upper() + summary(done)[1:], n_cores=os.cpu_count())
    PAGE.write_text(head + "\n".join(rows) + "\n")


def _outcome(number: int, outcomes: Mapping[int, Outcome]) -> Outcome:
    why = PENDING.get(number)
    idle = Outcome(number, "not run", why or "not caused yet", 0.0)
    return idle if why else outcomes.get(number, idle)


def summary(outcomes: Sequence[Outcome]) -> str:
    """The last line of the command."""
    kept = [o for o in outcomes if o.verdict == "kept"]
    idle = [o for o in outcomes if o.verdict == "not run"]
    why = "; ".join(f"{o.number} {o.observed.partition(':')[0].partition(';')[0]}" for o in idle)
    return f"faults: {len(kept)} of {len(outcomes) - len(idle)} promises kept, {len(idle)} not run" + (
        f": {why}" if why else ""
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
