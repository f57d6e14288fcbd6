"""Replay over real sockets: what was missed comes in order, once, also after restarts; nobody else pays for it."""

import json
import os
import random
import socket as sockets
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgpack
import pytest
import zmq

from daemon.commands.listen import _summary
from daemon.journal.bookmark import Bookmark
from daemon.journal.client import ReplayClient, reachable
from daemon.journal.journal import Budget, Journal
from daemon.journal.open import beside
from daemon.journal.repair import Repaired
from daemon.journal.replay import MAX_REQUEST, PROTOCOL
from daemon.publisher import Publisher
from daemon.wire import Identity, Message, common
from models.errors import InputError, PublishError
from tests.keyed_vessel import Vessel

PATIENCE_S = 30.0
ROOT = Path(__file__).resolve().parents[2]
BUDGET = Budget(max_bytes=1 << 30, reserve_bytes=0, segment_bytes=200_000)
Publish = Callable[..., "Publisher"]


def message(identity: Identity, n: int, topic: str = "gap/ch0/") -> Message:
    body = {
        **common(identity, topic.partition("/")[0], first_sample=n), "source": "s", "channel": "ch0", "fs": 2000,
        "reason": "x" * (n % 300), "duration_ns": 1, "err_ns": 0, "journal_seq": None,
    }  # fmt: skip
    return Message(topic, body)


@contextmanager
def daemon(folder: Path, name: str = "out", **words: object) -> Iterator[Publisher]:
    """A publisher with its journal, as a daemon opens it; the same places each time."""
    endpoint = f"ipc://{folder}/{name}"
    publisher = Publisher(
        Identity.new("vessel", None), [endpoint], heartbeat_s=0.05, journal=Journal(folder / "journal", BUDGET),
        replay_endpoints=[beside(endpoint)], **words,
    )  # fmt: skip
    with publisher:
        yield publisher


def take(repaired: Repaired, n: int) -> list[int]:
    """``first_sample`` of the next n messages."""
    got: list[int] = []
    end = time.monotonic() + PATIENCE_S
    while len(got) < n and time.monotonic() < end:
        if (m := repaired.receive(0.5)) is not None and m.family == "gap":
            got.append(m.body["first_sample"])
    assert len(got) == n
    return got


def silent(repaired: Repaired) -> bool:
    """Nothing more comes, over many heartbeats."""
    return repaired.receive(0.4) is None


def put(publisher: Publisher, first: int, n: int, topic: str = "gap/ch0/") -> None:
    for k in range(first, first + n):
        publisher.put(message(publisher.identity, k, topic), wait=True)
    assert publisher.flush(PATIENCE_S)


def test_records_carry_their_number(tmp_path: Path) -> None:
    with daemon(tmp_path) as publisher, Repaired(publisher.endpoints[0], ("gap/",)) as listener:
        assert publisher.wait_for_subscriber(PATIENCE_S)
        put(publisher, 0, 20)
        assert take(listener, 20) == list(range(20))
        assert listener.seq == 20
        assert listener.n_replayed == 0


def test_all_that_was_before_comes_first_then_what_is_now(tmp_path: Path) -> None:
    with daemon(tmp_path) as publisher:
        put(publisher, 0, 1200)
        with Repaired(publisher.endpoints[0], ("gap/",), since=0) as listener:
            assert publisher.wait_for_subscriber(PATIENCE_S)
            threading.Thread(target=put, args=(publisher, 1200, 300)).start()
            assert take(listener, 1500) == list(range(1500))
            assert silent(listener)
            assert listener.n_replayed >= 1200
            assert listener.subscriber.losses.n_lost == 0


def test_restarts_lose_nothing_and_give_nothing_twice(tmp_path: Path) -> None:
    with daemon(tmp_path) as publisher:
        listener = Repaired(publisher.endpoints[0], ("gap/",))
        assert publisher.wait_for_subscriber(PATIENCE_S)
        put(publisher, 0, 10)
        got = take(listener, 10)
    with daemon(tmp_path) as publisher:
        put(publisher, 10, 500)  # most before the subscriber is back
        got += take(listener, 500)
        put(publisher, 510, 10)
        got += take(listener, 10)
        assert silent(listener)
        listener.close()
    assert got == list(range(520))


def test_a_reader_that_was_away_goes_on_where_it_stopped(tmp_path: Path) -> None:
    mark = Bookmark(tmp_path / "mark")
    got: list[int] = []
    with daemon(tmp_path) as publisher:
        n = 0
        for _ in range(3):
            with Repaired(publisher.endpoints[0], ("gap/",), since=mark.seq, journal=mark.journal) as listener:
                got += take(listener, n - len(got))
                assert publisher.wait_for_subscriber(PATIENCE_S)
                put(publisher, n, 40)
                got += take(listener, 40)
                mark.write(listener.journal, listener.seq)
            mark = Bookmark(tmp_path / "mark")
            put(publisher, n + 40, 40)  # nobody listens
            n += 80
    assert got == list(range(200))  # the last forty were for nobody


