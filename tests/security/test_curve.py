"""Who has no key on the list gets no byte, whatever he tries; who has one goes on receiving meanwhile. Real sockets."""

import logging
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from daemon.curve import ClientKeys, CurveServer
from daemon.key_files import KeyPair, make_pair
from daemon.publisher import Publisher
from daemon.subscriber import Subscriber
from daemon.wire import Identity
from models.errors import ConfigError, PublishError
from tests.keyed_vessel import Vessel

PATIENCE_S = 30.0
"""Only a failing test waits so long."""
FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
ENDED = FAILED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CLOSED
IDENTITY = Identity.new("vessel", None)
Publish = Callable[..., Publisher]


def reach(publisher: Publisher, which: int = 0) -> str:
    """How a client of this machine reaches an endpoint that is bound to all addresses."""
    return publisher.endpoints[which].replace("0.0.0.0", "127.0.0.1")


def port_of(publisher: Publisher) -> int:
    return int(publisher.endpoints[0].rpartition(":")[2])


@contextmanager
def listening(publisher: Publisher, keys: ClientKeys) -> Iterator[Subscriber]:
    with Subscriber(reach(publisher), keys=keys) as subscriber:
        hears(subscriber)
        yield subscriber


def hears(subscriber: Subscriber, n: int = 20) -> None:
    """The next ``n`` messages come."""
    for _ in range(n):
        assert subscriber.receive(PATIENCE_S) is not None


class Stranger:
    """Not our subscriber: a bare socket, armed with what an intruder may have."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, arm: Callable[[zmq.Socket[bytes]], None]
    ) -> None:
        self.endpoint = endpoint
        self.socket = context.socket(zmq.SUB)
        self.socket.subscribe(b"")
        arm(self.socket)
        self.monitor = self.socket.get_monitor_socket(ENDED)
        self.socket.connect(endpoint)

    def is_served(self, timeout_s: float = PATIENCE_S) -> bool:
        return bool(self.socket.poll(round(1000 * timeout_s)))

    def drain(self) -> list[list[bytes]]:
        """What was on its way."""
        got = []
        while self.socket.poll(300):
            got.append(self.socket.recv_multipart())
        return got

    def is_ended(self) -> None:
        """The connection ends, while we read what comes."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.monitor.poll(20):
            assert time.monotonic() < deadline, "the connection stays"
            while self.socket.poll(0):
                self.socket.recv_multipart()
        recv_monitor_message(self.monitor)

    def is_shut_out(self, n_tries: int = 5) -> None:
        """It tries time and again (libzmq itself gives up when it is refused), and no message ever comes."""
        for _ in range(n_tries):
            with suppress(zmq.ZMQError):  # gone already
                self.socket.disconnect(self.endpoint)
            while self.monitor.poll(0):
                recv_monitor_message(self.monitor)
            self.socket.connect(self.endpoint)
            assert self.monitor.poll(round(1000 * PATIENCE_S)), "neither in nor out"
            assert not self.socket.poll(20), "a stranger was served"


@contextmanager
def stranger(endpoint: str, arm: Callable[[zmq.Socket[bytes]], None] = lambda _s: None) -> Iterator[Stranger]:
    context = zmq.Context()
    s = Stranger(context, endpoint, arm)
    try:
        yield s
    finally:
        s.socket.disable_monitor()
        s.monitor.close()
        context.destroy(linger=0)


def curve(server: bytes, client: KeyPair) -> Callable[[zmq.Socket[bytes]], None]:
    def arm(s: zmq.Socket[bytes]) -> None:
        s.setsockopt(zmq.CURVE_SERVERKEY, server)
        s.setsockopt(zmq.CURVE_PUBLICKEY, client.public.raw)
        s.setsockopt(zmq.CURVE_SECRETKEY, client.secret)

    return arm


def test_a_client_on_the_list_receives_over_the_network(vessel: Vessel, publish: Publish) -> None:
    keys = vessel.client("bridge")
    publisher = publish(vessel.curve())
    assert publisher.endpoints[0].startswith("tcp://0.0.0.0:")
    with listening(publisher, keys) as subscriber:
        hears(subscriber, 100)
        assert subscriber.losses.n_lost == 0


