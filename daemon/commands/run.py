"""``tonald run``: the daemon itself, in the foreground, for a shell or a service manager."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from daemon.config import Config
from daemon.liveness import Liveness
from daemon.log_lines import start_logging
from daemon.monitor.monitor import Monitor
from daemon.notify import ServiceManager
from daemon.open_source import parse_source
from daemon.service import Service
from daemon.signal_flag import SignalFlag
from daemon.view import format_line
from daemon.wire import Message
from models.errors import AudioFormatError, UsageError

__all__ = ["add_arguments", "add_source_words", "run", "settings"]

_LOGGER = logging.getLogger("tonald")

TURN_S = 0.25
ONCE_WAIT_S = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's words."""
    add_source_words(parser)
    parser.add_argument("--bundle", metavar="FOLDER", help="instead of the shipped one")
    parser.add_argument("--engine", choices=("auto", "tensorrt", "openvino", "onnxruntime"))
    parser.add_argument("--publish", metavar="ENDPOINT", action="append", help="tcp://127.0.0.1:PORT or ipc://PATH")
    parser.add_argument(
        "--once",
        action="store_true",
        help=f"one pass: wait up to {ONCE_WAIT_S:g} s for a subscriber, leave when through",
    )
    parser.add_argument("--wait-subscriber", metavar="S", type=float, help="wait at most so long for a subscriber")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument("--quiet", action="store_true", help="print no records")
    shown.add_argument("--verbose", action="store_true", help="print each window, also those with signatures")


def add_source_words(parser: argparse.ArgumentParser) -> None:
    """Define the words that say what is listened to."""
    parser.add_argument("--config", metavar="FILE", type=Path, help="settings; what is given below goes before them")
    parser.add_argument(
        "--source", metavar="WHAT", help="file, folder, '-' (raw PCM), 'ocean[:SCENARIO]', 'device:NAME'"
    )
    parser.add_argument("--fs", type=int, help="sample rate in Hz, of raw PCM, a sound card or the simulated ocean")
    parser.add_argument("--channels", metavar="C[,C...]", help="which channels, counted from 0")
    parser.add_argument("--n-channels", type=int, help="channels of raw PCM or of the simulated ocean")
    parser.add_argument("--format", choices=("s16le", "s24le", "s32le", "f32le"), help="of raw PCM")
    parser.add_argument("--realtime", action="store_true", help="pace files as if live")
    parser.add_argument("--join", action="store_true", help="several files are one stream, gaps from their times")


def settings(args: argparse.Namespace) -> Config:
    """Settings of the file, if any, under those of the command line; words that a command lacks were not given."""
    config = Config.load(args.config) if args.config else Config()
    source = parse_source(args.source, config.source) if args.source is not None else config.source
    channels = None if args.channels is None else _channels(args.channels)
    given = {
        "fs": args.fs, "channels": channels, "n_channels": args.n_channels, "sample_format": args.format,
        "realtime": args.realtime or None, "join": args.join or None,
    }  # fmt: skip
    config = dataclasses.replace(
        config, source=dataclasses.replace(source, **{k: v for k, v in given.items() if v is not None})
    )
    return _of_daemon(args, config) if hasattr(args, "publish") else config


def _of_daemon(args: argparse.Namespace, config: Config) -> Config:
    publish = config.publish
    if args.publish:
        publish = dataclasses.replace(publish, endpoints=tuple(args.publish))
    wait = ONCE_WAIT_S if args.once and args.wait_subscriber is None else args.wait_subscriber
    if wait is not None:
        publish = dataclasses.replace(publish, wait_subscriber_s=wait)
    engine = dataclasses.replace(config.engine, name=args.engine) if args.engine else config.engine
    bundle = config.bundle if args.bundle is None else args.bundle
    return dataclasses.replace(config, publish=publish, engine=engine, bundle=bundle)


def _channels(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(c) for c in text.split(","))
    except ValueError:
        raise UsageError(f"--channels {text!r}: give whole numbers counted from 0, such as 0,2") from None


