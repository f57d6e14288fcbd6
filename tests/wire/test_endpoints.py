"""Where the publisher may be bound, and what it says where it cannot."""

import socket
from pathlib import Path

import pytest

from daemon.endpoints import Endpoint
from daemon.publisher import Publisher
from daemon.wire import Identity
from models.errors import ConfigError, PublishError

IDENTITY = Identity.new("vessel", None)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp://127.0.0.1:5565", "tcp://127.0.0.1:5565"),
        ("tcp://localhost:5565", "tcp://127.0.0.1:5565"),
        ("tcp://127.1.2.3:*", "tcp://127.1.2.3:*"),
        ("tcp://[::1]:5565", "tcp://[::1]:5565"),
        ("ipc:///run/tonald/out", "ipc:///run/tonald/out"),
    ],
)
def test_loopback_and_ipc_are_accepted(text: str, address: str) -> None:
    assert Endpoint.parse(text).address == address


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tcp://*:5565", "open to the network"),
        ("tcp://0.0.0.0:5565", "open to the network"),
        ("tcp://[::]:5565", "open to the network"),
        ("tcp://192.168.1.7:5565", "open to the network"),
        ("tcp://eth0:5565", "open to the network"),
        ("tcp://128.0.0.1:5565", "open to the network"),
        ("tcp://127.0.0.1:70000", "exceeds 65535"),
        ("tcp://127.0.0.1", "neither"),
        ("udp://127.0.0.1:5565", "neither"),
        ("", "neither"),
        ("ipc://", "names no file"),
        ("ipc://@hidden", "names no file"),
        ("ipc:///" + "x" * 120, "107 bytes"),
    ],
)
def test_other_endpoint_is_refused_with_the_reason(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Publisher(IDENTITY, [text])


def test_no_endpoint_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="nobody could listen"):
        Publisher(IDENTITY, [])


def test_port_in_use_is_named_in_the_callers_thread() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        endpoint = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        publisher = Publisher(IDENTITY, [endpoint])
        with pytest.raises(PublishError, match=f"cannot publish on {endpoint}: in use by another program"):
            publisher.start()
        publisher.close()


def test_second_endpoint_in_use_frees_the_first(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        publisher = Publisher(IDENTITY, [f"ipc://{tmp_path}/out", f"tcp://127.0.0.1:{other.getsockname()[1]}"])
        with pytest.raises(PublishError, match="in use"):
            publisher.start()
    with Publisher(IDENTITY, [f"ipc://{tmp_path}/out"]) as publisher:
        assert publisher.endpoints == (f"ipc://{tmp_path}/out",)


def test_ipc_without_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match=r"folder .*/absent does not exist"):
        Publisher(IDENTITY, [f"ipc://{tmp_path}/absent/out"]).start()


def test_ipc_never_removes_a_users_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("precious")
    with pytest.raises(PublishError, match="is no socket"):
        Publisher(IDENTITY, [f"ipc://{tmp_path}/out"]).start()
    assert (tmp_path / "out").read_text() == "precious"


def test_ipc_takes_over_a_stale_socket(tmp_path: Path) -> None:
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "out"))
    stale.close()  # the file stays, as after a crash
    with Publisher(IDENTITY, [f"ipc://{tmp_path}/out"]) as publisher:
        assert publisher.failed is None


def test_ipc_never_takes_over_a_running_daemons_socket(tmp_path: Path) -> None:
    with (
        Publisher(IDENTITY, [f"ipc://{tmp_path}/out"]),
        pytest.raises(PublishError, match="in use by a running daemon"),
    ):
        Publisher(IDENTITY, [f"ipc://{tmp_path}/out"]).start()


def test_ipv6_loopback_is_bound() -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    with Publisher(IDENTITY, ["tcp://[::1]:*"]) as publisher:
        assert publisher.endpoints[0].startswith("tcp://[::1]:")
