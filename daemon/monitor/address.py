"""Where metrics are served: an address of this machine's loopback, never another."""

from __future__ import annotations

import ipaddress
import re

from models.errors import ConfigError

__all__ = ["loopback"]


def loopback(listen: str) -> tuple[str, int]:
    """Address and port of ``metrics.listen``; port 0 is any free one.

    Raises
    ------
    ConfigError
        If it is no numeric address with a port, or not of the loopback.
    """
    m = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)|(localhost)):(\d{1,5})", listen)
    if m is None or int(m[4]) > 65535:
        raise ConfigError(f"metrics.listen = {listen!r}: give an address and a port, such as '127.0.0.1:9265'")
    host = "127.0.0.1" if m[3] else m[1] or m[2]
    try:
        inside = ipaddress.ip_address(host).is_loopback
    except ValueError:
        raise ConfigError(f"metrics.listen = {listen!r}: {host} is no address; such as '127.0.0.1:9265'") from None
    if not inside:
        raise ConfigError(
            f"metrics.listen = {listen!r} is open to the network: metrics ask for no key, so they stay on this "
            "machine; give '127.0.0.1:9265', and let a collector on this machine pass them on"
        )
    return host, int(m[4])