def run(args: argparse.Namespace) -> int:
    """Run until the source is through or a signal comes."""
    config = settings(args)
    start_logging(config.log.level, config.log.format)
    stop, hang_up = SignalFlag(), SignalFlag()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _frame: _asked_to_stop(stop, n, _frame))
    signal.signal(signal.SIGHUP, lambda _n, _frame: hang_up.set())
    service = Service(config, None if args.quiet else _printer(all_windows=args.verbose, silent_windows=args.once))
    manager = ServiceManager()
    with Monitor(config, manager) as monitor:
        _start(service, manager, monitor)
        supervise(service, manager, stop, hang_up, lambda: settings(args), monitor)
        monitor.stopping()
        manager.stopping(str(service.counts))
        service.stop()
        _LOGGER.info("%s", service.counts)
        service.raise_failure()
        return 0 if stop.is_set() else _judge(service)  # who asks it to stop gets what he asked for


def _start(service: Service, manager: ServiceManager, monitor: Monitor) -> None:
    """Start it, and say what serves; nothing is left open if that fails."""

    def starting(words: str) -> None:
        manager.starting(words)
        monitor.doing(words)

    service.start(starting)
    try:
        monitor.listening(service)
    except BaseException:
        service.stop()
        raise
    _LOGGER.info("bundle %s: %s", service.in_force.bundle.id, ", ".join(service.in_force.bundle.labels))
    _LOGGER.info("contacts: %s", service.in_force.stages.rule.words()[-1])
    _LOGGER.info("publishing on %s", ", ".join(service.publisher.endpoints))
    if service.publisher.replay_endpoints:
        _LOGGER.info("journal replayed on %s", ", ".join(service.publisher.replay_endpoints))
    manager.ready("listening")


def supervise(
    service: Service,
    manager: ServiceManager,
    stop: SignalFlag,
    hang_up: SignalFlag | None = None,
    load: Callable[[], Config] | None = None,
    monitor: Monitor | None = None,
) -> None:
    """Wait for the end; feed the watchdog while work is done (`daemon.liveness`); on SIGHUP reload by ``load``."""
    line: Callable[[], str] = (lambda: str(service.counts)) if monitor is None else monitor.line
    due = time.monotonic()
    patience_s = (manager.watchdog_s or 30.0) / 2
    spec = service.in_force.spec
    liveness = Liveness(patience_s, spec.n_samples(spec.fs_model) / spec.fs_model, service.config.window.hop_s)
    said: str | None = None
    reloading = False
    while not stop.wait(TURN_S) and service.alive:
        if hang_up is not None and hang_up.is_set():
            hang_up.clear()
            service.reread_keys()
            service.resume_source()
            if load is not None:
                manager.reloading("reading settings and bundle anew")
                service.reload(load, manager.starting)
                reloading = True
        if reloading and not service.reloader.busy:
            reloading = False
            start_logging(service.config.log.level, service.config.log.format)
            manager.ready(line())
        now = time.monotonic()
        complaint = liveness.complaint(service.progress(), now)
        kind = None if complaint is None else re.sub(r"[\d.]+", "", complaint)  # the figure grows from turn to turn
        if kind != said and complaint is not None:
            _LOGGER.error("%s: no sign of life until it changes", complaint)
        said = kind
        if manager.watchdog_s and now >= due and complaint is None:
            manager.alive(line())
            due = now + manager.watchdog_s / 4


def _printer(*, all_windows: bool, silent_windows: bool) -> Callable[[Message], None]:
    """Print signatures, gaps and states; windows too, or those that no signature speaks for."""
    said: dict[str, str] = {}

    def show(message: Message) -> None:
        if message.family == "window":
            if not (all_windows or (silent_windows and not message.body["n_signatures"])):
                return
        elif message.family == "contact":
            if message.body["event"] == "update":
                return
        elif message.family not in ("signature", "gap", "status"):
            return
        line = format_line(message)
        if message.family == "status":  # the checks of a channel repeat it once a minute
            if said.get(message.topic) == line:
                return
            said[message.topic] = line
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    return show


def _asked_to_stop(stop: SignalFlag, number: int, _frame: FrameType | None) -> None:
    if stop.is_set():  # asked twice: whoever asks means it
        raise KeyboardInterrupt
    _LOGGER.info("%s: finishing", signal.Signals(number).name)
    stop.set()


def _judge(service: Service) -> int:
    """A run over one stream that was no good ends with an error; of many streams the bad ones are listed."""
    if not service.problems:
        return 0
    if service.counts.n_streams <= 1:
        raise AudioFormatError(service.problems[0])
    _LOGGER.warning("%d of %d streams had a problem, see above", len(service.problems), service.counts.n_streams)
    return 0
