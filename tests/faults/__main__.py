"""``python -m tests.faults``: cause every fault of the catalogue and write what happened to docs/faults.md."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

from tests.faults.catalogue import PENDING, Broken, Fault, NotRun, catalogue
from tests.faults.table import Outcome, read_page, summary, write_page


def main() -> int:
    """Run what was asked for; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--only", metavar="N[,N...]", help="these numbers or areas; the page keeps the other rows")
    parser.add_argument("--list", action="store_true", help="show the catalogue and cause nothing")
    parser.add_argument("--keep", action="store_true", help="keep folders and logs")
    args = parser.parse_args()
    faults = catalogue()
    if args.list:
        for f in faults:
            note = f"  [not run: {PENDING[f.number]}]" if f.number in PENDING else ""
            sys.stdout.write(f"{f.number:3d}  {f.area:9s} {f.cause}{note}\n")
        return 0
    words = args.only.split(",") if args.only else None
    chosen = [f for f in faults if words is None or str(f.number) in words or f.area in words]
    if words and (unknown := set(words) - {str(f.number) for f in chosen} - {f.area for f in chosen}):
        parser.error(f"no such fault or area: {', '.join(sorted(unknown))}; --list shows them")
    outcomes = read_page()
    ran = []
    for f in chosen:
        outcome = cause(f, args.keep)
        outcomes[f.number] = outcome
        ran.append(outcome)
        sys.stdout.write(
            f"{f.number:3d}  {outcome.verdict:8s} {outcome.took_s:6.1f} s  {f.cause}: {outcome.observed}\n"
        )
        sys.stdout.flush()
    write_page(faults, outcomes)
    sys.stdout.write(summary(ran) + "\n")
    return int(any(o.verdict == "broken" for o in ran))


def cause(f: Fault, keep: bool) -> Outcome:
    """Cause one fault in a folder of its own."""
    began = time.monotonic()
    if f.number in PENDING:
        return Outcome(f.number, "not run", PENDING[f.number], 0.0)
    folder = Path(tempfile.mkdtemp(prefix=f"fault{f.number}-"))  # short: names of sockets may have 107 bytes
    umask = os.umask(0o022)
    try:
        verdict, observed = "kept", f.run(folder)
    except NotRun as e:
        verdict, observed = "not run", str(e)
    except Broken as e:
        verdict, observed = "broken", str(e)
    except Exception as e:  # noqa: BLE001  (a measurement that fails proves nothing: it is counted as broken)
        traceback.print_exc()
        verdict, observed = "broken", f"the measurement failed: {type(e).__name__}: {e}"
    finally:
        os.umask(umask)
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return Outcome(f.number, verdict, " ".join(observed.split()), time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main())
