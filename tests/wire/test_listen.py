"""What people and other programs see: one-line text, live table, ``tonald listen``, the reader of docs/wire."""

import io
import json
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from daemon.publisher import Publisher
from daemon.view import LiveTable, format_line
from daemon.wire import Identity, Message

ROOT = Path(__file__).parents[2]
ONCE_S = 30.0


@contextmanager
def program(*words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def listen(*words: str) -> tuple[str, ...]:
    return "-m", "daemon", "listen", *words


def known(contract: SimpleNamespace, identity: Identity) -> list[Message]:
    """The known messages but the heartbeat, as this publisher would send them."""
    told = [m for m in contract.known_messages() if m.family != "heartbeat"]
    return [Message(m.topic, {**m.body, "publisher": identity.publisher}, m.arrays) for m in told]


@pytest.mark.parametrize("which", [0, 1], ids=["tcp", "ipc"])
def test_independent_subscriber_reads_all_records_without_a_gap(
    publisher: Publisher, contract: SimpleNamespace, which: int
) -> None:
    messages = known(contract, publisher.identity) * 200
    with program(str(contract.folder / "subscriber.py"), publisher.endpoints[which]) as process:
        assert publisher.wait_for_subscriber(ONCE_S)

        def publish() -> None:
            for message in messages:
                publisher.put(message, wait=True)
            publisher.flush(ONCE_S)
            publisher.close(ONCE_S)  # a reader on a busy machine takes its time

        producer = threading.Thread(target=publish)
        producer.start()
        out, err = process.communicate(timeout=ONCE_S)  # meanwhile: a reader whose output nobody takes would wait
        producer.join(ONCE_S)
    assert (process.returncode, err) == (0, "")
    read = [line.split(" ") for line in out.splitlines()]
    assert Counter(topic for topic, *_ in read if topic != "heartbeat/") == Counter(m.topic for m in messages)
    for topic in {m.topic for m in messages}:
        numbers = [int(n) for t, n, *_ in read if t == topic]
        assert numbers == list(range(len(numbers)))
    assert {lost for *_, lost in read} == {"lost=0"}


def test_independent_subscriber_sees_a_jump(contract: SimpleNamespace, publisher: Publisher) -> None:
    """It must be able to fail: one message is numbered and never sent."""
    message = known(contract, publisher.identity)[-1]
    with program(str(contract.folder / "subscriber.py"), publisher.endpoints[0]) as process:
        assert publisher.wait_for_subscriber(ONCE_S)
        publisher.put(message, wait=True)
        assert publisher.flush(ONCE_S)
        publisher._numbered[message.topic] += 1
        publisher.put(message, wait=True)
        publisher.close()
        out, err = process.communicate(timeout=ONCE_S)
    assert (process.returncode, err) == (1, "1 lost\n")
    assert "lost=1" in out


def test_independent_subscriber_is_short(contract: SimpleNamespace) -> None:
    lines = (contract.folder / "subscriber.py").read_text(encoding="utf-8").splitlines()
    code = [x for x in lines if x.strip() and not x.startswith(('"""', "import "))]
    assert len(code) <= 15


def test_listen_prints_a_line_with_hz_for_each_signature(publisher: Publisher, contract: SimpleNamespace) -> None:
    with program(*listen(publisher.endpoints[0], "--once", "5")) as process:
        assert publisher.wait_for_subscriber(ONCE_S)
        for message in known(contract, publisher.identity):
            publisher.put(message, wait=True)
        out, err = process.communicate(timeout=ONCE_S)
    assert process.returncode == 0
    (signature,) = [line for line in out.splitlines() if "signature" in line]
    assert "ch0" in signature
    assert "vessel_0 75 %  72.1 Hz 12 dB (123 dB re 1 µPa), 144.2 Hz 8 dB (115 dB re 1 µPa) own" in signature
    assert "2026-09-21T14:13:23.000Z" in signature  # 3 s after the anchor 1.79e18 ns
    assert "0 lost" in err


def test_listen_json_is_one_object_per_line_with_arrays_described(
    publisher: Publisher, contract: SimpleNamespace
) -> None:
    with program(*listen(publisher.endpoints[1], "--json", "--once", "2", "--topics", "signature/", "gap/")) as process:
        assert publisher.wait_for_subscriber(ONCE_S)
        for message in known(contract, publisher.identity):
            publisher.put(message, wait=True)
        out, _ = process.communicate(timeout=ONCE_S)
    first, second = map(json.loads, out.splitlines())
    assert first["topic"] == "signature/ch0/vessel_0/"
    assert first["arrays"] == [{"name": "mask", "dtype": "|u1", "shape": [8, 4]}]
    assert second["topic"] == "gap/ch0/"


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_listen_ends_cleanly_on_a_signal_and_says_what_was_lost(
    publisher: Publisher, contract: SimpleNamespace, sign: signal.Signals
) -> None:
    (gap,) = [m for m in known(contract, publisher.identity) if m.family == "gap"]
    with program(*listen(publisher.endpoints[0])) as process:
        assert publisher.wait_for_subscriber(ONCE_S)
        publisher.put(gap, wait=True)
        assert publisher.flush(ONCE_S)
        publisher._numbered[gap.topic] += 4
        publisher.put(gap, wait=True)
        assert process.stdout is not None
        assert "gap" in process.stdout.readline()
        assert "gap" in process.stdout.readline()
        process.send_signal(sign)
        _, err = process.communicate(timeout=ONCE_S)
    assert process.returncode == 0
    assert "4 lost (gap/ch0/ 4)" in err
    assert "Traceback" not in err


def test_listen_to_no_endpoint_is_one_line_and_a_code() -> None:
    with program(*listen("nowhere")) as process:
        _, err = process.communicate(timeout=ONCE_S)
    assert process.returncode == 64
    assert err.startswith("tonald: cannot listen to 'nowhere'")
    assert err.count("\n") == 1


def test_format_line_of_every_kind_is_one_line(contract: SimpleNamespace) -> None:
    lines = {m.family: format_line(m) for m in contract.known_messages()}
    assert set(lines) == {
        "info",
        "heartbeat",
        "status",
        "window",
        "signature",
        "contact",
        "demon",
        "explain",
        "spectrogram",
        "own_ship",
        "gap",
        "forensic",
    }
    assert all(line.isprintable() for line in lines.values())
    assert "end (gap)  vessel_0 for 16 s  72.1 Hz 12 dB 7x, 144.2 Hz 8 dB 4x" in lines["contact"]
    assert "invalid: 100 samples, 0.050 s" in lines["gap"]
    assert "frozen: command: tug abeam -> 2026" in lines["forensic"]
    assert "shaft 2.06 Hz (124 rpm), 4 blades, blade rate 8.25 Hz, 1 lines, 42 nats" in lines["demon"]


def test_format_line_cannot_steer_the_terminal(contract: SimpleNamespace) -> None:
    message = next(m for m in contract.known_messages() if m.family == "status")
    evil = Message(message.topic, {**message.body, "detail": "\x1b[2J\nfake", "label": "\u202e\x9b"})
    assert format_line(evil).isprintable()


def test_format_line_of_unknown_time_counts_from_the_epoch(contract: SimpleNamespace) -> None:
    message = next(m for m in contract.known_messages() if m.family == "window")
    assert format_line(Message(message.topic, {**message.body, "t_first_sample_ns": None})).startswith("1+3.0s  ch0")


def test_live_table_shows_channel_label_tonals_and_losses(contract: SimpleNamespace) -> None:
    console = pytest.importorskip("rich.console").Console(file=io.StringIO(), width=200, force_terminal=True)
    with LiveTable("tonald", console=console) as table:
        for message in contract.known_messages():
            if message.body.get("analysed") is not False:  # that window would take the tonals away
                table.update(message, "7 messages, 2 lost")
    shown = console.file.getvalue()
    for text in (
        "ch0",
        "vessel_0 75 %",
        "vessel_0 for 16 s, ended",
        "72.1 Hz 12 dB",
        "144 dB re 1 µPa",
        "truncated",
        "100",
        "7 messages, 2 lost",
    ):
        assert text in shown, text
