"""Who can listen: endpoints free, keys in order."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from daemon.config import Config
from daemon.curve import CurveServer, open_endpoints
from daemon.doctor.finding import Finding, fail, ok, warn
from daemon.endpoints import Endpoint
from daemon.subscriber import Subscriber

__all__ = ["check_endpoints", "check_keys"]

ANSWER_S = 3.0
"""A daemon beats every second."""


def check_keys(config: Config) -> Iterator[Finding]:
    """Key files: halves that fit, modes, and the list of those who may listen."""
    curve = CurveServer.of(config.publish)
    if curve is None:
        yield ok("keys", "none needed: only this machine can listen")
        return
    yield ok("keys", f"the daemon's: {curve.keys.public}")
    if curve.allowed:
        yield ok("keys", f"{len(curve.allowed)} may listen: {', '.join(str(k) for k in curve.allowed.values())}")
    else:
        yield warn(
            "keys", f"{config.publish.allowed_keys} is empty: nobody may listen from the network",
            "'tonald keygen client NAME', and put NAME.pub there",
        )  # fmt: skip


def check_endpoints(config: Config) -> Iterator[Finding]:
    """Each endpoint free, or taken by a tonald that answers."""
    curve = CurveServer.of(config.publish)
    for endpoint in open_endpoints(config.publish.endpoints, curve):
        problem, cure = _ipc(endpoint) if endpoint.path is not None else _tcp(endpoint)
        if not problem:
            yield ok("endpoint", f"{endpoint.text} is free")
        elif problem != "in use":
            yield fail("endpoint", f"{endpoint.text}: {problem}", cure)
        elif curve is not None and curve.guards(endpoint):
            yield warn("endpoint", f"{endpoint.text} is in use", "if not by tonald itself: choose another port")
        elif node := _answers(endpoint):
            yield ok("endpoint", f"{endpoint.text}: a tonald runs there already, node '{node}'")
        else:
            yield fail("endpoint", f"{endpoint.text} is in use by another program", "stop it or choose another port")


def _tcp(endpoint: Endpoint) -> tuple[str, str]:
    parts = urlsplit(re.sub(r":\*$", ":0", endpoint.address))
    family = socket.AF_INET6 if endpoint.is_ipv6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((parts.hostname, parts.port or 0))
        except OSError as e:
            if e.errno == errno.EADDRINUSE:
                return "in use", ""
            if e.errno == errno.EADDRNOTAVAIL:
                return "this machine has no such address", "ip address lists those it has"
            if e.errno == errno.EACCES:
                return "not allowed", "choose a port above 1023"
            return str(e.strerror), "choose another"
    return "", ""


def _ipc(endpoint: Endpoint) -> tuple[str, str]:
    path = endpoint.path
    assert path is not None
    if not path.parent.is_dir():
        return f"folder {path.parent} does not exist", "make it; the unit makes /run/tonald by RuntimeDirectory="
    if not path.exists():
        return "", ""
    if not path.is_socket():
        return f"{path} exists and is no socket", "choose another name"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return "", ""  # left behind: a start removes it
        except OSError as e:
            return str(e.strerror or e), "run it as the user of the daemon"
    return "in use", ""


def _answers(endpoint: Endpoint) -> str:
    """The node of a tonald that publishes there; empty if none does."""
    with Subscriber(endpoint.address, ["heartbeat/"]) as subscriber:
        message = subscriber.receive(ANSWER_S)
    return "" if message is None else str(message.body["node"])
