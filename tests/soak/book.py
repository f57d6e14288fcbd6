"""The account of a soak, kept as records come: every slot once, in order, analysed unless its sound was spoilt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from daemon.wire import Message
from models.feature_spec import FeatureSpec
from tests.soak.sound import Loop


@dataclass
class Book:
    """What was published of one stream, against what the sound was."""

    spec: FeatureSpec
    loop: Loop
    n_channels: int
    n_published: int = 0
    n_declared: int = 0
    n_signatures: int = 0
    n_signatures_told: int = 0
    n_gaps: int = 0
    lost_samples: int = 0
    problems: list[str] = field(default_factory=list)
    """At most a few; ``n_problems`` counts them all."""
    n_problems: int = 0
    ended: dict[str, int] = field(default_factory=dict)
    """Samples that the stream had, by channel, once told."""
    final: dict[str, Any] | None = None
    """The last heartbeat."""
    _next: dict[str, int] = field(default_factory=dict)

    def enter(self, message: Message) -> None:
        """Account for one record."""
        body = message.body
        match message.family:
            case "window":
                self._window(body["channel"], body)
            case "signature":
                self.n_signatures += 1
            case "gap":
                self.n_gaps += 1
                self.lost_samples += body["n_samples"] or 0
                self._promise(body["reason"] == "invalid", f"gap for another reason: {body['reason']}")
            case "status" if body["state"] == "ended":
                self.ended[body["channel"]] = body["n_samples"]
            case "heartbeat" if body["final"]:
                self.final = dict(body)

    @property
    def slots(self) -> int:
        """Records of windows so far, all channels."""
        return self.n_published + self.n_declared

    def _window(self, channel: str, body: Any) -> None:
        g = self._next.get(channel, 0)
        self._next[channel] = body["grid_index"] + 1
        self._promise(body["grid_index"] == g, f"{channel}: slot {body['grid_index']} where {g} was due")
        self._promise(body["first_sample"] == g * self.spec.step(self.loop.fs), f"{channel}: slot {g} off the grid")
        spoilt = self.loop.n_spoilt(int(channel[2:]), body["first_sample"], body["n_samples"])
        self._promise(body["lost_samples"] == spoilt, f"{channel}: slot {g} tells {body['lost_samples']}, not {spoilt}")
        self._promise(body["analysed"] == (spoilt == 0), f"{channel}: slot {g}, {spoilt} spoilt: {body['analysed']=}")
        self.n_published += body["analysed"]
        self.n_declared += not body["analysed"]
        self.n_signatures_told += body["n_signatures"]

    def _promise(self, kept: bool, words: str) -> None:
        if not kept:
            self.n_problems += 1
            if len(self.problems) < 20:
                self.problems.append(words)

    def close(self, n_samples: int) -> None:
        """Compare with what must have come of ``n_samples`` per channel."""
        wanted = self.spec.n_windows(self.loop.fs, n_samples) * self.n_channels
        self._promise(self.slots == wanted, f"{self.slots} windows, {wanted} follow from {n_samples} samples")
        self._promise(self.n_signatures == self.n_signatures_told, "signatures missing")
        self._promise(set(self.ended.values()) == {n_samples}, f"lengths told: {self.ended}, true: {n_samples}")
        self._promise(self.final is not None and self.final["n_dropped"] == 0, "no last heartbeat, or drops")
        spoilt = sum(self.loop.n_spoilt(c, 0, n_samples) for c in range(self.n_channels))
        self._promise(self.lost_samples == spoilt, f"gaps of {self.lost_samples} samples, spoilt were {spoilt}")
