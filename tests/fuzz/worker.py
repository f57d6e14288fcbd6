"""One process that runs cases: ``python -m tests.fuzz.worker TARGET SEED FIRST LAST PROGRESS_FILE``.

Before each case its number goes into the progress file, so whoever watches knows which case hangs or kills us. What
breaks a promise is printed as one line of JSON.
"""

from __future__ import annotations

import json
import logging
import mmap
import resource
import struct
import sys
import traceback
import warnings
from pathlib import Path

from tests.fuzz.targets import BY_NAME, Target

MOST_MEMORY = 6 << 30


def try_case(target: Target, data: bytes) -> str:
    """How the case ended: ``read``, ``refused``, or what went wrong."""
    try:
        target.run(data)
    except target.allowed as e:
        text = str(e)
        return "refused" if text and len(text) < 20_000 else f"an error without a usable message: {text[:80]!r}"
    except Exception as e:  # noqa: BLE001  (that is what we look for)
        last = traceback.extract_tb(e.__traceback__)[-1]
        return f"{type(e).__name__}: {str(e)[:120]} ({Path(last.filename).name}:{last.lineno})"
    return "read"


def main(name: str, seed: int, first: int, last: int, progress: Path) -> None:
    """Run cases ``first`` to ``last - 1``."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    target = BY_NAME[name]
    with progress.open("r+b") as f:
        shared = mmap.mmap(f.fileno(), 24)
    n_read = 0
    target.case(seed, first)  # seeds are made before anybody counts
    for i in range(first, last):
        struct.pack_into("<qqq", shared, 0, i, i - first, n_read)
        how = try_case(target, target.case(seed, i))
        n_read += how == "read"
        if how not in ("read", "refused"):
            sys.stdout.write(json.dumps({"case": i, "how": how}) + "\n")
            sys.stdout.flush()
    struct.pack_into("<qqq", shared, 0, last, last - first, n_read)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]), Path(sys.argv[5]))
