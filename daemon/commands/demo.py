"""``tonald demo``: the simulated ocean, the daemon and a subscriber in one, to see what the product does."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from daemon.config import Config, PublishConfig, SourceConfig
from daemon.log_lines import start_logging
from daemon.service import Service
from daemon.signal_flag import SignalFlag
from daemon.sources.simulated import SimulatedSource
from daemon.sources.timed import TimedSource
from daemon.subscriber import Subscriber
from daemon.view import LiveTable, format_line
from daemon.wire import Message

__all__ = ["add_arguments", "run"]

TOPICS = ("window/", "signature/", "status/", "gap/", "heartbeat/")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's words."""
    parser.add_argument("--scenario", default="standard", help="standard, low_snr, two_ships, wide or empty")
    parser.add_argument("--n-channels", type=int, default=2, help="hydrophones, each in a sea of its own (default: 2)")
    parser.add_argument("--seed", type=int, default=0, help="which sea")
    parser.add_argument("--seconds", type=float, default=0.0, help="end after so many seconds of audio; 0: never")
    parser.add_argument("--max-speed", action="store_true", help="as fast as this machine can, not in real time")
    parser.add_argument("--lines", action="store_true", help="plain lines also on a terminal")


def run(args: argparse.Namespace) -> int:
    """Show what is heard beside what truly sounds, until Ctrl-C."""
    start_logging("warning")
    source = SourceConfig(
        kind="simulated", scenario=args.scenario, n_channels=args.n_channels, seed=args.seed,
        duration_s=args.seconds, max_speed=args.max_speed,
    )  # fmt: skip
    publish = PublishConfig(endpoints=("tcp://127.0.0.1:*",), wait_subscriber_s=5.0)
    service = Service(dataclasses.replace(Config(node="demo"), source=source, publish=publish))
    stop = SignalFlag()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    report = service.start()
    try:
        print(_introduction(service, report.name), flush=True)
        _listen(service, stop, plain=args.lines)
    finally:
        service.stop()
    print(f"\n{service.counts}. Next: 'tonald run --help', 'tonald devices', docs/install.md", flush=True)
    service.raise_failure()
    return 0


def _introduction(service: Service, engine: str) -> str:
    n = len(service.in_force.bundle.labels) - 1
    pace = "as fast as it can be computed" if service.config.source.max_speed else "in real time"
    window_s = service.in_force.spec.n_samples(service.in_force.spec.fs_model) / service.in_force.spec.fs_model
    return (
        f"tonald demo: a simulated sea {pace}, the daemon on the shipped bundle, and a subscriber.\n"
        f"{n} kinds of vessel come and go, seeds not used in training. "
        f"Windows of {window_s:.1f} s, one each {service.in_force.spec.step_s:g} s, explained by {engine}.\n"
        f"Anyone may subscribe: tonald listen {service.publisher.endpoints[0]}    Ctrl-C ends it.\n"
    )


def _listen(service: Service, stop: SignalFlag, *, plain: bool) -> None:
    """Show what arrives over the socket, as any subscriber would see it."""
    with Subscriber(service.publisher.endpoints[0], TOPICS) as subscriber, _view(service, plain=plain) as show:
        while not stop.is_set():
            message = subscriber.receive(timeout_s=0.25)
            if message is None:
                if service.finished.is_set():
                    return
                continue
            show(message)
            if message.family == "heartbeat" and message.body["final"]:
                return


@contextmanager
def _view(service: Service, *, plain: bool) -> Iterator[Callable[[Message], None]]:
    if plain or not sys.stdout.isatty():
        yield lambda message: _print_line(service, message)
        return
    truths: dict[str, str] = {}

    def update(message: Message) -> None:
        if message.family == "window":
            truths[message.body["channel"]] = _truth(service, message)
        foot = ", ".join(f"{channel} {truth}" for channel, truth in sorted(truths.items()))
        table.update(message, f"truly sounding: {foot}")

    with LiveTable("tonald demo (simulated ocean)") as table:
        yield update


def _print_line(service: Service, message: Message) -> None:
    if message.family in ("signature", "status", "gap"):
        truth = f"   (truly: {_truth(service, message)})" if message.family == "signature" else ""
        print(format_line(message) + truth, flush=True)


def _truth(service: Service, message: Message) -> str:
    """What the simulator let sound in the middle of a window."""
    source = service.source
    if isinstance(source, TimedSource):
        source = source.source
    assert isinstance(source, SimulatedSource)
    body = message.body
    middle = body["first_sample"] + body["n_samples"] // 2
    return " and ".join(source.truth_labels_at(middle, body["channel"])) or "no known vessel"
