"""The self-test in a process of its own: settings, bundle, engine and stages of the daemon, another source and outlet.

::

    known signature ─► service (as configured) ─► publisher ─► private ipc socket ─► subscriber ─► judge
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass

from daemon.chosen_bundle import chosen_bundle
from daemon.config import Config, ForensicConfig, JournalConfig, SelfTestConfig, SiteConfig
from daemon.pipeline import with_hop
from daemon.selftest.judge import Judge, Verdict
from daemon.selftest.signal import injections
from daemon.selftest.source import InjectedSource
from daemon.service import Service
from daemon.subscriber import Subscriber

__all__ = ["Outcome", "channels_of", "private", "run_selftest"]

WAIT_SUBSCRIBER_S = 10.0
SILENCE_S = 60.0
"""So long nothing may come before the test gives up; a heartbeat comes every second."""
DEFAULT_FS = 8000
TURN_S = 0.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one self-test."""

    verdicts: tuple[Verdict, ...]
    problems: tuple[str, ...]
    """What was wrong beside the verdicts; empty if nothing was."""
    engine: str
    n_messages: int
    fs: int

    @property
    def good(self) -> bool:
        """Everything came out as it went in."""
        return not self.problems and not any(v.problems for v in self.verdicts)


def channels_of(config: Config) -> tuple[str, ...]:
    """Names of the channels that the configured source has, as far as the settings say."""
    source = config.source
    return tuple(f"ch{c}" for c in source.channels or range(max(1, source.n_channels)))


def private(config: Config, folder: str) -> Config:
    """``config`` with a private outlet in ``folder``, and writing no record, sound or threshold of its own."""
    publish = dataclasses.replace(
        config.publish, endpoints=(f"ipc://{folder}/out",), server_key="", allowed_keys="", curve_local=False,
        wait_subscriber_s=WAIT_SUBSCRIBER_S,
    )  # fmt: skip
    site = SiteConfig(calibration=config.site.calibration)
    return dataclasses.replace(
        config,
        publish=publish,
        site=site,
        forensic=ForensicConfig(),
        selftest=SelfTestConfig(),
        journal=JournalConfig(enabled=False),
    )


def run_selftest(
    config: Config,
    *,
    fs: int | None = None,
    seconds: float = 20.0,
    label: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> Outcome:
    """Put in, listen, judge.

    Parameters
    ----------
    config : Config
    fs : int, optional
        Hz; None: that of the settings, 8000 where they leave it to the source.
    seconds : float
        Of each injection.
    label : str, optional
        One class only.
    progress : callable, optional
        Called with one line while an engine takes minutes to open.

    Raises
    ------
    TonaldError
        If the daemon could not start as configured.
    """
    bundle = chosen_bundle(config)
    spec = with_hop(bundle.spec, config.window.hop_s)
    rate, channels = fs or config.source.fs or DEFAULT_FS, channels_of(config)
    put_in = injections(bundle, spec, rate, seconds, label, n_channels=len(channels))
    judge = Judge(put_in, spec, rate, channels)
    problems, n = [], 0
    with tempfile.TemporaryDirectory(prefix="tonald-selftest-") as folder:
        settings = private(config, folder)
        service = Service(settings, source=InjectedSource(put_in, rate, channels), test=True)
        report = service.start(progress)
        try:
            with Subscriber(settings.publish.endpoints[0]) as subscriber:
                last = time.monotonic()
                while not judge.ended and service.publisher.failed is None and service.failure is None:
                    message = subscriber.receive(TURN_S)
                    if message is not None:
                        n, last = n + 1, last if message.family == "heartbeat" else time.monotonic()
                        judge.hear(message)
                    elif time.monotonic() - last > SILENCE_S:
                        problems.append(f"nothing came for {SILENCE_S:g} s: the chain stands still")
                        break
                losses = subscriber.losses
                if losses.n_lost:
                    problems.append(f"{losses.n_lost} messages were lost on the way")
                if subscriber.n_malformed:
                    problems.append(f"{subscriber.n_malformed} messages were malformed")
        finally:
            service.stop()
        service.raise_failure()
    problems += service.problems
    if judge.n_unmarked:
        problems.append(f"{judge.n_unmarked} records do not say 'test: true'")
    return Outcome(tuple(judge.verdicts()), tuple(problems), str(report).partition(";")[0], n, rate)
