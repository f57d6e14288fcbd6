"""Where the publisher may be reached: loopback tcp or an ipc socket; with keys also an address of the network."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket as sockets
import stat
from dataclasses import dataclass
from pathlib import Path

import zmq

from models.errors import ConfigError, PublishError

__all__ = ["Endpoint"]

MAX_IPC_PATH = 107
"""Bytes of a socket's path, by the kernel's sockaddr_un."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A checked endpoint."""

    text: str
    """As configured."""
    address: str
    """As ZeroMQ binds it."""
    path: Path | None = None
    """Of an ipc socket."""
    is_ipv6: bool = False
    is_local: bool = True
    """Reached by programs of this machine only."""

    @classmethod
    def parse(cls, text: str, *, with_keys: bool = False) -> Endpoint:
        """Check an endpoint.

        Parameters
        ----------
        text : str
            ``tcp://ADDRESS:PORT`` or ``ipc://PATH``.
        with_keys : bool
            Clients must prove that they are on a list, so it may be open to the network.

        Raises
        ------
        ConfigError
            If it is malformed, or open to the network without keys.
        """
        if match := re.fullmatch(r"tcp://(?:\[([^\]]+)\]|([^:/\s]+)):(\d{1,5}|\*)", text):
            return cls._tcp(text, match[1] or match[2], match[3], with_keys=with_keys)
        if text.startswith("ipc://"):
            return cls._ipc(text, text.removeprefix("ipc://"))
        raise ConfigError(f"endpoint {text!r} is neither tcp://127.0.0.1:PORT nor ipc:///PATH")

    @classmethod
    def _tcp(cls, text: str, host: str, port: str, *, with_keys: bool) -> Endpoint:
        try:
            ip = ipaddress.ip_address({"localhost": "127.0.0.1", "*": "0.0.0.0"}.get(host, host))  # noqa: S104
        except ValueError:
            ip = None
        if (ip is None or not ip.is_loopback) and not with_keys:
            raise ConfigError(
                f"endpoint {text!r} is open to the network, and anyone there could listen: set publish.server_key and "
                f"publish.allowed_keys ('tonald keygen' makes keys), or bind tcp://127.0.0.1:{port} or ipc:///PATH"
            )
        if ip is None:
            raise ConfigError(f"endpoint {text!r}: {host!r} is no IP address; '*' stands for all of this machine")
        if port != "*" and int(port) > 65535:
            raise ConfigError(f"endpoint {text!r}: port {port} exceeds 65535")
        is_ipv6 = ip.version == 6
        return cls(
            text, f"tcp://[{ip}]:{port}" if is_ipv6 else f"tcp://{ip}:{port}", is_ipv6=is_ipv6, is_local=ip.is_loopback
        )

    @classmethod
    def _ipc(cls, text: str, name: str) -> Endpoint:
        if not name or name.startswith("@") or "\0" in name:
            raise ConfigError(f"endpoint {text!r} names no file: write ipc:///run/tonald/out")
        if len(name.encode()) > MAX_IPC_PATH:
            raise ConfigError(f"endpoint {text!r}: the path exceeds {MAX_IPC_PATH} bytes, the kernel's limit")
        return cls(text, f"ipc://{name}", Path(name))

    def bind(self, socket: zmq.Socket[bytes]) -> str:
        """Bind; return the endpoint with its port filled in.

        Raises
        ------
        PublishError
            If it is in use or not allowed; says what to do.
        """
        if self.path is not None:
            self._clear(self.path)
        try:
            socket.bind(self.address)
        except zmq.ZMQError as e:
            raise PublishError(f"cannot publish on {self.text}: {_advice(e)}") from e
        return str(socket.getsockopt_string(zmq.LAST_ENDPOINT)).rstrip("\0")

    def _clear(self, path: Path) -> None:
        """Remove the socket that a daemon left behind; ZeroMQ itself would also take over one that is in use."""
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            if not path.parent.is_dir():
                raise PublishError(f"cannot publish on {self.text}: folder {path.parent} does not exist") from None
            return
        except OSError as e:
            raise PublishError(f"cannot publish on {self.text}: {e.strerror}") from e
        if not stat.S_ISSOCK(mode):
            raise PublishError(f"cannot publish on {self.text}: {path} exists and is no socket; choose another name")
        try:
            with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
                probe.settimeout(1.0)
                probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError as e:
            raise PublishError(f"cannot publish on {self.text}: {e.strerror or e}") from e
        else:
            raise PublishError(f"cannot publish on {self.text}: in use by a running daemon; stop it or choose another")


def _advice(error: zmq.ZMQError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "in use by another program; stop it or choose another port"
        case errno.EACCES:
            return "not allowed; choose a port above 1023 or a folder you may write to"
        case errno.EADDRNOTAVAIL | errno.ENODEV:
            return "this machine has no such address"
    return str(error)
