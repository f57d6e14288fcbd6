"""Our own modules in a fresh interpreter, isolated: no working directory and no PYTHONPATH can put others first."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["command"]

_CODE = "import sys; sys.path.insert(0, {root!r}); from {module} import main; sys.exit(main(sys.argv[1:]))"


def command(module: str, *words: str, options: tuple[str, ...] = ()) -> list[str]:
    """Words that call ``main(words)`` of ``module`` in a new process; ``options`` go to the interpreter."""
    root = str(Path(__file__).resolve().parents[2])
    return [sys.executable, "-I", *options, "-c", _CODE.format(root=root, module=module), *words]
