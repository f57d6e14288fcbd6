"""``tonald run`` with a clock at its joints: which part of the start takes how long.

Words: ``FILE STARTED_NS`` and then those of ``tonald run``. ``STARTED_NS`` is CLOCK_MONOTONIC when the process was
asked for. At the first window the parts are written to ``FILE``, as JSON, in seconds. Functions are wrapped where the
daemon looks them up; nothing else differs from ``tonald run``. The first stamp is taken before anything of ours is
imported.
"""

import time

BEGUN_NS = time.monotonic_ns()

import importlib  # noqa: E402
import json  # noqa: E402
from collections.abc import Callable  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

__all__ = ["main"]

#: Part of the start, and the function it is: module and name, as the daemon calls it.
JOINTS = {
    "source opened": ("daemon.service", "open_source"),
    "bundle loaded and hashed": ("models.bundle", "Bundle.load"),
    "engine, in all": ("daemon.in_force", "open_engine"),
    "golden outputs": ("models.engines.golden", "check"),
    "start, in all": ("daemon.service", "Service.start"),
}


def main(argv: list[str]) -> int:
    """Run; ends as ``tonald run`` does."""
    path, started_ns, words = Path(argv[0]), int(argv[1]), argv[2:]
    begun = time.monotonic()
    cli = importlib.import_module("daemon.cli")
    importlib.import_module("daemon.commands.run")
    parts: dict[str, float] = {
        "interpreter": 1e-9 * (BEGUN_NS - started_ns),
        "imports": time.monotonic() - begun,
    }
    for part, (module, name) in JOINTS.items():
        _clock(parts, part, importlib.import_module(module), name)
    _tell_first_window(parts, path, started_ns)
    code: int = cli.main(["run", *words])
    return code


def _clock(parts: dict[str, float], part: str, owner: Any, name: str) -> None:  # noqa: ANN401  (module or class)
    *outer, name = name.split(".")
    for o in outer:
        owner = getattr(owner, o)
    inner = getattr(owner, name)
    parts[part] = 0.0

    def clocked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        begun = time.monotonic()
        try:
            return inner(*args, **kwargs)
        finally:
            parts[part] += time.monotonic() - begun
            parts[f"{part}, at"] = time.monotonic()

    setattr(owner, name, clocked)


def _tell_first_window(parts: dict[str, float], path: Path, started_ns: int) -> None:
    from daemon.frames import Analysed
    from daemon.records import Recorder

    inner: Callable[..., Any] = Recorder.process
    told = False

    def process(self: Recorder, record: Any) -> Any:  # noqa: ANN401
        nonlocal told
        if not told and isinstance(record, Analysed):
            told = True
            now = time.monotonic()
            out = {k: v for k, v in parts.items() if not k.endswith(", at")}
            out["first window"] = now - parts["start, in all, at"]
            out["total"] = now - 1e-9 * started_ns
            scratch = path.with_suffix(".part")
            scratch.write_text(json.dumps(out), encoding="utf-8")
            scratch.replace(path)
        return inner(self, record)

    Recorder.process = process  # type: ignore[method-assign]