def test_a_client_that_is_not_on_the_list_gets_nothing(
    vessel: Vessel, publish: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    good, server = vessel.client("bridge"), vessel.curve()
    unknown = make_pair("stranger")
    publisher = publish(server)
    with caplog.at_level(logging.WARNING), listening(publisher, good) as subscriber:
        with stranger(reach(publisher), curve(server.keys.public.raw, unknown)) as s:
            s.is_shut_out()
        hears(subscriber)
    refused = [r.getMessage() for r in caplog.records if "refused a client" in r.getMessage()]
    assert len(refused) == 1, "a repeating fault must not flood the log"
    assert unknown.public.fingerprint in refused[0]


def test_a_client_with_another_server_key_gets_nothing(vessel: Vessel, publish: Publish) -> None:
    good = vessel.client("bridge")
    publisher = publish(vessel.curve())
    with listening(publisher, good) as subscriber:
        with stranger(reach(publisher), curve(make_pair("other").public.raw, good.client)) as s:
            s.is_shut_out()
        hears(subscriber)


def test_a_stolen_public_key_without_its_secret_gets_nothing(vessel: Vessel, publish: Publish) -> None:
    good, server = vessel.client("bridge"), vessel.curve()
    forged = KeyPair(good.client.public, make_pair("x").secret)
    publisher = publish(server)
    with listening(publisher, good) as subscriber:
        with stranger(reach(publisher), curve(server.keys.public.raw, forged)) as s:
            s.is_shut_out()
        hears(subscriber)


@pytest.mark.parametrize("mechanism", ["null", "plain"])
def test_a_client_without_curve_gets_nothing(vessel: Vessel, publish: Publish, mechanism: str) -> None:
    def arm(s: zmq.Socket[bytes]) -> None:
        if mechanism == "plain":
            s.setsockopt(zmq.PLAIN_USERNAME, b"bridge")
            s.setsockopt(zmq.PLAIN_PASSWORD, b"bridge")

    good = vessel.client("bridge")
    publisher = publish(vessel.curve())
    with listening(publisher, good) as subscriber:
        with stranger(reach(publisher), arm) as s:
            s.is_shut_out()
        hears(subscriber)


def test_garbage_on_a_thousand_connections_harms_nobody(vessel: Vessel, publish: Publish) -> None:
    """Bytes that come back are the protocol's own greeting; no record is among them."""
    good = vessel.client("bridge")
    publisher = publish(vessel.curve())
    greeting = b"\xff" + 8 * b"\0" + b"\x7f\x03\x00"
    before = n_fds()
    came = 0
    with listening(publisher, good) as subscriber:
        for n in range(1200):
            start = (b"", greeting, greeting + b"CURVE".ljust(52, b"\0"), b"\x01\x00")[n % 4]
            with socket.create_connection(("127.0.0.1", port_of(publisher)), 10) as s:
                s.setblocking(False)
                try:
                    s.send(start + os.urandom(1 + n % 700))
                except OSError:
                    continue  # cut off already
                if n % 50 == 0 and select.select([s], [], [], 1.0)[0]:
                    came += len(read_all(s))
            if n % 100 == 0:
                hears(subscriber, 5)
        hears(subscriber, 50)
        deadline = time.monotonic() + PATIENCE_S
        while n_fds() > before + 40 and time.monotonic() < deadline:  # libzmq closes its side a moment later
            hears(subscriber, 5)
        assert n_fds() <= before + 40
    assert publisher.failed is None
    assert came < 24 * 400, "more than greetings came back"


def n_fds() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def read_all(s: socket.socket) -> bytes:
    try:
        return s.recv(1 << 16)
    except OSError:
        return b""


@pytest.mark.parametrize("flags", [2, 3, 4, 6])
def test_a_message_announced_as_a_gigabyte_is_cut_off(vessel: Vessel, publish: Publish, flags: int) -> None:
    """Before the handshake is through: a long frame where a short command must stand."""
    good = vessel.client("bridge")
    publisher = publish(vessel.curve())
    with listening(publisher, good) as subscriber:
        before = resident_bytes()
        with socket.create_connection(("127.0.0.1", port_of(publisher)), 10) as s:
            s.settimeout(PATIENCE_S)
            s.sendall(b"\xff" + 8 * b"\0" + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + 32 * b"\0")
            s.sendall(bytes([flags]) + struct.pack(">Q", 1 << 30))
            assert cut_off(s), "a gigabyte was taken"
        assert resident_bytes() - before < 100 << 20
        hears(subscriber)


def cut_off(s: socket.socket) -> bool:
    """Whether the other side ends the connection before it took 200 MB."""
    chunk = 65536 * b"A"
    for _ in range(3200):
        try:
            s.sendall(chunk)
        except ConnectionError:  # noqa: PERF203
            return True
    return False


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_listed_client_that_sends_too_much_is_cut_off(vessel: Vessel, publish: Publish) -> None:
    """Also who may listen may not fill the memory: what a peer sends is bounded after the handshake, too."""
    good, bad = vessel.client("bridge"), vessel.client("mallory")
    publisher = publish(vessel.curve())
    with listening(publisher, good) as subscriber:
        with stranger(reach(publisher), curve(good.server.raw, bad.client)) as s:
            assert s.is_served()
            s.socket.subscribe(b"x" * 20_000)
            s.is_ended()
        hears(subscriber)


def test_a_key_taken_off_the_list_is_cut_off_and_the_others_go_on(vessel: Vessel, publish: Publish) -> None:
    good, gone = vessel.client("bridge"), vessel.client("gone")
    publisher = publish(vessel.curve())
    with listening(publisher, good) as subscriber, stranger(reach(publisher), curve(good.server.raw, gone.client)) as s:
        assert s.is_served(), "listed, but not served"
        (vessel.allowed / "gone.pub").unlink()
        publisher.admit(vessel.curve().allowed)
        s.is_ended()
        s.drain()
        s.is_shut_out()
        hears(subscriber, 50)
    assert publisher.failed is None


def test_what_waits_for_a_stuck_client_goes_when_its_key_does(vessel: Vessel, publish: Publish) -> None:
    good, stuck = vessel.client("bridge"), vessel.client("stuck")
    publisher = publish(vessel.curve())

    def arm(s: zmq.Socket[bytes]) -> None:
        curve(good.server.raw, stuck.client)(s)
        s.setsockopt(zmq.RCVHWM, 1)
        s.setsockopt(zmq.RCVBUF, 4096)

    with listening(publisher, good) as subscriber, stranger(reach(publisher), arm) as s:
        assert s.is_served()
        hears(subscriber, 600)  # meanwhile its queue fills
        (vessel.allowed / "stuck.pub").unlink()
        publisher.admit(vessel.curve().allowed)
        hears(subscriber, 100)  # back, and served
        last = 0
        for frames in s.drain():
            if frames[0] == b"gap/ch0/":
                last = int.from_bytes(frames[-1], "little")
        message = subscriber.receive(PATIENCE_S)
        while message is None or message.topic != "gap/ch0/":
            message = subscriber.receive(PATIENCE_S)
        assert last < message.body["first_sample"] - 100


def test_an_emptied_list_shuts_everyone_out_and_a_filled_one_lets_in_again(
    vessel: Vessel, publish: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    """Our subscriber says so, and comes back by itself; libzmq alone gives up for ever when it is refused once."""
    keys = vessel.client("bridge")
    publisher = publish(vessel.curve())
    full = vessel.curve().allowed
    with caplog.at_level(logging.WARNING), listening(publisher, keys) as subscriber:
        (vessel.allowed / "bridge.pub").unlink()
        publisher.admit(vessel.curve().allowed)
        deadline = time.monotonic() + PATIENCE_S
        while "does not let us in" not in caplog.text and time.monotonic() < deadline:
            subscriber.receive(0.1)
        assert "does not let us in" in caplog.text
        assert subscriber.receive(1.5) is None, "served after another try"
        publisher.admit(full)
        hears(subscriber)


def test_an_added_key_disturbs_nobody(vessel: Vessel, publish: Publish) -> None:
    keys = vessel.client("bridge")
    publisher = publish(vessel.curve())
    with listening(publisher, keys) as subscriber:
        later = vessel.client("later")
        publisher.admit(vessel.curve().allowed)
        with listening(publisher, later):
            hears(subscriber, 100)
        assert subscriber.losses.n_lost == 0


def test_a_dead_gatekeeper_lets_nobody_in_and_ends_the_publisher(vessel: Vessel, publish: Publish) -> None:
    """Its thread is broken from outside: a list that cannot be asked."""
    keys = vessel.client("bridge")
    publisher = publish(vessel.curve())

    class Broken(dict):
        def get(self, key, default=None):  # noqa: ANN001, ANN202
            raise RuntimeError("broken list")

        def __le__(self, other: object) -> bool:
            return True

    with listening(publisher, keys):
        publisher.admit(Broken(vessel.curve().allowed))
        with stranger(reach(publisher), curve(keys.server.raw, keys.client)) as s:
            deadline = time.monotonic() + PATIENCE_S
            while publisher.failed is None and time.monotonic() < deadline:
                assert not s.socket.poll(50), "let in without being asked for"
    assert isinstance(publisher.failed, PublishError)
    assert "broken list" in str(publisher.failed)


def test_without_a_gatekeeper_an_armed_socket_lets_nobody_in(vessel: Vessel) -> None:
    """What ``arm`` sets fails closed: a ZeroMQ context in which no handler is bound."""
    keys, server = vessel.client("bridge"), vessel.curve()
    context = zmq.Context()
    s = context.socket(zmq.XPUB)
    try:
        server.arm(s)
        port = s.bind_to_random_port("tcp://127.0.0.1")
        with stranger(f"tcp://127.0.0.1:{port}", curve(keys.server.raw, keys.client)) as client:
            client.is_shut_out()
            assert not s.poll(200), "a subscription came through"
    finally:
        context.destroy(linger=0)


def test_a_gatekeeper_that_does_not_answer_lets_nobody_in(vessel: Vessel) -> None:
    keys, server = vessel.client("bridge"), vessel.curve()
    context = zmq.Context()
    handler, s = context.socket(zmq.ROUTER), context.socket(zmq.XPUB)
    try:
        handler.bind("inproc://zeromq.zap.01")
        server.arm(s)
        s.setsockopt(zmq.HANDSHAKE_IVL, 300)
        port = s.bind_to_random_port("tcp://127.0.0.1")
        with stranger(f"tcp://127.0.0.1:{port}", curve(keys.server.raw, keys.client)) as client:
            client.is_shut_out(2)
            assert not s.poll(0)
        assert handler.poll(0), "nobody asked"
    finally:
        context.destroy(linger=0)


def test_loopback_stays_open_beside_the_network_unless_told_otherwise(vessel: Vessel, publish: Publish) -> None:
    vessel.client("bridge")
    both = ("tcp://*:*", "tcp://127.0.0.1:*")
    publisher = publish(vessel.curve(), *both)
    with stranger(reach(publisher, 1)) as local, stranger(reach(publisher, 0)) as remote:
        assert local.is_served()
        remote.is_shut_out()
    strict = publish(vessel.curve(local=True), *both)
    with stranger(reach(strict, 1)) as local:
        local.is_shut_out()


def test_our_subscriber_says_that_it_is_shut_out(
    vessel: Vessel, publish: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    unknown = vessel.client("stranger", allowed=False)
    publisher = publish(vessel.curve())
    for keys, says in ((unknown, "our key is not on its list"), (None, "give --server-key and --client-key")):
        with caplog.at_level(logging.WARNING), Subscriber(reach(publisher), keys=keys) as subscriber:
            deadline = time.monotonic() + PATIENCE_S
            while says not in caplog.text and time.monotonic() < deadline:
                assert subscriber.receive(0.1) is None
        assert says in caplog.text


def test_the_network_is_refused_without_keys_and_names_with_them(vessel: Vessel, publish: Publish) -> None:
    with pytest.raises(ConfigError, match=r"open to the network.*publish\.server_key"):
        Publisher(IDENTITY, ["tcp://*:5565"])
    with pytest.raises(ConfigError, match="no IP address"):
        Publisher(IDENTITY, ["tcp://eth0:5565"], curve=vessel.curve())


def test_the_port_is_kept_by_its_number_when_keys_change(
    vessel: Vessel, publish: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    vessel.client("bridge")
    publisher = publish(vessel.curve())
    before = port_of(publisher)
    publisher.admit(CurveServer(vessel.curve().keys, {}).allowed)
    deadline = time.monotonic() + PATIENCE_S
    while "keys were taken off the list" not in caplog.text:  # said once the port is bound again
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert port_of(publisher) == before
    with closing(socket.create_connection(("127.0.0.1", before), PATIENCE_S)) as s:
        assert s.getpeername()[1] == before
