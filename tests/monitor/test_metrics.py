"""Metrics over real HTTP: as Prometheus reads them, on the loopback only, of no use against the daemon."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon.monitor import server as server_module
from daemon.monitor.metrics import CONTENT_TYPE, METRICS, text_of
from daemon.monitor.monitor import Monitor
from daemon.monitor.server import MAX_CONNECTIONS, MetricsServer
from daemon.service import Service
from daemon.support.gather import _metrics
from models.errors import PublishError, UsageError
from tests.monitor.test_status import PATIENCE_S, settings, wait

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A snapshot of a daemon that has lived, with a journal and a gap."""
    folder = tmp_path_factory.mktemp("told")
    config = settings(folder)
    service = Service(config)
    with Monitor(config) as monitor:
        service.start()
        monitor.listening(service)
        assert service.finished.wait(PATIENCE_S)
        snapshot = monitor.look()
        service.stop()
    return snapshot


@pytest.fixture
def server(told: dict) -> Iterator[MetricsServer]:
    s = MetricsServer("127.0.0.1:0", lambda: told)
    yield s
    s.close()
    assert not [t for t in threading.enumerate() if t.name == "metrics"]


def address(server: MetricsServer) -> tuple[str, int]:
    m = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/metrics", server.url)
    assert m
    return "127.0.0.1", int(m[1])


def ask(server: MetricsServer, data: bytes) -> bytes:
    with socket.create_connection(address(server), PATIENCE_S) as s:
        s.sendall(data)
        got = b""
        while part := s.recv(65536):
            got += part
    return got


def test_prometheus_reads_every_family_with_its_kind_and_numbers(server: MetricsServer, told: dict) -> None:
    with urllib.request.urlopen(server.url, timeout=PATIENCE_S) as answer:
        assert answer.headers["Content-Type"] == CONTENT_TYPE
        families = {f.name: f for f in text_string_to_metric_families(answer.read().decode())}
    by_name = {m.name.removesuffix("_total"): m for m in METRICS}
    assert set(families) <= set(by_name)
    for name, family in families.items():
        assert family.type == by_name[name].kind
        assert family.samples
    windows = {(s.labels["channel"], s.labels["outcome"]): s.value for s in families["tonald_windows"].samples}
    assert sum(windows.values()) == told["counts"]["n_windows"]
    calls = families["tonald_engine_call_seconds"].samples
    counts = {s.labels["graph"]: s.value for s in calls if s.name.endswith("_count")}
    infinite = {s.labels["graph"]: s.value for s in calls if s.labels.get("le") == "+Inf"}
    assert counts == infinite
    assert counts["classify"] > 0
    assert families["tonald_healthy"].samples[0].value == 1.0
    assert families["process_start_time_seconds"].samples[0].value == pytest.approx(told["t_started_ns"] / 1e9)


def test_names_keep_to_the_conventions() -> None:
    for m in METRICS:
        assert re.fullmatch(r"(tonald|process)_[a-z_]+", m.name)
        assert m.name.endswith("_total") is (m.kind == "counter"), m.name
        assert m.doc
    assert len({m.name for m in METRICS}) == len(METRICS)


def test_labels_of_any_text_are_quoted(told: dict) -> None:
    odd = 'a"b\\c\nd'
    text = text_of(told | {"gaps": {odd: {"n": 2, "lost_samples": 3, "lost_s": 0.5}}})
    families = {f.name: f for f in text_string_to_metric_families(text)}
    assert families["tonald_gaps"].samples[0].labels == {"reason": odd}


def test_a_daemon_that_has_just_begun_can_be_scraped(told: dict) -> None:
    empty = told | {"sources": {}, "windows": {}, "channels": {}, "signatures": [], "contacts": [], "gaps": {},
                    "engine_calls": {}, "journal": None, "forensic": None, "backlog": None}  # fmt: skip
    families = {f.name for f in text_string_to_metric_families(text_of(empty))}
    assert "tonald_uptime_seconds" in families
    assert "tonald_windows" not in families


def test_status_is_there_as_json_and_other_paths_are_not(server: MetricsServer, told: dict) -> None:
    with urllib.request.urlopen(server.url.replace("/metrics", "/status"), timeout=PATIENCE_S) as answer:
        assert json.loads(answer.read())["publisher"] == told["publisher"]
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(server.url.replace("/metrics", "/"), timeout=PATIENCE_S)


