"""Loss is counted where there was loss, and nowhere else."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.publisher import Publisher
from daemon.subscriber import LossCounter, Subscriber
from daemon.wire import Identity, Message, common
from models.errors import UsageError

ONE, TWO = Identity("v", "one", None), Identity("v", "two", None)


def record(topic: str = "gap/c/", identity: Identity = ONE) -> Message:
    family = topic.partition("/")[0]
    body: dict[str, Any] = {
        **common(identity, family), "source": "s", "channel": "c", "fs": 1, "reason": "r", "duration_ns": 1,
        "err_ns": 0, "journal_seq": None, "state": "running", "label": "", "detail": "", "n_retries": 0,
        "lost_samples_total": 0, "n_gaps": 0, "final": False,
    }  # fmt: skip
    return Message(topic, body)


def beat(identity: Identity = ONE, **high_water: int) -> Message:
    body = {**common(identity, "heartbeat"), "high_water": {f"gap/{c}/": n for c, n in high_water.items()}}
    return Message("heartbeat/", body)


def test_first_message_sets_the_start_and_jumps_are_loss() -> None:
    losses = LossCounter()
    assert [losses.count(record(), n) for n in (41, 42, 45, 46)] == [True] * 4
    assert losses.n_lost == 2
    assert losses.lost == {"gap/c/": 2}


def test_repeat_is_neither_loss_nor_news() -> None:
    losses = LossCounter()
    assert [losses.count(record(), n) for n in (5, 5, 4, 6)] == [True, False, False, True]
    assert (losses.n_lost, losses.n_heard, losses.n_repeated) == (0, 2, 2)


def test_topics_are_counted_apart() -> None:
    losses = LossCounter()
    for n in range(10):
        losses.count(record(f"gap/c{n % 2}/"), n // 2)
    assert losses.n_lost == 0


def test_restart_of_the_publisher_is_no_loss() -> None:
    losses = LossCounter()
    losses.count(record(), 100)
    losses.count(record(identity=TWO), 7)
    losses.count(record(identity=TWO), 8)
    assert (losses.n_lost, losses.n_restarts) == (0, 1)


def test_lost_tail_is_seen_by_the_heartbeat_once() -> None:
    losses = LossCounter()
    losses.count(record(), 3)
    losses.count(beat(c=6), 0)
    assert losses.lost == {"gap/c/": 3}
    losses.count(beat(c=6), 1)
    losses.count(record(), 7)
    assert losses.n_lost == 3


def test_late_joiner_does_not_count_what_was_before_its_time() -> None:
    losses = LossCounter()
    losses.count(beat(c=500), 90)
    losses.count(beat(c=501), 91)  # that subscription may not have been in force at 90
    losses.count(record(), 502)
    assert losses.n_lost == 0


def test_topic_that_was_lost_from_its_first_message_on_is_counted_after_two_heartbeats() -> None:
    losses = LossCounter()
    losses.count(beat(), 0)
    losses.count(beat(), 1)
    losses.count(beat(c=2), 2)
    assert losses.n_lost == 3
    losses.count(record("gap/d/"), 1)
    assert losses.n_lost == 4


def test_topics_outside_the_filter_are_never_missed() -> None:
    losses = LossCounter(("gap/c/",))
    losses.count(record(), 0)
    for n in range(4):
        losses.count(beat(c=0, other=10 * n), n)
    assert losses.n_lost == 0


@given(
    n_before=st.integers(0, 20),
    lost=st.sets(st.integers(0, 59)),
    beats=st.sets(st.integers(0, 60)),
    repeats=st.sets(st.integers(0, 59)),
)
@settings(max_examples=300, deadline=None)
def test_count_equals_what_was_lost_after_the_first_heard(
    n_before: int, lost: set[int], beats: set[int], repeats: set[int]
) -> None:
    """Any pattern of loss, heartbeats and repeats, joined at any time: exact from the first message heard on."""
    losses, heard, n_beats = LossCounter(), [], 0
    for n in range(n_before, n_before + 60):
        if n - n_before in beats:
            losses.count(beat(c=n - 1) if n else beat(), n_beats)
            n_beats += 1
        if n - n_before not in lost:
            losses.count(record(), n)
            heard.append(n)
            if n - n_before in repeats:
                losses.count(record(), n)
    losses.count(beat(c=n_before + 59), n_beats)
    first = heard[0] if heard else n_before + 60
    least = sum(n_before + n > first for n in lost)
    assert least <= losses.n_lost <= len(lost)  # two heartbeats may also tell of loss before the first heard
    if len([b for b in beats if n_before + b <= first]) < 2:
        assert losses.n_lost == least


def test_subscriber_waits_for_a_publisher_that_starts_later_and_again(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/out"
    got: list[Message] = []
    with Subscriber(endpoint, ["gap/"]) as subscriber:

        def read() -> None:
            while len(got) < 10 and (message := subscriber.receive(20.0)) is not None:
                got.append(message)

        reader = threading.Thread(target=read)
        reader.start()
        for identity in (ONE, TWO):
            with Publisher(identity, [endpoint], heartbeat_s=0.05) as publisher:
                assert publisher.wait_for_subscriber(20.0)
                for _ in range(5):
                    publisher.put(record(identity=identity), wait=True)
        reader.join(25.0)
        assert [m.body["publisher"] for m in got] == ["one"] * 5 + ["two"] * 5
        assert {m.topic for m in got} == {"gap/c/"}  # heartbeats are for the count, not asked for
        assert (subscriber.losses.n_restarts, subscriber.losses.lost["gap/c/"]) == (1, 0)


def test_subscriber_counts_what_a_full_queue_lost(identity: Identity) -> None:
    """A reader that sleeps while the publisher cannot wait: what is read and what is counted as lost add up."""
    n_total, n_read = 3000, 1
    small = record(identity=identity)
    big = Message(small.topic, {**small.body, "reason": "x" * 20_000})  # 60 MB: no kernel buffer holds it
    with (
        Publisher(identity, ["tcp://127.0.0.1:*"], hwm=2, n_queue=10_000, heartbeat_s=0.1) as publisher,
        Subscriber(publisher.endpoints[0], ["gap/"], hwm=2) as subscriber,
    ):
        assert publisher.wait_for_subscriber(20.0)
        publisher.put(big, wait=True)
        assert subscriber.receive(20.0) is not None  # number 0: from here on all counts
        for _ in range(n_total - 1):
            publisher.put(big, wait=False)
        assert publisher.flush(20.0)
        end = time.monotonic() + 20.0
        while subscriber.losses.lost["gap/c/"] + n_read < n_total:
            n_read += subscriber.receive(0.2) is not None
            assert time.monotonic() < end, "read and lost never add up"
        assert subscriber.losses.lost["gap/c/"] > 0
        assert subscriber.losses.lost["gap/c/"] + n_read == n_total


def test_malformed_message_is_counted_and_passed_over(tmp_path: Path) -> None:
    import zmq

    context = zmq.Context()
    rogue = context.socket(zmq.XPUB)
    rogue.bind(f"ipc://{tmp_path}/out")
    stop = threading.Timer(0.0, rogue.recv)
    try:
        with Subscriber(f"ipc://{tmp_path}/out", ["gap/"]) as subscriber:
            stop.start()  # both subscriptions must be in before anything is sent
            stop.join(20.0)
            rogue.recv()
            rogue.send_multipart([b"gap/c/", b"rubbish", b"\0" * 8])
            rogue.send_multipart([b"gap/c/"])
            assert subscriber.receive(0.5) is None
            assert subscriber.n_malformed == 2
    finally:
        context.destroy(linger=0)


def test_endpoint_that_is_none_is_refused_in_one_line() -> None:
    with pytest.raises(UsageError, match="cannot listen to 'nowhere'"):
        Subscriber("nowhere")