def test_a_slow_reader_loses_messages_and_gets_them_back(tmp_path: Path) -> None:
    with daemon(tmp_path, hwm=5) as publisher, Repaired(publisher.endpoints[0], ("gap/",), hwm=5) as listener:
        assert publisher.wait_for_subscriber(PATIENCE_S)
        for k in range(3000):
            publisher.put(message(publisher.identity, k), wait=False)
        assert publisher.flush(PATIENCE_S)
        dropped = set(range(3000)) - set(take(listener, 1))
        assert dropped
        rest = []
        while (m := listener.receive(1.0)) is not None:
            rest.append(m.body["first_sample"])
        assert listener.n_replayed > 0
        assert rest == sorted(set(rest))
        # the publisher's own queue drops what cannot wait: that was never numbered, and is counted
        assert len(rest) + 1 >= listener.seq - 1 if listener.seq else False


def test_only_what_was_asked_for_is_replayed(tmp_path: Path) -> None:
    with daemon(tmp_path) as publisher:
        for n in range(100):
            publisher.put(message(publisher.identity, n, f"gap/ch{n % 4}/"), wait=True)
        with Repaired(publisher.endpoints[0], ("gap/ch1/",), since=0) as listener:
            assert take(listener, 25) == list(range(1, 100, 4))
            assert silent(listener)
            assert listener.seq == 100


def test_what_has_expired_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    small = Budget(max_bytes=60_000, reserve_bytes=0, segment_bytes=10_000)
    endpoint = f"ipc://{tmp_path}/out"
    journal = Journal(tmp_path / "journal", small)
    words = {"heartbeat_s": 0.05, "journal": journal, "replay_endpoints": [beside(endpoint)]}
    with Publisher(Identity.new("vessel", None), [endpoint], **words) as publisher:
        put(publisher, 0, 500)
        first = journal.snapshot().first_seq
        assert first > 1
        with Repaired(endpoint, ("gap/",), since=0) as listener:
            assert take(listener, 501 - first) == list(range(first - 1, 500))
            assert listener.n_expired == first - 1
            assert "no longer in the journal" in _summary(listener)
    assert "have expired" in caplog.text


def test_another_journal_is_all_new(tmp_path: Path) -> None:
    with daemon(tmp_path) as publisher:
        put(publisher, 0, 5)
    with daemon(tmp_path) as publisher, Repaired(publisher.endpoints[0], (), since=400, journal="0" * 32) as listener:
        assert take(listener, 5) == [0, 1, 2, 3, 4]


def test_without_a_journal_it_is_a_plain_subscriber(tmp_path: Path) -> None:
    with (
        Publisher(Identity.new("vessel", None), [f"ipc://{tmp_path}/out"], heartbeat_s=0.05) as publisher,
        Repaired(publisher.endpoints[0], (), since=3) as listener,
    ):
        assert publisher.wait_for_subscriber(PATIENCE_S)
        put(publisher, 0, 10)
        assert take(listener, 10) == list(range(10))
        assert listener.seq in {None, 3}


def test_nobody_replays_is_told_and_live_goes_on(tmp_path: Path) -> None:
    with daemon(tmp_path) as publisher:
        put(publisher, 0, 5)
        nowhere = f"ipc://{tmp_path}/nowhere"
        with Repaired(publisher.endpoints[0], ("gap/",), since=0, replay=nowhere) as listener:
            end = time.monotonic() + PATIENCE_S
            while not listener.n_given_up and time.monotonic() < end:
                assert listener.receive(0.2) is None
            put(publisher, 5, 5)
            assert take(listener, 5) == [5, 6, 7, 8, 9]
            assert "nobody replayed" in _summary(listener)


@pytest.mark.slow
def test_ten_thousand_missed_come_in_order_once(tmp_path: Path) -> None:
    with daemon(tmp_path) as publisher:
        put(publisher, 0, 10_000)
        with Repaired(publisher.endpoints[0], ("gap/",), since=0) as listener:
            assert take(listener, 10_000) == list(range(10_000))


def test_many_ask_at_once_and_one_never_reads(tmp_path: Path) -> None:
    with daemon(tmp_path) as publisher:
        put(publisher, 0, 400)
        context = zmq.Context()
        stuck = context.socket(zmq.DEALER)
        stuck.setsockopt(zmq.RCVHWM, 1)
        stuck.connect(publisher.replay_endpoints[0])
        stuck.send_multipart([PROTOCOL, msgpack.packb({"first": 0, "n": 500})])
        clients = [ReplayClient(publisher.replay_endpoints[0]) for _ in range(40)]
        try:
            for client in clients:
                answer = client.page(1, 400, PATIENCE_S)
                assert [seq for seq, _ in answer.records] == list(range(1, 401))
                assert (answer.next_seq, answer.end_seq, answer.missing) == (401, 401, ())
        finally:
            for client in clients:
                client.close()
            context.destroy(linger=0)


