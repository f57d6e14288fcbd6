"""Word to the service manager over a real NOTIFY_SOCKET."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from daemon.notify import ServiceManager


def test_states_arrive_in_order_on_a_real_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(tmp_path / "n"))
        s.settimeout(5)
        manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "2000000"})
        manager.starting("building")
        manager.ready("up")
        manager.alive("12 windows")
        manager.stopping("bye")
        got = [s.recv(200).decode() for _ in range(4)]
    assert got == [
        "EXTEND_TIMEOUT_USEC=600000000\nSTATUS=building",
        "READY=1\nSTATUS=up",
        "WATCHDOG=1\nSTATUS=12 windows",
        "STOPPING=1\nSTATUS=bye",
    ]
    assert manager.watchdog_s == 2.0


def test_abstract_socket_is_reached() -> None:
    name = f"tonald-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind("\0" + name)
        s.settimeout(5)
        ServiceManager({"NOTIFY_SOCKET": "@" + name}).ready("up")
        assert s.recv(100).startswith(b"READY=1")


def test_without_a_manager_nothing_is_sent_and_nothing_fails() -> None:
    manager = ServiceManager({})
    manager.ready("up")
    assert manager.watchdog_s is None


def test_watchdog_meant_for_another_process_is_not_ours() -> None:
    assert ServiceManager({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog_s is None


def test_a_manager_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(tmp_path / "n"))
        s.settimeout(5)
        manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "2000000"})
        for n in range(1000):  # more than the socket queues
            manager.alive(f"{n}")
        assert s.recv(200) == b"WATCHDOG=1\nSTATUS=0"


def test_programs_started_later_do_not_reach_the_manager(tmp_path: Path) -> None:
    code = (
        "import os, subprocess\n"
        "from daemon.notify import ServiceManager\n"
        "manager = ServiceManager()\n"
        "subprocess.run(['sh', '-c', 'env | grep -E \"^(NOTIFY|WATCHDOG)_\"'])\n"
        "print(manager.watchdog_s)\n"
        "manager.ready('up')"
    )
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(tmp_path / "n"))
        s.settimeout(5)
        told = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "n"), "WATCHDOG_USEC": "2000000"}
        done = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True, check=True)
        assert s.recv(200) == b"READY=1\nSTATUS=up"
    assert done.stdout == "2.0\n"
