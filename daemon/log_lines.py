"""How log lines are written: for journald with their priority, plain with the time, or one JSON object each."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Literal

__all__ = ["journal_listens", "priority_of", "start_logging"]


def start_logging(level: str, form: Literal["auto", "plain", "json"] = "auto") -> None:
    """Write log lines of at least ``level`` to standard error.

    Parameters
    ----------
    level : str
    form : str
        ``auto``: with the priority that journald reads, and without the time, if journald listens; else ``plain``.
    """
    handler = logging.StreamHandler(sys.stderr)
    formatter: logging.Formatter
    if form == "json":
        formatter = _JsonFormatter()
    elif form == "auto" and journal_listens():
        formatter = _JournalFormatter()
    else:
        formatter = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def journal_listens(fd: int = 2) -> bool:
    """Whether a file descriptor is journald's own stream: $JOURNAL_STREAM names its device and inode (sd-daemon(3)).

    The variable alone says nothing: children inherit it, their standard error may lead elsewhere.
    """
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    if not (device.isascii() and device.isdigit() and inode.isascii() and inode.isdigit()):
        return False
    try:
        s = os.fstat(fd)
    except OSError:  # closed
        return False
    return (s.st_dev, s.st_ino) == (int(device), int(inode))


def priority_of(levelno: int) -> int:
    """Syslog priority: 2 critical, 3 error, 4 warning, 6 info, 7 debug."""
    for least, priority in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if levelno >= least:
            return priority
    return 7


class _JournalFormatter(logging.Formatter):
    """``<3>text``: the priority in front of each line, as journald makes an entry of each."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{priority_of(record.levelno)}>"
        return "\n".join(prefix + line for line in super().format(record).split("\n"))


class _JsonFormatter(logging.Formatter):
    """One object per line, whatever the text holds."""

    def format(self, record: logging.LogRecord) -> str:
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        told = {
            "t": f"{when}.{int(record.msecs):03d}Z", "level": record.levelname.lower(),
            "priority": priority_of(record.levelno), "logger": record.name, "thread": record.threadName,
            "text": record.getMessage(),
        }  # fmt: skip
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told, ensure_ascii=False)
