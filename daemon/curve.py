"""What the publisher needs to serve the network: its own key pair, and the list of those who may listen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import zmq
from zmq.utils import z85

from daemon.allow_list import AllowList, read_allow_list
from daemon.config import PublishConfig
from daemon.endpoints import Endpoint
from daemon.gatekeeper import DOMAIN
from daemon.key_files import KeyPair, PublicKey, key_path, read_pair, read_public

__all__ = ["ClientKeys", "CurveServer", "bind_all", "open_endpoints"]

HANDSHAKE_MS = 10_000
"""Three round trips over a geostationary satellite take two to three seconds."""


@dataclass(frozen=True, slots=True)
class CurveServer:
    """Keys of the publisher."""

    keys: KeyPair
    allowed: AllowList
    local: bool = False
    """Loopback and ipc ask for keys, too."""

    @classmethod
    def of(cls, settings: PublishConfig) -> CurveServer | None:
        """Read the files that the settings name; None where they name none.

        Raises
        ------
        ConfigError
            If a file cannot be used; says why and what to do.
        """
        if not settings.server_key:
            return None
        keys = read_pair(key_path(settings.server_key, "publish.server_key"), "publish.server_key")
        return cls(keys, read_allow_list(Path(settings.allowed_keys)), settings.curve_local)

    def guards(self, endpoint: Endpoint) -> bool:
        """Whether who connects there must be on the list."""
        return self.local or not endpoint.is_local

    def arm(self, socket: zmq.Socket[bytes]) -> None:
        """Make what ``socket`` binds from now on ask for keys, and fail closed; what is bound stays as it is."""
        for option, value in (
            (zmq.CURVE_SERVER, 1),
            (zmq.CURVE_SECRETKEY, z85.encode(self.keys.secret)),
            (zmq.ZAP_DOMAIN, DOMAIN),
            (zmq.ZAP_ENFORCE_DOMAIN, 1),
            (zmq.HANDSHAKE_IVL, HANDSHAKE_MS),
        ):
            socket.setsockopt(option, value)


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """Keys of a subscriber: its own pair, and the daemon's public key."""

    server: PublicKey
    client: KeyPair

    @classmethod
    def load(cls, server_key: Path, client_key: Path) -> ClientKeys:
        """Read both files.

        Raises
        ------
        ConfigError
            If one cannot be used; says why and what to do.
        """
        return cls(read_public(server_key, "--server-key"), read_pair(client_key, "--client-key"))

    def arm(self, socket: zmq.Socket[bytes]) -> None:
        """Make ``socket`` prove its key, and accept that server only."""
        socket.setsockopt(zmq.CURVE_SERVERKEY, z85.encode(self.server.raw))
        socket.setsockopt(zmq.CURVE_PUBLICKEY, z85.encode(self.client.public.raw))
        socket.setsockopt(zmq.CURVE_SECRETKEY, z85.encode(self.client.secret))


def bind_all(
    socket: zmq.Socket[bytes], endpoints: Iterable[Endpoint], curve: CurveServer | None
) -> dict[Endpoint, str]:
    """Bind ``socket`` to all endpoints, those that ask for keys armed; their addresses with ports filled in.

    Raises
    ------
    PublishError
        If one cannot be bound.
    """
    wanted = list(endpoints)
    guarded = [e for e in wanted if curve is not None and curve.guards(e)]
    bound = {e: e.bind(socket) for e in wanted if e not in guarded}  # first: options count for what is bound after them
    if curve is not None:
        curve.arm(socket)
        bound |= {e: e.bind(socket) for e in guarded}
    return bound


def open_endpoints(endpoints: Iterable[str], curve: CurveServer | None) -> list[Endpoint]:
    """Check endpoints: the network only with keys.

    Raises
    ------
    ConfigError
        If one is malformed, or open to the network without keys.
    """
    return [Endpoint.parse(e, with_keys=curve is not None) for e in endpoints]
