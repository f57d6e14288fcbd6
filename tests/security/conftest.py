"""Keys in files, and a publisher that asks for them on a real port of all interfaces."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.curve import CurveServer
from daemon.publisher import Publisher
from daemon.wire import Identity, Message, common
from tests.keyed_vessel import Vessel


@pytest.fixture(autouse=True)
def _careful_umask() -> Iterator[None]:
    """As a service manager sets it; a test machine's own may be open to the group."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def vessel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Vessel:
    return Vessel(tmp_path / "keys")


@pytest.fixture
def publish(tmp_path: Path) -> Iterator[Callable[..., Publisher]]:
    """Start publishers that put a record every few milliseconds until the test ends."""
    stop, threads, publishers = threading.Event(), [], []

    def start(curve: CurveServer, *endpoints: str) -> Publisher:
        identity = Identity.new("vessel", None)
        publisher = Publisher(identity, endpoints or ("tcp://*:*",), heartbeat_s=0.1, curve=curve)
        publisher.start()
        publishers.append(publisher)

        def put() -> None:
            n = 0
            while not stop.wait(0.005) and publisher.failed is None:
                publisher.put(gap(identity, n), wait=False)
                n += 1

        threads.append(threading.Thread(target=put))
        threads[-1].start()
        return publisher

    yield start
    stop.set()
    for thread in threads:
        thread.join()
    for publisher in publishers:
        publisher.close(0.0)


def gap(identity: Identity, n: int) -> Message:
    body = {
        **common(identity, "gap", first_sample=n), "source": "s", "channel": "ch0", "fs": 2000, "reason": "x",
        "duration_ns": 1, "err_ns": 0, "journal_seq": None,
    }  # fmt: skip
    return Message("gap/ch0/", body)