@pytest.mark.parametrize(
    "request_frames",
    [
        [], [b""], [PROTOCOL], [PROTOCOL, b"\xc1"], [PROTOCOL, msgpack.packb([1])], [PROTOCOL, msgpack.packb({"n": 1})],
        [PROTOCOL, msgpack.packb({"first": -1, "n": 1})], [PROTOCOL, msgpack.packb({"first": 1, "n": 0})],
        [PROTOCOL, msgpack.packb({"first": True, "n": 5})], [b"other/1", msgpack.packb({"first": 1})],
        [PROTOCOL, msgpack.packb({"first": 1}), b"more"], [PROTOCOL, b"\x81" * 200],
    ],
)  # fmt: skip
def test_what_is_no_question_is_answered_so(tmp_path: Path, request_frames: list[bytes]) -> None:
    with daemon(tmp_path) as publisher:
        context = zmq.Context()
        dealer = context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.RCVTIMEO, round(1000 * PATIENCE_S))
        dealer.connect(publisher.replay_endpoints[0])
        dealer.send_multipart(request_frames or [b""])
        kind, why = dealer.recv_multipart()
        assert kind == b"error"
        assert msgpack.unpackb(why)["message"]
        context.destroy(linger=0)
        with ReplayClient(publisher.replay_endpoints[0]) as client:
            assert client.page(0).end_seq == 1


def test_garbage_on_the_socket_harms_nobody(tmp_path: Path) -> None:
    rng = random.Random(0)
    journal = Journal(tmp_path / "journal", BUDGET)
    words = {"heartbeat_s": 0.05, "journal": journal, "replay_endpoints": ["tcp://127.0.0.1:*"]}
    with Publisher(Identity.new("vessel", None), [f"ipc://{tmp_path}/out"], **words) as publisher:
        put(publisher, 0, 10)
        port = int(publisher.replay_endpoints[0].rpartition(":")[2])
        greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48)
        for n in range(300):
            with sockets.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as raw:
                raw.sendall((greeting if n % 2 else b"") + rng.randbytes(rng.randrange(200)))
        with sockets.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as raw:
            raw.sendall(greeting + b"\x02" + (1 << 30).to_bytes(8, "big") + bytes(1000))  # a gigabyte announced
        with ReplayClient(publisher.replay_endpoints[0]) as client:
            assert len(client.page(0, 500, PATIENCE_S).records) == 10
        assert publisher.failed is None


def test_a_long_question_is_not_read(tmp_path: Path) -> None:
    with daemon(tmp_path) as publisher:
        context = zmq.Context()
        dealer = context.socket(zmq.DEALER)
        dealer.connect(publisher.replay_endpoints[0])
        dealer.send_multipart([PROTOCOL, bytes(MAX_REQUEST + 1)])
        assert not dealer.poll(300)
        context.destroy(linger=0)
        with ReplayClient(publisher.replay_endpoints[0]) as client:
            assert client.page(0).end_seq == 1


def test_replay_asks_for_keys_as_the_publisher_does(tmp_path: Path) -> None:
    vessel = Vessel(tmp_path / "vessel")
    good, stranger = vessel.client("bridge"), vessel.client("stranger", allowed=False)
    words = {"heartbeat_s": 0.05, "journal": Journal(tmp_path / "journal", BUDGET), "curve": vessel.curve()}
    anywhere = "tcp://0.0.0.0:*"
    with Publisher(Identity.new("vessel", None), [anywhere], replay_endpoints=[anywhere], **words) as publisher:
        put(publisher, 0, 10)
        listen = publisher.endpoints[0].replace("0.0.0.0", "127.0.0.1")
        ask = publisher.replay_endpoints[0].replace("0.0.0.0", "127.0.0.1")
        with Repaired(listen, ("gap/",), keys=good, since=0) as listener:
            assert take(listener, 10) == list(range(10))
        for wrong in (stranger, None):
            with ReplayClient(ask, wrong) as client, pytest.raises(PublishError, match="no answer"):
                client.page(0, 10, 0.7)


