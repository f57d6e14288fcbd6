"""The other side of a self-test in a running daemon: ask for it, listen where everybody listens, judge."""

from __future__ import annotations

import time

from daemon.chosen_bundle import chosen_bundle
from daemon.config import Config
from daemon.curve import ClientKeys
from daemon.pipeline import with_hop
from daemon.requests import ask
from daemon.selftest.judge import Judge
from daemon.selftest.live import CHANNEL, FS, SECONDS, requests_of
from daemon.selftest.run import SILENCE_S, TURN_S, Outcome
from daemon.selftest.signal import injections
from daemon.subscriber import Subscriber
from models.errors import ConfigError, InputError

__all__ = ["ask_selftest"]

ANSWER_S = 10.0
TOPICS = (*(f"{family}/{CHANNEL}/" for family in ("status", "window", "signature", "contact")), "heartbeat/")


def ask_selftest(config: Config, keys: ClientKeys | None = None) -> Outcome:
    """Have the daemon that runs with ``config`` test itself.

    Raises
    ------
    ConfigError
        If its settings do not allow it.
    InputError
        If it does not answer, or refuses.
    """
    if not config.selftest.live:
        raise ConfigError(
            "selftest.live is off: the daemon takes no self-test while it runs; without --live it runs here"
        )
    bundle = chosen_bundle(config)
    spec = with_hop(bundle.spec, config.window.hop_s)
    judge = Judge(injections(bundle, spec, FS, SECONDS), spec, FS, (CHANNEL,))
    endpoint, problems, n = config.publish.endpoints[0], [], 0
    with Subscriber(endpoint, TOPICS, keys=keys) as subscriber:
        if subscriber.receive(ANSWER_S) is None:  # a heartbeat at least: from here on nothing is missed
            raise InputError(f"{endpoint}: nobody publishes there, or it asks for keys (--server-key, --client-key)")
        answer = ask(requests_of(config), "selftest", ANSWER_S, "selftest.live")
        if answer is None or not answer.startswith("started"):
            raise InputError(
                f"{requests_of(config)}: {answer or 'no daemon answered; is it running with these settings?'}"
            )
        last = time.monotonic()
        while not judge.ended and time.monotonic() - last < SILENCE_S:
            message = subscriber.receive(TURN_S)
            if message is not None and message.family != "heartbeat":
                n, last = n + 1, time.monotonic()
                judge.hear(message)
        if not judge.ended:
            problems.append(f"nothing came for {SILENCE_S:g} s: does the daemon keep up? see its log")
        if subscriber.losses.n_lost:
            problems.append(f"{subscriber.losses.n_lost} messages were lost on the way")
    if judge.n_unmarked:
        problems.append(f"{judge.n_unmarked} records do not say 'test: true'")
    return Outcome(tuple(judge.verdicts()), tuple(problems), f"the daemon on {endpoint}", n, FS)
