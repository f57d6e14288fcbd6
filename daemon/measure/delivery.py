"""What keeping records costs, and how fast they come back: the journal beside SQLite, a replay of all that was missed.

Records have the size of signatures with their masks. SQLite has its write-ahead log and syncs each group, as the
journal does; both write to the same folder, in turns.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import numpy as np

from daemon.journal.journal import Budget, Journal
from daemon.journal.open import beside
from daemon.journal.repair import Repaired
from daemon.publisher import Publisher
from daemon.wire import Identity, Message, common, topic_of
from models.errors import PublishError

__all__ = ["measure_append", "measure_replay"]

MASK = (256, 64)
BUDGET = Budget(max_bytes=4 << 30, reserve_bytes=0)
PATIENCE_S = 300.0


def measure_append(folder: Path, n: int, group: int) -> dict[str, Any]:
    """Milliseconds to have ``group`` records on disk, journal and SQLite in turns, ``n`` groups each."""
    payload = os.urandom(MASK[0] * MASK[1] + 2000)
    journal = Journal(folder / "journal", BUDGET)
    base = sqlite3.connect(folder / "peer.sqlite", isolation_level=None)
    base.execute("pragma journal_mode=wal")
    base.execute("pragma synchronous=full")
    base.execute("create table record(seq integer primary key, t_ns integer, frames blob)")

    def into_journal() -> None:
        if None in journal.append([[b"signature/ch0/vessel_0/", payload]] * group, lambda frames, _: frames):
            raise PublishError(f"bench delivery: the journal does not work in {folder}: {journal.problem}")

    def into_sqlite() -> None:
        base.execute("begin immediate")
        base.executemany("insert into record(t_ns, frames) values(?, ?)", [(time.time_ns(), payload)] * group)
        base.execute("commit")

    times: dict[str, list[float]] = {"journal": [], "SQLite": []}
    for _ in range(n):
        for name, write in (("journal", into_journal), ("SQLite", into_sqlite)):
            begin = time.perf_counter()
            write()
            times[name].append(time.perf_counter() - begin)
    journal.close()
    base.close()
    return {
        "n_groups": n, "group": group, "record_bytes": len(payload),
        **{
            name: {f"p{q}_ms": 1e3 * float(np.quantile(found, q / 100)) for q in (50, 99, 100)}
            for name, found in times.items()
        },
    }  # fmt: skip


def measure_replay(folder: Path, n: int, endpoint: str) -> dict[str, Any]:
    """A subscriber that missed ``n`` signatures gets them: seconds, and whether each came once, in order.

    Raises
    ------
    PublishError
        If they do not come.
    """
    identity = Identity.new("bench", "0123456789abcdef")
    mask = (np.arange(MASK[0] * MASK[1]) % 97 == 0).reshape(MASK)
    publisher = Publisher(
        identity, [endpoint], journal=Journal(folder / "replayed", BUDGET), replay_endpoints=[beside(endpoint)]
    )
    with publisher:
        begin = time.perf_counter()
        for k in range(n):
            publisher.put(_signature(identity, k, mask), wait=True)
        if not publisher.flush(PATIENCE_S):
            raise PublishError("bench delivery: publishing did not end")
        published_s = time.perf_counter() - begin
        got: list[int] = []
        with Repaired(publisher.endpoints[0], ("signature/",), since=0) as listener:
            begin = time.perf_counter()
            while len(got) < n and time.perf_counter() < begin + PATIENCE_S:
                if (message := listener.receive(1.0)) is not None:
                    got.append(message.body["first_sample"])
            replayed_s = time.perf_counter() - begin
            n_bytes = sum(map(len, listener.frames))
    if got != list(range(n)):
        raise PublishError(f"bench delivery: of {n} signatures missed {len(got)} came, or not in order, or twice")
    return {
        "n": n, "message_bytes": n_bytes, "published_per_s": n / published_s, "replayed_s": replayed_s,
        "replayed_per_s": n / replayed_s, "replayed_mb_per_s": 1e-6 * n * n_bytes / replayed_s,
    }  # fmt: skip


def _signature(identity: Identity, k: int, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> Message:
    body = {
        **common(identity, "signature", epoch=0, first_sample=k, n_samples=16750, lost_samples=0),
        "source": "bench", "channel": "ch0", "fs": 2000, "grid_index": k, "overload_step": 0, "label": "vessel_0",
        "mode": "signature", "probability": 0.9, "evidence_nats": 20.0, "is_ambient": False, "unknown": False,
        "nearest": "vessel_0/1", "distance": 1.0, "level_db_re_fs": -40.0, "n_lines": 0, "lines": [],
        "mask_cells": int(mask.sum()), "bin_hz": 2.0, "column_s": 0.125, "t_column_0_s": 0.25,
        "journal_seq": None,
    }  # fmt: skip
    return Message(topic_of("signature", "ch0", "vessel_0"), body, (("mask", mask),))
