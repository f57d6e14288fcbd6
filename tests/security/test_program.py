"""Daemon and listener as their users start them, over CURVE on all addresses; SIGHUP takes a client off the list."""

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon.subscriber import Subscriber
from tests.keyed_vessel import Vessel

ROOT = Path(__file__).resolve().parents[2]
TONALD = [sys.executable, "-m", "daemon"]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def daemon(config: Path) -> Iterator[Callable[[str], None]]:
    """Run it; the value waits for a line of its log."""
    words = [*TONALD, "run", "--config", str(config), "--quiet"]
    with subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        log = process.stderr

        def until(text: str) -> None:
            for line in log:
                if text in line:
                    return
            pytest.fail(f"the daemon ended without saying {text!r}")

        until.process = process  # type: ignore[attr-defined]
        try:
            yield until
        finally:
            process.terminate()
            log.read()
            assert process.wait(60) == 0


def test_listen_by_keys_and_lose_them_at_sighup(vessel: Vessel, tmp_path: Path) -> None:
    bridge, lab = vessel.client("bridge"), vessel.client("lab")
    port = free_port()
    config = tmp_path / "tonald.toml"
    config.write_text(
        "[source]\nkind = 'simulated'\n[publish]\n"
        f"endpoints = ['tcp://0.0.0.0:{port}']\n"
        f"server_key = '{vessel.folder}/server.key'\nallowed_keys = '{vessel.allowed}'\n"
    )
    endpoint = f"tcp://127.0.0.1:{port}"
    with daemon(config) as until:
        until("publishing on")
        listen = [*TONALD, "listen", endpoint, "--json", "--topics", "", "--once", "2"]
        keyed = ["--server-key", str(vessel.folder / "server.pub"), "--client-key", str(vessel.folder / "lab.key")]
        heard = subprocess.run([*listen, *keyed], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
        assert len(heard.stdout.splitlines()) == 2
        until("client lab")
        with Subscriber(endpoint, keys=bridge) as stays, Subscriber(endpoint, keys=lab) as goes:
            assert stays.receive(60.0) is not None
            assert goes.receive(60.0) is not None
            (vessel.allowed / "lab.pub").unlink()
            until.process.send_signal(signal.SIGHUP)  # type: ignore[attr-defined]
            until("1 clients may listen")
            until("refused a client")  # lab, trying again
            while goes.receive(2.5) is not None:  # what was on its way; heartbeats come each second
                pass
            assert stays.receive(60.0) is not None
            (vessel.allowed / "bad.pub").write_text("rubbish")
            until.process.send_signal(signal.SIGHUP)  # type: ignore[attr-defined]
            until("the list as read before stays in force")
            assert stays.receive(60.0) is not None
            assert goes.receive(0.1) is None


def test_a_daemon_with_an_open_key_does_not_start(vessel: Vessel, tmp_path: Path) -> None:
    config = tmp_path / "tonald.toml"
    config.write_text(
        f"[publish]\nserver_key = '{vessel.folder}/server.key'\nallowed_keys = '{vessel.allowed}'\n"
        f"endpoints = ['ipc://{tmp_path}/out']\n"
    )
    (vessel.folder / "server.key").chmod(0o644)
    done = subprocess.run(
        [*TONALD, "run", "--config", str(config)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 78
    assert "chmod 600" in done.stderr.splitlines()[-1]


def test_one_key_without_the_other_is_refused() -> None:
    done = subprocess.run(
        [*TONALD, "listen", "--server-key", "x.pub"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.count("go together")) == (64, 1)
