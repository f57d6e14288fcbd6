"""The capture process with a callback that raises once a file exists, and once only."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from daemon.capture import child


def main(file: Path, words: list[str]) -> int:
    """Serve as the real one does."""
    make = child._callback

    def bad(*words: Any) -> Any:
        good = make(*words)

        def on_block(*block: Any) -> None:
            if file.exists():
                file.unlink()
                raise RuntimeError("the callback was broken on purpose")
            good(*block)

        return on_block

    child._callback = bad
    return child.main(words)


if __name__ == "__main__":
    code = 70
    try:
        code = main(Path(sys.argv[1]), sys.argv[2:])
    finally:
        sys.stderr.flush()
        os._exit(code)
