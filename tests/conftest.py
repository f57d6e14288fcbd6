"""An interrupt reaches what tests start, also where the tests run in the background of a shell, which ignores it."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Children inherit an ignored signal, but not a handler."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
