"""The rule of contacts: how often a label must be heard, how clearly, and when it counts as gone.

Per channel and label the last ``m`` analysed windows are looked at. A contact *starts* when at least ``n_start`` of
them hold the label with a score of at least the gate; it *holds* while at least ``n_hold`` of them do with a score of
at least the gate less a margin, and *ends* at the first window in which they do not. Two thresholds, in number and in
score: a source that stands at the edge does not start and end again and again.

Windows that were not analysed count as neither. If more than ``m`` steps of the grid went by that no window has heard,
all that was counted is forgotten: a gap is never bridged.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Literal, TypeAlias

from daemon.extract import UNKNOWN
from daemon.frames import Signature
from daemon.line_score import line_score

__all__ = ["ContactRule", "Kind", "Persistence", "kind_of", "score_of"]

Kind: TypeAlias = Literal["class", "unknown"]
"""Classes share one gate, ``unknown`` has its own: they are scored by different evidence."""

HOLD_MARGIN: dict[Kind, float] = {"class": 1.0, "unknown": 2.5}
"""What holds a contact may lie below its gate by this, log-odds and lines. Lines come and go whole, so the margin must
be no whole number of them: on 20 h of simulated source-free sea a gate of 7.25 lines let 18 contacts start at a margin
of 2 lines and 8 at 2.5 or 3; 2.5 lets them end sooner (docs/decisions.md)."""
MAX_LOG_ODDS = 20.0
"""Float32 probabilities tell no more apart next to 1."""


def kind_of(label: str) -> Kind:
    """Which gate the label has to pass."""
    return "unknown" if label == UNKNOWN else "class"


def score_of(signature: Signature, span_s: float) -> float:
    """How clearly one window, whose columns span ``span_s``, shows the label.

    Of a class: log-odds ``ln(p / (1 - p))`` of its probability, within +-20. Of ``unknown``: the number of its lines,
    each counted by the share of the window from its first to its last column; no class vouches for them, so their
    number must. Lines on a multiple of 50 or 60 Hz count nothing: hum of the mains is heard in any hydrophone; nor do
    those of the own ship.
    """
    if kind_of(signature.label) == "unknown":
        return line_score(signature.lines, span_s)
    p = min(max(float(signature.probability), 0.0), 1.0)
    if p in (0.0, 1.0):
        return math.copysign(MAX_LOG_ODDS, p - 0.5)
    return min(max(math.log(p / (1.0 - p)), -MAX_LOG_ODDS), MAX_LOG_ODDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class ContactRule:
    """n of m with hysteresis.

    Raises
    ------
    ValueError
        If ``1 <= n_hold <= n_start <= m`` does not hold or a gate is not a number.
    """

    n_start: int = 3
    """Windows of the last ``m`` that start a contact."""
    m: int = 5
    """Windows looked back upon, the latest included."""
    n_hold: int = 1
    """Windows of the last ``m`` that hold it."""
    class_gate: float = -math.inf
    """Least score of a class, log-odds; -inf: every detection counts."""
    unknown_gate: float = -math.inf
    """Least score of ``unknown``, lines; -inf: every signature counts."""

    def __post_init__(self) -> None:
        if not 1 <= self.n_hold <= self.n_start <= self.m:
            raise ValueError(f"1 <= n_hold={self.n_hold} <= n_start={self.n_start} <= m={self.m} does not hold")
        if math.isnan(self.class_gate) or math.isnan(self.unknown_gate):
            raise ValueError(f"gates {self.class_gate} and {self.unknown_gate}: one is not a number")

    def gate(self, label: str) -> float:
        """Least score that counts towards a start."""
        return self.unknown_gate if kind_of(label) == "unknown" else self.class_gate

    def hold_gate(self, label: str) -> float:
        """Least score that counts towards holding."""
        return self.gate(label) - HOLD_MARGIN[kind_of(label)]


class Persistence:
    """Counts one label of one channel: stateful, no clock.

    Parameters
    ----------
    rule : ContactRule
    label : str
    """

    def __init__(self, rule: ContactRule, label: str) -> None:
        self._rule, self._gate, self._hold_gate = rule, rule.gate(label), rule.hold_gate(label)
        self._started = False
        self._starts: deque[bool] = deque(maxlen=rule.m)
        self._holds: deque[bool] = deque(maxlen=rule.m)

    @property
    def started(self) -> bool:
        """A contact is held."""
        return self._started

    @property
    def idle(self) -> bool:
        """Nothing of the label is remembered."""
        return not self._started and not any(self._holds)

    def hears(self, score: float | None) -> bool:
        """Whether a window of this score counts as heard at all, towards holding."""
        return score is not None and score >= self._hold_gate

    def process(self, score: float | None) -> Literal["start", "end"] | None:
        """Take in one analysed window; None: the label is not in it."""
        self._starts.append(score is not None and score >= self._gate)
        self._holds.append(self.hears(score))
        if not self._started and sum(self._starts) >= self._rule.n_start:
            self._started = True
            return "start"
        if self._started and sum(self._holds) < self._rule.n_hold:
            self.reset()
            return "end"
        return None

    def reset(self) -> None:
        """Forget everything."""
        self._started = False
        self._starts.clear()
        self._holds.clear()
