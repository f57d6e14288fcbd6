"""The pool that does the work: processes of this machine, or a cluster that is there already.

Who can talk to a Dask scheduler can run code on it. The pool of this machine therefore listens on loopback only, and
there only to those who hold a certificate made for this run: other users of the machine do not. A cluster beyond
loopback is spoken to over TLS, unless the caller says that its network is to be trusted.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import InputError, UsageError

__all__ = ["Pool", "checked_scheduler", "local_pool", "remote_pool"]

CONNECT_S = 20.0
ALLOWED_DEATHS = 1
"""A recording whose worker died more often is put aside until all others are done."""
_CONFIG = {
    "distributed.scheduler.allowed-failures": ALLOWED_DEATHS,
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.admin.tick.limit": "60 s",  # opening an engine is no fault of the event loop
}


@dataclass(frozen=True, slots=True)
class Pool:
    """A Dask client and, for people, where it leads."""

    client: Any  # distributed.Client has no types
    words: str


@contextlib.contextmanager
def local_pool(n_workers: int, memory: str) -> Iterator[Pool]:
    """``n_workers`` processes of one thread each, each ended and replaced when it exceeds ``memory``.

    Raises
    ------
    UsageError
        If ``memory`` is no size.
    """
    import dask
    from dask.utils import parse_bytes
    from distributed import Client, LocalCluster, Security

    try:
        limit = parse_bytes(memory)
    except ValueError as e:
        raise UsageError(f"--worker-memory {memory!r}: give a size such as 2GiB") from e
    logging.getLogger("distributed").setLevel(logging.ERROR)  # deaths and restarts are told by us
    with (
        dask.config.set(_CONFIG),
        LocalCluster(
            n_workers=n_workers, threads_per_worker=1, processes=True, host="127.0.0.1", protocol="tls://",
            security=Security.temporary(), memory_limit=limit, dashboard_address=None, silence_logs=logging.CRITICAL,
            preload=["daemon.archive.worker"],
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        ) as cluster,
        Client(cluster) as client,
    ):  # fmt: skip
        yield Pool(client, f"{n_workers} processes of this machine")


@contextlib.contextmanager
def remote_pool(address: str, ca: Path | None, cert: Path | None, key: Path | None) -> Iterator[Pool]:
    """A cluster that is there already; its workers need tonald, the bundle and both folders at the same paths.

    Raises
    ------
    InputError
        If a certificate cannot be read or nothing answers.
    """
    import dask
    from distributed import Client, Security

    try:
        for path in filter(None, (ca, cert, key)):
            path.open("rb").close()
        security = Security(
            tls_ca_file=str(ca), tls_client_cert=str(cert), tls_client_key=str(key), require_encryption=True
        ) if ca else None  # fmt: skip
    except OSError as e:
        raise InputError(f"{e.filename}: cannot be read: {e.strerror or e}") from e
    with dask.config.set(_CONFIG):
        try:
            client = Client(address, security=security, timeout=CONNECT_S)
        except (OSError, TimeoutError) as e:
            raise InputError(f"--scheduler {address}: no scheduler answers within {CONNECT_S:g} s ({e})") from e
        with client:
            try:
                client.wait_for_workers(1, timeout=CONNECT_S)
            except TimeoutError as e:
                raise InputError(f"--scheduler {address}: has no worker within {CONNECT_S:g} s: start some") from e
            yield Pool(client, f"cluster at {address}")


def checked_scheduler(address: str, *, has_tls: bool, unencrypted: bool) -> str:
    """The address, if work may be sent there.

    Raises
    ------
    UsageError
        If it is no address, or lies beyond loopback without TLS and without the caller's word.
    """
    match = re.fullmatch(r"(tcp|tls)://(?:\[([^\]]+)\]|([^:/\s]+)):(\d{1,5})", address)
    if match is None:
        raise UsageError(f"--scheduler {address!r}: give tcp://HOST:PORT or tls://HOST:PORT")
    if match[1] == "tls":
        if not has_tls:
            raise UsageError(f"--scheduler {address}: needs --tls-ca, --tls-cert and --tls-key")
        return address
    if has_tls:
        raise UsageError(f"--scheduler {address}: certificates are given, write tls://")
    host = match[2] or match[3]
    try:
        is_loopback = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback and not unencrypted:
        raise UsageError(
            f"--scheduler {address}: whoever can reach or read this connection can run code on the cluster: use tls:// "
            "with certificates or a tunnel to loopback, or --unencrypted if the network is trusted"
        )
    return address
