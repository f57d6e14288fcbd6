"""Known records and a publisher on real sockets."""

import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from daemon.publisher import Publisher
from daemon.wire import Identity

WIRE = Path(__file__).parents[2] / "docs" / "wire"


@pytest.fixture(scope="session")
def contract() -> SimpleNamespace:
    """What docs/wire/generate.py defines: known_messages, golden, schemas, readme, frames_of, …."""
    return SimpleNamespace(**runpy.run_path(str(WIRE / "generate.py")), folder=WIRE)


@pytest.fixture
def identity() -> Identity:
    return Identity.new("vessel", "0123456789abcdef")


@pytest.fixture
def publisher(identity: Identity, tmp_path: Path) -> Iterator[Publisher]:
    """Bound to a free tcp port and an ipc socket; beats ten times a second."""
    endpoints = ["tcp://127.0.0.1:*", f"ipc://{tmp_path}/out"]
    with Publisher(identity, endpoints, heartbeat_s=0.1) as publisher:
        yield publisher
