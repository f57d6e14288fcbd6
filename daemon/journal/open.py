"""The journal that the settings ask for."""

from __future__ import annotations

import re
from pathlib import Path

from daemon.config import Config
from daemon.journal.journal import Budget, Journal

__all__ = ["FOLDER", "beside", "open_journal", "replay_endpoints"]

FOLDER = "journal"
"""Within state_dir."""


def open_journal(config: Config) -> Journal | None:
    """Open it; None where the settings want none, or give it no place.

    Raises
    ------
    ConfigError
        If another daemon writes there.
    """
    wanted = config.journal
    if not (wanted.enabled and config.state_dir):
        return None
    mb = 1_000_000
    most = int(wanted.max_mb * mb)
    budget = Budget(most, wanted.max_days * 86400.0, int(wanted.reserve_mb * mb), min(8 * mb, most // 8))
    return Journal(Path(config.state_dir) / FOLDER, budget)


def replay_endpoints(config: Config) -> tuple[str, ...]:
    """Where it is replayed: as the settings say, or beside each endpoint of the publisher."""
    return config.journal.endpoints or tuple(beside(e) for e in config.publish.endpoints)


def beside(endpoint: str) -> str:
    """``tcp`` a port further, ``ipc`` the same name with ``.replay``; any free port stays that."""
    if match := re.fullmatch(r"(tcp://.*:)(\d+)", endpoint):
        return f"{match[1]}{int(match[2]) + 1}"
    return endpoint if endpoint.startswith("tcp://") else f"{endpoint}.replay"
