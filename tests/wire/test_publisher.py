"""Publisher on real sockets: nothing lost that can wait, what is lost is seen, late joiners are told."""

import logging
import socket as sockets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import zmq

from daemon.outlet import Outlet
from daemon.publisher import Publisher
from daemon.wire import Identity, Message, common, decode
from models.errors import PublishError, WireError

PATIENCE_S = 20.0
"""Upper bound for what comes at once on an idle machine; only a failing test waits so long."""


def message(identity: Identity, n: int, topic: str = "gap/ch0/", pad: int = 0) -> Message:
    family = topic.partition("/")[0]
    body = {
        **common(identity, family, first_sample=n), "source": "s", "channel": "ch0", "fs": 2000, "reason": "x" * pad,
        "duration_ns": 1, "err_ns": 0, "journal_seq": None, "state": "running", "label": "", "detail": "",
        "n_retries": 0, "lost_samples_total": 0, "n_gaps": 0, "final": False,
    }  # fmt: skip
    return Message(topic, body)


@contextmanager
def sub(endpoint: str, *prefixes: str, hwm: int = 1000) -> Iterator[zmq.Socket[bytes]]:
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.RCVHWM, hwm)
    socket.setsockopt(zmq.RCVTIMEO, round(1000 * PATIENCE_S))
    socket.connect(endpoint)
    for prefix in prefixes:
        socket.subscribe(prefix.encode())
    try:
        yield socket
    finally:
        context.destroy(linger=0)


def receive(socket: zmq.Socket[bytes]) -> tuple[Message, int]:
    return decode(socket.recv_multipart())


def until_final(socket: zmq.Socket[bytes]) -> list[tuple[Message, int]]:
    got = []
    while not (got and got[-1][0].topic == "heartbeat/" and got[-1][0].body["final"]):
        got.append(receive(socket))
    return got


@pytest.mark.parametrize("which", [0, 1], ids=["tcp", "ipc"])
def test_messages_arrive_in_order_with_numbers_per_topic(publisher: Publisher, which: int) -> None:
    with sub(publisher.endpoints[which], "") as socket:
        assert publisher.wait_for_subscriber(PATIENCE_S)
        for n in range(300):
            assert publisher.put(message(publisher.identity, n, f"gap/ch{n % 3}/"), wait=True)
        publisher.close()
        got = until_final(socket)
    for channel in range(3):
        mine = [(m.body["first_sample"], n) for m, n in got if m.topic == f"gap/ch{channel}/"]
        assert mine == [(3 * n + channel, n) for n in range(100)]
    beats = [n for m, n in got if m.topic == "heartbeat/"]
    assert beats == list(range(beats[0], beats[0] + len(beats)))
    last = got[-1][0].body
    assert last["high_water"] == {f"gap/ch{c}/": 99 for c in range(3)}
    assert (last["n_sent"], last["n_dropped"], last["n_stalls"]) == (300, 0, 0)


def test_prefix_of_ch1_does_not_receive_ch10(publisher: Publisher) -> None:
    with sub(publisher.endpoints[0], "gap/ch1/", "heartbeat/") as socket:
        assert publisher.wait_for_subscriber(PATIENCE_S)
        for n in range(20):
            publisher.put(message(publisher.identity, n, f"gap/ch{n}/"), wait=True)
        publisher.close()
        assert {m.topic for m, _ in until_final(socket)} == {"gap/ch1/", "heartbeat/"}


def test_wait_for_subscriber_without_one_says_no(publisher: Publisher) -> None:
    assert publisher.wait_for_subscriber(0.05) is False


