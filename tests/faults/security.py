"""Faults of who may listen and what may be loaded: strangers, wrong and leaking keys, bundles nobody vouches for."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import zmq

from daemon.curve import ClientKeys
from daemon.key_files import make_pair
from models.bundle import Bundle
from tests.faults.catalogue import fault, promise
from tests.faults.ear import Ear
from tests.faults.sea import OCEAN
from tests.faults.shim import Shim
from tests.faults.vessel import ROOT, Daemon

YEARS_S = 3 * 365.25 * 86_400
Arm = Callable[[zmq.Socket[bytes]], None]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def tonald(*words: str | Path) -> str:
    """Run another command; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "daemon", *map(str, words)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


class Keys:
    """A vessel's keys, made by the program, and the settings that use them."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clients = folder / "keys", folder / "keys" / "clients"
        self.clients.mkdir(parents=True)
        tonald("keygen", "server", "--into", self.folder)
        self.port = free_port()
        self.endpoint = f"tcp://127.0.0.1:{self.port}"
        self.settings: dict[str, Any] = OCEAN | {
            "publish.server_key": str(self.folder / "server.key"), "publish.allowed_keys": str(self.clients),
        }  # fmt: skip

    def client(self, name: str, *, allowed: bool = True) -> ClientKeys:
        tonald("keygen", "client", name, "--into", self.folder)
        if allowed:
            shutil.copy(self.folder / f"{name}.pub", self.clients)
        return ClientKeys.load(self.folder / "server.pub", self.folder / f"{name}.key")

    def daemon(self, folder: Path, **more: Any) -> Daemon:
        own = f"ipc://{folder}/tonald.ipc"
        return Daemon(folder, self.settings | {"publish.endpoints": [own, f"tcp://0.0.0.0:{self.port}"]}, **more)


def messages_of(endpoint: str, arm: Arm, seconds: float) -> int:
    """How many messages a bare socket gets that tries for so long."""
    context = zmq.Context()
    s = context.socket(zmq.SUB)
    try:
        s.setsockopt(zmq.LINGER, 0)
        s.subscribe(b"")
        arm(s)
        s.connect(endpoint)
        n, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            while s.poll(50):
                s.recv_multipart()
                n += 1
        return n
    finally:
        context.destroy(linger=0)


def _shut_out(folder: Path, arm: Callable[[Keys], Arm]) -> tuple[int, int, str]:
    """Messages of a stranger and of a friend in the same 5 s, and the log."""
    keys = Keys(folder)
    friend = keys.client("bridge")
    with keys.daemon(folder) as daemon, Ear(keys.endpoint, keys=friend) as ear:
        ear.await_some("window")
        n = len(ear.bodies)
        got = messages_of(keys.endpoint, arm(keys), 5.0)
        n = len(ear.bodies) - n
        daemon.end()
        ear.await_end()
        ear.account()
    return got, n, daemon.log


@fault(29, "client with a key that is on no list; then the thread that asks for keys dies",
       "refused and logged with fingerprint; without the thread nobody is let in and the process ends")  # fmt: skip
def unknown_key(folder: Path) -> str:
    stranger = make_pair("stranger")

    def arm(keys: Keys) -> Arm:
        server = ClientKeys.load(keys.folder / "server.pub", keys.folder / "bridge.key").server
        return ClientKeys(server, stranger).arm

    (folder / "a").mkdir()
    got, n, log = _shut_out(folder / "a", arm)
    promise(got == 0 and n > 0, f"the stranger got {got} messages, the friend {n}")
    promise(stranger.public.fingerprint in log, "the refusal is not in the log")
    keys = Keys(folder)
    friend, trigger = keys.client("bridge"), folder / "die"
    command = (sys.executable, "-m", "tests.faults.sabotage", "gatekeeper", str(trigger))
    with keys.daemon(folder, command=command) as daemon, Ear(daemon.endpoint) as ear:
        ear.await_some("window")
        trigger.touch()
        late = messages_of(keys.endpoint, friend.arm, 3.0)
        code = daemon.wait(30)
    promise(late == 0 and code == 71, f"{late} messages without a gatekeeper, exit code {code}")
    return (
        f"0 messages (friend: {n}), fingerprint logged; gatekeeper dead: 0 messages, exit 71 '{daemon.last_line[-60:]}'"
    )


@fault(60, "client that holds a wrong key of the server", "no message to it, the others served")
def wrong_server_key(folder: Path) -> str:
    def arm(keys: Keys) -> Arm:
        return ClientKeys(make_pair("other").public, keys.client("second").client).arm

    got, n, _ = _shut_out(folder, arm)
    promise(got == 0 and n > 0, f"the stranger got {got} messages, the friend {n}")
    return f"0 messages, the friend got {n} meanwhile"


@fault(61, "client without any key (plain), on an endpoint open to the network", "no message to it, the others served")
def plain_client(folder: Path) -> str:
    got, n, _ = _shut_out(folder, lambda _keys: lambda _s: None)
    promise(got == 0 and n > 0, f"the stranger got {got} messages, the friend {n}")
    return f"0 messages, the friend got {n} meanwhile"


@fault(74, "a client's key is taken off the list while it listens (SIGHUP)", "cut off at once; the others go on")
def revoked(folder: Path) -> str:
    keys = Keys(folder)
    one, two = keys.client("one"), keys.client("two")
    with keys.daemon(folder) as daemon, Ear(keys.endpoint, keys=one) as a, Ear(keys.endpoint, keys=two) as b:
        a.await_some("window")
        b.await_some("window")
        (keys.clients / "one.pub").unlink()
        daemon.process.send_signal(signal.SIGHUP)
        time.sleep(3)
        n, m = len(a.of("window")), len(b.of("window"))
        b.await_some("window", m + 3)
        time.sleep(1)
        promise(len(a.of("window")) == n, f"{len(a.of('window')) - n} windows after the key was taken off")
        daemon.end()
    return f"the one off the list got nothing from then on, the other {len(b.of('window')) - m} windows more"


@fault(75, "address open to the network without keys", "refused at the start, exit 78, nothing bound")
def open_without_keys(folder: Path) -> str:
    port = free_port()
    with Daemon(folder, OCEAN | {"publish.endpoints": [f"tcp://0.0.0.0:{port}"]}) as daemon:
        code = daemon.wait(30)
        promise(code == 78, f"exit code {code}")
        promise("open to the network" in daemon.last_line, "the reason is not named")
    return f"exit 78, '{daemon.last_line[-130:]}'"


@fault(40, "secret key that others may read (mode 0644); list of clients that others may write", "refused, exit 78")
def leaking_key(folder: Path) -> str:
    words = []
    for what in ("key", "list"):
        keys = Keys(folder / what)
        keys.client("bridge")
        (keys.folder / "server.key").chmod(0o644 if what == "key" else 0o600)
        keys.clients.chmod(0o777 if what == "list" else 0o755)
        with keys.daemon(folder / what) as daemon:
            code = daemon.wait(30)
            promise(code == 78, f"{what}: exit code {code}")
        words.append(f"{what}: 78, '{daemon.last_line[-75:]}'")
    return "; ".join(words)


def _signed(folder: Path, *more: str) -> tuple[Path, dict[str, Any]]:
    copy = folder / "bundle"
    shutil.copytree(Bundle.shipped(), copy)
    tonald("keygen", "signer", "yard", "--into", folder)
    if more != ("unsigned",):
        tonald("bundle", "sign", copy, "--key", folder / "yard.key", *more)
    return copy, OCEAN | {"bundle": str(copy), "bundle_key": str(folder / "yard.pub")}


def _refused(daemon: Daemon) -> str:
    code = daemon.wait(60)
    promise(code == 79, f"exit code {code}")
    promise("publishing on" not in daemon.log, "it served")
    return daemon.last_line[-110:]


@fault(62, "unsigned bundle, or one signed by another, where signatures are asked for", "refused, exit 79")
def unsigned(folder: Path) -> str:
    _, settings = _signed(folder, "unsigned")
    with Daemon(folder, settings) as daemon:
        first = _refused(daemon)
    copy, _ = _signed(folder / "x")
    with Daemon(folder / "b", settings | {"bundle": str(copy)}) as daemon:
        return f"unsigned: 79, '{first}'; by another: 79, '{_refused(daemon)}'"


@fault(63, "bundle whose signature has expired (system clock 3 years on), or that was changed after it was signed",
       "served before, refused after, exit 79")  # fmt: skip
def expired(folder: Path) -> str:
    copy, settings = _signed(folder, "--expires", time.strftime("%Y-12-31", time.gmtime(time.time() + YEARS_S / 3)))
    with Daemon(folder, settings) as daemon, Ear(daemon.endpoint) as ear:
        ear.await_some("window")
    shim = Shim(folder)
    shim.step(YEARS_S)
    with Daemon(folder / "b", settings, env=shim.env) as daemon:
        late = _refused(daemon)
    (copy / "class_masks.npz").write_bytes((copy / "class_masks.npz").read_bytes()[:-1] + b"x")
    with Daemon(folder / "c", settings) as daemon:
        return f"valid: served; expired: 79, '{late}'; changed: 79, '{_refused(daemon)}'"