@pytest.mark.parametrize(
    ("ours", "offered", "expected"),
    [
        ("tcp://127.0.0.1:5565", ["tcp://127.0.0.1:5566"], "tcp://127.0.0.1:5566"),
        ("tcp://localhost:5565", ["tcp://127.0.0.1:5566"], "tcp://localhost:5566"),
        ("tcp://vessel.example:5565", ["tcp://0.0.0.0:5566"], "tcp://vessel.example:5566"),
        ("tcp://10.0.0.7:5565", ["tcp://127.0.0.1:1", "tcp://10.0.0.7:5566"], "tcp://10.0.0.7:5566"),
        ("tcp://10.0.0.7:5565", ["tcp://127.0.0.1:1", "ipc:///run/x"], None),
        ("ipc:///run/a/out", ["tcp://127.0.0.1:1", "ipc:///run/a/out.replay"], "ipc:///run/a/out.replay"),
        ("ipc:///run/a/out", [], None),
    ],
)
def test_replay_is_found_beside_the_endpoint(ours: str, offered: list[str], expected: str | None) -> None:
    assert reachable(ours, offered) == expected


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", '{"journal": 1, "journal_seq": 2}', '{"journal": "a", "journal_seq": -1}']
)
def test_a_file_that_is_no_bookmark_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mark"
    path.write_text(text)
    with pytest.raises(InputError, match="no bookmark"):
        Bookmark(path)


def test_listen_goes_on_over_its_own_restart(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    command = [sys.executable, "-m", "daemon", "listen", f"ipc://{tmp_path}/out", "--topics", "gap/", "--json"]
    got: list[int] = []

    def listen(*words: str) -> None:
        done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=120, check=False, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert "by replay" in done.stderr
        got.extend(json.loads(line)["first_sample"] for line in done.stdout.splitlines())

    journal = Journal(tmp_path / "journal", BUDGET)
    name = journal.id
    journal.close()
    with daemon(tmp_path) as publisher:
        put(publisher, 0, 30)
        listen("--since", "0", "--once", "20")
        mark.write_text(json.dumps({"journal": name, "journal_seq": 20}))
        listen("--resume", str(mark), "--once", "5")
        put(publisher, 30, 12)
        listen("--resume", str(mark), "--once", "17")
    assert got == list(range(42))
    assert json.loads(mark.read_text()) == {"journal": name, "journal_seq": 42}


def test_a_full_disk_is_seen_at_the_subscriber(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    if (done := subprocess.run(mount, check=False, capture_output=True)).returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.decode().strip()}")
    try:
        endpoint = f"ipc://{tmp_path}/out"
        words = {
            "heartbeat_s": 0.05,
            "hwm": 5000,
            "journal": Journal(folder / "j", BUDGET),
            "replay_endpoints": [beside(endpoint)],
        }
        with (
            Publisher(Identity.new("vessel", None), [endpoint], **words) as publisher,
            Repaired(endpoint, ("gap/", "heartbeat/")) as listener,
        ):
            assert publisher.wait_for_subscriber(PATIENCE_S)
            put(publisher, 0, 1500)
            numbers, problem, got = [], None, 0
            end = time.monotonic() + PATIENCE_S
            while (got < 1500 or problem is None) and time.monotonic() < end:
                if (m := listener.receive(0.5)) is None:
                    continue
                if m.family == "gap":
                    got += 1
                    numbers.append(m.body["journal_seq"])
                elif m.body["journal"]["problem"]:
                    problem = m.body["journal"]
            assert got == 1500
            assert problem is not None
            assert problem["n_missed"] == numbers.count(None) > 0
            assert "No space left" in problem["problem"]
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_sockets_and_threads_are_given_back(tmp_path: Path) -> None:
    def count() -> tuple[int, int]:
        return len(list(Path("/proc/self/fd").iterdir())), len(list(Path(f"/proc/{os.getpid()}/task").iterdir()))

    with daemon(tmp_path) as publisher, Repaired(publisher.endpoints[0], (), since=0) as listener:
        listener.receive(0.2)
    before = count()  # threads of a closed context end a moment later: one too many here at most, where five could leak
    for _ in range(5):
        with daemon(tmp_path) as publisher, Repaired(publisher.endpoints[0], (), since=0) as listener:
            listener.receive(0.2)
    end = time.monotonic() + PATIENCE_S
    while any(now > was for now, was in zip(count(), before, strict=True)) and time.monotonic() < end:
        time.sleep(0.05)
    assert all(now <= was for now, was in zip(count(), before, strict=True)), (count(), before)


def test_the_short_reader_of_the_docs_reads_all(tmp_path: Path) -> None:
    with daemon(tmp_path) as publisher:
        put(publisher, 0, 700)
        script = [sys.executable, str(ROOT / "docs" / "wire" / "replay.py"), publisher.replay_endpoints[0], "100"]
        done = subprocess.run(script, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[:3] for line in done.stdout.splitlines()] == [
        ["gap/ch0/", str(n), str(n - 1)] for n in range(101, 701)
    ]