def test_slow_subscriber_of_what_can_wait_loses_nothing(identity: Identity) -> None:
    """Small queues everywhere and a reader that pauses: back-pressure must reach ``put``."""
    n_total, got = 2000, []
    with (
        Publisher(identity, ["tcp://127.0.0.1:*"], hwm=5, n_queue=5, heartbeat_s=0.02) as publisher,
        sub(publisher.endpoints[0], "", hwm=5) as socket,
    ):
        assert publisher.wait_for_subscriber(PATIENCE_S)

        def produce() -> None:
            for n in range(n_total):
                publisher.put(message(identity, n, pad=10_000), wait=True)  # 20 MB: no kernel buffer holds it
            publisher.flush(PATIENCE_S)
            publisher.close()

        producer = threading.Thread(target=produce)
        producer.start()
        time.sleep(0.3)
        assert producer.is_alive()  # held back: nobody has read anything
        while not (got and got[-1][0].body.get("final") and got[-1][0].topic == "heartbeat/"):
            got.append(receive(socket))
            if len(got) % 400 == 0:
                time.sleep(0.1)
        producer.join(PATIENCE_S)
    assert [n for m, n in got if m.topic == "gap/ch0/"] == list(range(n_total))
    assert got[-1][0].body["n_stalls"] == 0
    beats = [n for m, n in got if m.topic == "heartbeat/"]
    assert beats == list(range(beats[0], beats[0] + len(beats)))  # left out under pressure, never numbered and lost


def test_stuck_subscriber_holds_up_a_replay_only_for_the_stall_timeout(
    identity: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"hwm": 5, "n_queue": 5, "heartbeat_s": 0.05, "stall_timeout_s": 0.2}
    with (
        caplog.at_level(logging.WARNING),
        Publisher(identity, ["tcp://127.0.0.1:*"], **options) as publisher,
        sub(publisher.endpoints[0], "gap/", hwm=1) as stuck,
        sub(publisher.endpoints[0], "gap/", "heartbeat/") as well,
    ):
        assert publisher.wait_for_subscriber(PATIENCE_S)
        got: list[tuple[Message, int]] = []
        reader = threading.Thread(target=lambda: got.extend(until_final(well)))
        reader.start()
        time.sleep(0.2)  # the second subscriber's subscription too
        for n in range(150):
            publisher.put(message(identity, n, pad=200_000), wait=True)
        assert publisher.flush(PATIENCE_S)
        publisher.close(1.0)  # the stuck one's messages are never taken: all of it is waited
        reader.join(PATIENCE_S)
        heard = [receive(stuck)[1]]
    assert [n for m, n in got if m.topic == "gap/ch0/"] == list(range(150))  # the other one loses nothing
    assert got[-1][0].body["n_stalls"] >= 1
    assert heard == [0]
    assert "it loses messages" in caplog.text


