"""``python -m tests.faults.sabotage WHAT FILE run …``: a daemon with one part that fails once FILE exists.

The daemon is the real one; the part named is replaced in its process before it starts:

===============  ======================================================================================
engine-hang      the engine's call never returns
engine-throw     the engine's runtime raises
engine-nan       the engine answers NaN
engine-wrong     the engine answers the numbers of another window
engine-slow      each call of the engine takes so many seconds longer as FILE says
engine-false     the engine is wrong from the start (FILE is not looked at)
gil              a native call holds the interpreter for so many seconds as FILE says
callback         the callback of the sound card raises, in the capture process
publisher        the publisher's thread dies
gatekeeper       the thread that asks for keys dies
===============  ======================================================================================
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np


def main(what: str, file: Path, words: list[str]) -> int:
    """Break the part, then run the program."""
    kind, _, how = what.partition("-")
    if kind == "engine":
        _break_engine(how, file)
    elif kind == "gil":
        threading.Thread(target=_hold_interpreter, args=(file,), daemon=True).start()
    elif kind == "callback":
        from daemon.sources.portaudio import PortAudioSource

        child = (sys.executable, "-m", "tests.faults.bad_child", str(file))
        PortAudioSource.__init__.__kwdefaults__["child"] = child
    elif kind == "publisher":
        from daemon.outlet import Outlet

        _raise_in(Outlet, "send", file)
        _raise_in(Outlet, "offer", file)
    elif kind == "gatekeeper":
        from daemon.gatekeeper import Gatekeeper

        _raise_in(Gatekeeper, "_answer", file)
    else:
        raise SystemExit(f"unknown sabotage {what}")
    from daemon.cli import main as tonald

    return tonald(words)


class _Lost:
    """A session whose runtime fails."""

    def run(self, *_words: Any) -> Any:
        raise RuntimeError("the runtime lost its device")


def _break_engine(how: str, file: Path) -> None:
    from models.engines.onnxruntime import OnnxRuntimeEngine

    run = OnnxRuntimeEngine.run

    def bad(self: OnnxRuntimeEngine, graph: str, tensors: Any) -> dict[str, Any]:
        if how == "throw" and file.exists():
            self._sessions = dict.fromkeys(self._sessions, _Lost())
        good = run(self, graph, tensors)
        if how == "false":
            return {k: v + np.float32(0.3) if v.dtype == np.float32 else v for k, v in good.items()}
        if not file.exists():
            return good
        if how == "hang":
            threading.Event().wait()
        if how == "slow":
            time.sleep(float(file.read_text()))
        if how == "nan":
            return {k: np.full_like(v, np.nan) if v.dtype == np.float32 else v for k, v in good.items()}
        if how == "wrong":
            return {k: np.roll(v, 1, axis=-1) for k, v in good.items()}
        return good

    OnnxRuntimeEngine.run = bad  # type: ignore[method-assign]


def _hold_interpreter(file: Path) -> None:
    libc = ctypes.PyDLL(None)  # PyDLL keeps the interpreter locked while it calls
    while True:
        time.sleep(0.05)
        if file.exists():
            seconds = float(file.read_text())
            file.unlink()
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                libc.usleep(int(1e6 * min(left, 0.9)))
                if left > 10:  # for ever: not one moment in between
                    libc.sleep(int(left))


def _raise_in(cls: type, name: str, file: Path) -> None:
    good = getattr(cls, name)

    def bad(self: Any, *words: Any, **more: Any) -> Any:
        if file.exists():
            raise RuntimeError(f"{cls.__name__}.{name} was broken on purpose")
        return good(self, *words, **more)

    setattr(cls, name, bad)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