@pytest.mark.parametrize(
    ("data", "begins"),
    [
        (b"GET /metrics HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"GET /metrics?name=x HTTP/1.1\r\nHost: x\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 405"),
        (b"\x00\xff\xfe\r\n\r\n", b"HTTP/1.1 400"),
        (b"\r\n\r\n", b"HTTP/1.1 400"),
        (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", b"HTTP/1.1 404"),
        (b"A" * 20_000, b"HTTP/1.1 431"),
        (b"", b""),
    ],
)
def test_any_bytes_get_an_answer_or_a_closed_door(server: MetricsServer, data: bytes, begins: bytes) -> None:
    if data:
        assert ask(server, data).startswith(begins)
    else:
        socket.create_connection(address(server), PATIENCE_S).close()
    assert ask(server, b"GET /metrics HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200 OK")


def test_head_has_no_body(server: MetricsServer) -> None:
    head, _, body = ask(server, b"HEAD /metrics HTTP/1.1\r\n\r\n").partition(b"\r\n\r\n")
    assert b"Content-Length: " in head
    assert body == b""


def test_slow_clients_are_cut_off_and_take_no_more_than_their_places(
    told: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "DEADLINE_S", 0.5)
    server = MetricsServer("127.0.0.1:0", lambda: told)
    slow: list[socket.socket] = []
    try:
        before = threading.active_count()
        slow += [socket.create_connection(address(server), PATIENCE_S) for _ in range(5 * MAX_CONNECTIONS)]
        for s in slow:
            s.sendall(b"GET /metr")
        assert threading.active_count() == before
        assert ask(server, b"GET /metrics HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200 OK")  # behind all of them
        wait(lambda: closed(slow[0]))
    finally:
        for s in slow:
            s.close()
        server.close()


def closed(s: socket.socket) -> bool:
    s.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        return not s.recv(100)
    return False


def test_a_flood_costs_four_looks_a_second(told: dict) -> None:
    looks: list[float] = []

    def look() -> dict:
        looks.append(time.monotonic())
        return told

    server = MetricsServer("127.0.0.1:0", look)
    try:
        for _ in range(100):
            assert ask(server, b"GET /metrics HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200 OK")
    finally:
        server.close()
    assert all(b - a >= server_module.RENDER_S for a, b in itertools.pairwise(looks))


def test_a_page_that_cannot_be_made_ends_one_connection_and_is_said(caplog: pytest.LogCaptureFixture) -> None:
    def look() -> dict:
        raise ValueError("torn")

    server = MetricsServer("127.0.0.1:0", look)
    try:
        for _ in range(3):
            assert ask(server, b"GET /metrics HTTP/1.1\r\n\r\n") == b""
    finally:
        server.close()
    assert "metrics cannot be told: ValueError: torn" in caplog.text


def test_a_port_that_is_taken_is_said_with_the_cure() -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        with pytest.raises(PublishError, match=rf"'127.0.0.1:{port}' cannot be bound: .*; give another port"):
            MetricsServer(f"127.0.0.1:{port}", dict)


@pytest.mark.skipif(not Path("/proc/net/if_inet6").exists(), reason="no IPv6 here")
def test_ipv6_loopback_serves_too(told: dict) -> None:
    try:
        server = MetricsServer("[::1]:0", lambda: told)
    except PublishError as e:
        pytest.skip(str(e))
    try:
        assert "tonald_healthy 1" in _metrics(server.url)
    finally:
        server.close()


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1.evil.example:80/metrics", "http://localhost@evil.example:9265/metrics", "https://127.0.0.1:1/",
     "file:///etc/passwd", "http://10.0.0.1:9265/metrics", "http://127.0.0.1/metrics", "http://[::1/metrics"],
)  # fmt: skip
def test_support_asks_this_machine_only(url: str) -> None:
    with pytest.raises(UsageError, match="only those of this machine"):
        _metrics(url)


def test_support_gathers_them_and_follows_nobody_elsewhere(server: MetricsServer) -> None:
    assert "tonald_healthy 1" in _metrics(server.url)
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()

        def answer() -> None:
            peer, _ = s.accept()
            peer.recv(1000)
            peer.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n")
            peer.close()

        t = threading.Thread(target=answer)
        t.start()
        assert "302" in _metrics(f"http://127.0.0.1:{s.getsockname()[1]}/metrics")
        t.join()


def test_the_page_holds_every_metric_as_it_is() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    for m in METRICS:
        labels = ", ".join(f"`{x}`" for x in m.labels) or "none"
        assert f"| `{m.name}` | {m.kind} | {labels} | {m.doc} |" in page, m.name


def test_the_rules_name_metrics_that_there_are() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    rules = re.search(r"```yaml\n(groups:.*?)```", page, re.DOTALL)
    assert rules
    names = {m.name for m in METRICS}
    used = set(re.findall(r"\b(?:tonald|process)_[a-z_]+", rules[1]))
    assert used
    assert used <= names | {
        f"{m.name}_{part}" for m in METRICS if m.kind == "histogram" for part in ("bucket", "sum", "count")
    }