def test_full_queue_of_what_cannot_wait_drops_counts_and_shows(
    identity: Identity, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held, go_on = threading.Event(), threading.Event()
    send = Outlet.send

    def hold(self: Outlet, frames: list[bytes]) -> None:
        held.set()
        assert go_on.wait(PATIENCE_S)
        send(self, frames)

    monkeypatch.setattr(Outlet, "send", hold)
    with (
        Publisher(identity, ["tcp://127.0.0.1:*"], n_queue=3, heartbeat_s=0.05) as publisher,
        sub(publisher.endpoints[0], "") as socket,
    ):
        assert held.wait(PATIENCE_S)  # in its first heartbeat
        taken = [publisher.put(message(identity, n), wait=False) for n in range(10)]
        go_on.set()
        assert publisher.wait_for_subscriber(PATIENCE_S)
        assert publisher.flush(PATIENCE_S)
        assert publisher.put(message(identity, 10), wait=False)
        publisher.close()
        got = until_final(socket)
    assert taken == [True] * 3 + [False] * 7
    assert got[-1][0].body["n_dropped"] == 7
    assert got[-1][0].body["high_water"] == {"gap/ch0/": 10}
    assert 10 in [n for m, n in got if m.topic == "gap/ch0/"]
    assert caplog.text.count("is full, dropping") == 1


def test_late_joiner_is_given_the_last_status_and_only_that(publisher: Publisher) -> None:
    for n in range(3):
        publisher.put(message(publisher.identity, n, "status/ch0/"), wait=True)
        publisher.put(message(publisher.identity, n, "gap/ch0/"), wait=True)
    assert publisher.flush(PATIENCE_S)
    with sub(publisher.endpoints[0], "status/", "gap/") as late:
        first, number = receive(late)
        assert (first.topic, first.body["first_sample"], number) == ("status/ch0/", 2, 2)
        publisher.wait_for_subscriber(PATIENCE_S)
        publisher.put(message(publisher.identity, 3, "gap/ch0/"), wait=True)
        got, number = receive(late)
        while got.topic == "status/ch0/":  # a repeat for the second subscription
            assert number == 2
            got, number = receive(late)
        assert (got.topic, number) == ("gap/ch0/", 3)


def test_heartbeat_counts_subscriptions_that_come_and_go(publisher: Publisher) -> None:
    with sub(publisher.endpoints[0], "heartbeat/") as socket:
        with sub(publisher.endpoints[0], "gap/", "status/"):
            while receive(socket)[0].body["n_subscriptions"] != 3:
                pass
        while receive(socket)[0].body["n_subscriptions"] != 1:
            pass


def test_peer_that_takes_back_what_it_never_asked_for_makes_no_negative_count(publisher: Publisher) -> None:
    host, _, port = publisher.endpoints[0].removeprefix("tcp://").partition(":")
    with sub(publisher.endpoints[0], "heartbeat/") as socket, sockets.create_connection((host, int(port))) as bad:
        receive(socket)
        bad.sendall(b"\x01\x00" + 50 * b"\x05\x00\x00abc")  # a peer of the protocol's first version
        for _ in range(10):  # heartbeats, each decoded: a count below zero would be refused
            receive(socket)
    with sub(publisher.endpoints[0], "heartbeat/") as socket:
        assert receive(socket)[0].body["n_subscriptions"] >= 0


def test_put_after_close_or_before_start_is_refused(identity: Identity) -> None:
    publisher = Publisher(identity, ["tcp://127.0.0.1:*"])
    with pytest.raises(PublishError, match="not started"):
        publisher.put(message(identity, 0), wait=True)
    publisher.start()
    publisher.close()
    publisher.close()
    with pytest.raises(PublishError, match="closed"):
        publisher.put(message(identity, 0), wait=True)


def test_message_that_cannot_be_encoded_is_refused_and_takes_no_number(publisher: Publisher) -> None:
    with sub(publisher.endpoints[0], "gap/") as socket:
        assert publisher.wait_for_subscriber(PATIENCE_S)
        with pytest.raises(WireError):
            publisher.put(Message("gap/ch0/", {"x": object()}), wait=True)
        publisher.put(message(publisher.identity, 0), wait=True)
        assert receive(socket)[1] == 0


def test_death_of_the_thread_is_handed_to_the_caller_that_waits(
    identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = Publisher(identity, ["tcp://127.0.0.1:*"], n_queue=1, heartbeat_s=0.05)
    publisher.start()
    assert publisher.failed is None

    def fail(*_a: object, **_k: object) -> None:
        raise RuntimeError("socket torn out")

    def put_for_ever() -> None:
        while True:
            publisher.put(message(identity, 0), wait=True)

    monkeypatch.setattr(Outlet, "offer", fail)
    with pytest.raises(PublishError, match="publisher died: socket torn out"):
        put_for_ever()
    assert isinstance(publisher.failed, RuntimeError)
    with pytest.raises(PublishError, match="died"):
        publisher.wait_for_subscriber(1.0)
    publisher.close()


def test_close_with_a_stuck_subscriber_ends_in_time(identity: Identity) -> None:
    publisher = Publisher(identity, ["tcp://127.0.0.1:*"], hwm=2, n_queue=50)
    publisher.start()
    with sub(publisher.endpoints[0], "", hwm=1):
        assert publisher.wait_for_subscriber(PATIENCE_S)
        for n in range(40):
            publisher.put(message(identity, n, pad=1_000_000), wait=True)
        assert publisher.flush(0.05) is False
        began = time.monotonic()
        publisher.close(0.3)
        assert time.monotonic() - began < PATIENCE_S  # the stall timeout of 30 s must not hold it up
    assert publisher.failed is None


def test_rubbish_on_the_port_does_not_harm(publisher: Publisher) -> None:
    import socket as sockets

    host, port = publisher.endpoints[0].removeprefix("tcp://").split(":")
    for rubbish in (b"GET / HTTP/1.1\r\n\r\n", b"\xff" + b"\0" * 8 + b"\x7f" + b"\xff" * 100, b""):
        with sockets.create_connection((host, int(port))) as s:
            s.sendall(rubbish)
    with sub(publisher.endpoints[0], "gap/") as socket:
        assert publisher.wait_for_subscriber(PATIENCE_S)
        publisher.put(message(publisher.identity, 0), wait=True)
        assert receive(socket)[1] == 0
    assert publisher.failed is None
