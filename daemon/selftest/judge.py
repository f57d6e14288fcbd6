"""What a subscriber heard of the injections, held against what was put in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from daemon.selftest.signal import Injection
from daemon.selftest.source import SOURCE
from daemon.wire import Message
from models.features import FeatureSpec

__all__ = ["Judge", "Verdict"]

LEAST_SHARE = 0.5
"""Of the windows of an injection, those that must name its class."""
LEAST_LINES = 0.6
"""Of the tonals injected, those that must be in its signatures."""
NEAR_BINS = 1.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one injection on one channel."""

    label: str
    channel: str
    n_windows: int
    n_expected: int
    n_named: int
    n_lines: int
    n_lines_expected: int
    worst_hz: float
    """Of the tonals found, the largest error of the mean frequency."""
    contact: bool
    problems: tuple[str, ...]

    def __str__(self) -> str:
        good = "FAILED" if self.problems else "ok"
        if not self.label:
            return f"{good:6} {self.channel}: noise alone, named {self.n_named} of {self.n_windows} windows"
        return (
            f"{good:6} {self.channel}: {self.label} in {self.n_named} of {self.n_windows} windows, "
            f"{self.n_lines} of {self.n_lines_expected} tonals within {self.worst_hz:.2f} Hz, "
            f"{'a contact' if self.contact else 'no contact'}"
        )


@dataclass(slots=True)
class _Heard:
    slots: set[int] = field(default_factory=set)
    skipped: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    named: dict[str, list[list[float]]] = field(default_factory=lambda: defaultdict(list))
    contacts: set[str] = field(default_factory=set)


class Judge:
    """Takes messages, then says what was missing.

    Parameters
    ----------
    injections : sequence of Injection
        One per epoch.
    spec : FeatureSpec
    fs : int
        Hz.
    channels : sequence of str
    """

    def __init__(self, injections: Sequence[Injection], spec: FeatureSpec, fs: int, channels: Sequence[str]) -> None:
        self._injections, self._spec, self._fs, self._channels = injections, spec, fs, tuple(channels)
        self._heard: dict[tuple[int, str], _Heard] = defaultdict(_Heard)
        self.ended = False
        """The last stream is over."""
        self.n_unmarked = 0
        """Records of the injections that do not say ``test: true``."""

    def hear(self, message: Message) -> None:
        """Take one message; what is not of the injections is passed over."""
        body = message.body
        if body.get("source") != SOURCE:
            return
        self.n_unmarked += body["test"] is not True
        if message.family == "status":
            self.ended = self.ended or (body["state"] == "ended" and body["final"])
            return
        heard = self._heard[body["epoch"], str(body["channel"])]
        if message.family == "window":
            heard.slots.add(body["grid_index"])
            if not body["analysed"]:
                heard.skipped[body["reason"]] += 1
        elif message.family == "signature":
            heard.named[body["label"]].append([line["freq_hz"] for line in body["lines"]])
        elif message.family == "contact" and body["event"] == "start":
            heard.contacts.add(body["label"])

    def verdicts(self) -> list[Verdict]:
        """One for each injection and channel, in their order."""
        return [
            self._verdict(epoch, injection, channel)
            for epoch, injection in enumerate(self._injections)
            for channel in self._channels
        ]

    def _verdict(self, epoch: int, injection: Injection, channel: str) -> Verdict:
        heard, label = self._heard[epoch, channel], injection.label
        n_expected = self._spec.n_windows(self._fs, injection.n_samples)
        problems = []
        if heard.slots != set(range(n_expected)):
            problems.append(f"{len(heard.slots)} of {n_expected} windows came out")
        for reason, n in heard.skipped.items():
            problems.append(f"{n} windows were not analysed: {reason}")
        errors = self._errors(injection, heard.named[label]) if label else []
        named = {name: len(found) for name, found in heard.named.items() if name != "unknown" and found}
        n_named = named.get(label, 0) if label else sum(named.values())
        if label and n_named < LEAST_SHARE * n_expected:
            problems.append(f"{label} was named in {n_named} of {n_expected} windows: {named or 'no class'} was")
        if not label and n_named:
            problems.append(f"noise alone was named: {named}")
        if label and n_named and len(errors) < LEAST_LINES * len(injection.freq_hz):
            problems.append(f"{len(errors)} of {len(injection.freq_hz)} tonals are in its signatures")
        contact = label in heard.contacts
        if label and n_named and not contact:
            problems.append("no contact started: see contacts.false_alarms_per_day")
        return Verdict(
            label, channel, len(heard.slots), n_expected, n_named, len(errors), len(injection.freq_hz),
            max(errors, default=0.0), contact, tuple(problems),
        )  # fmt: skip

    def _errors(self, injection: Injection, found: list[list[float]]) -> list[float]:
        """Error of the mean frequency, Hz, of each tonal found in half of the signatures or more."""
        errors = []
        for f in injection.freq_hz:
            near = [min(lines, key=lambda g, f=f: abs(g - f)) for lines in found if lines]  # type: ignore[misc]  # bound now
            near = [g for g in near if abs(g - f) <= NEAR_BINS * self._spec.bin_hz]
            if near and 2 * len(near) >= len(found):
                errors.append(abs(sum(near) / len(near) - f))
        return errors
