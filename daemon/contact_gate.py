"""The rule of contacts that is in force: settings and what was measured of false alarms, made one, and put into words.

Operators ask for contact starts per day and channel on source-free sea. Classes get up to half of them, less if they
start fewer contacts without any gate; ``unknown`` gets the rest. The gates follow from the curves that were measured
with the same rule and the same bundle: those of the file that is set, else those that lie in the bundle.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from calibration.false_alarms import FILE_NAME, HOURS_PER_DAY, FalseAlarms, GateChoice
from daemon.config import Config
from daemon.contact_rule import HOLD_MARGIN, MAX_LOG_ODDS, ContactRule
from models.bundle import Bundle
from models.errors import BundleError, ConfigError

__all__ = ["EffectiveRule", "effective_rule", "measured", "rule_of"]

HOW = "'tonald experiments falsealarms --curve FILE' measures them"


@dataclass(frozen=True, kw_only=True, slots=True)
class EffectiveRule:
    """What starts and ends a contact, and what is to be expected of it."""

    rule: ContactRule
    hop_s: float
    asked_per_day: float | None
    """Contact starts per day and channel on source-free sea, as set; None: no gate was asked for."""
    classes: GateChoice | None
    """Expected of all classes together; None: not measured."""
    unknown: GateChoice | None
    data: str
    """What it was measured on, or why it was not."""

    @property
    def expected_per_day(self) -> float | None:
        """Contact starts per day and channel expected on source-free sea; None: not measured."""
        if self.classes is None or self.unknown is None:
            return None
        return HOURS_PER_DAY * (self.classes.per_hour + self.unknown.per_hour)

    @property
    def extrapolated(self) -> bool:
        """What is expected lies beyond what was measured."""
        return any(c is not None and c.extrapolated for c in (self.classes, self.unknown))

    def words(self) -> tuple[str, ...]:
        """The rule, the gates, and the false alarms, a sentence each."""
        return self._persistence(), self._gates(), self._alarms()

    def _persistence(self) -> str:
        r, span = self.rule, f"{self.rule.m * self.hop_s:g} s"
        gone = f"none of the last {r.m} does" if r.n_hold == 1 else f"fewer than {r.n_hold} of the last {r.m} do"
        return (
            f"a contact starts when {r.n_start} of {r.m} windows in a row = {span} hold its label, and ends when "
            f"{gone}, when more than {span} went unheard, or when the stream ends"
        )

    def _gates(self) -> str:
        r = self.rule
        if math.isinf(r.class_gate) and math.isinf(r.unknown_gate):
            return "every detection and every signature of 'unknown' counts"
        p = 1.0 / (1.0 + math.exp(-r.class_gate))
        return (
            f"towards a start count classes from a probability of {p:.6g} (log-odds {r.class_gate:.2f}) and 'unknown' "
            f"from {max(r.unknown_gate, 0.0):.2f} lines, each by its share of the window and hum apart; "
            f"towards holding it {HOLD_MARGIN['class']:g} (log-odds) and {HOLD_MARGIN['unknown']:g} (lines) less"
        )

    def _alarms(self) -> str:
        if self.classes is None or self.unknown is None or self.expected_per_day is None:
            return f"expected false contact starts: not measured, {self.data}"
        of = [HOURS_PER_DAY * c.per_hour for c in (self.classes, self.unknown)]
        how = "extrapolated beyond what was measured, along an exponential tail" if self.extrapolated else "measured"
        asked = "" if self.asked_per_day is None else f" (asked for: at most {self.asked_per_day:g})"
        return (
            f"expected false contact starts: {self.expected_per_day:.3g} per day and channel of source-free sea"
            f"{asked}, {of[0]:.3g} of classes and {of[1]:.3g} of 'unknown'; {how} on {self.data}"
        )

    def to_dict(self) -> dict[str, Any]:
        """As it stands in ``info/``."""
        r = self.rule
        return {
            "n_start": r.n_start, "m": r.m, "n_hold": r.n_hold, "hop_s": self.hop_s,
            "class_gate": _or_none(r.class_gate), "unknown_gate": _or_none(r.unknown_gate),
            "false_alarms_per_day": self.asked_per_day, "expected_per_day": self.expected_per_day,
            "extrapolated": self.extrapolated, "words": ". ".join(self.words()),
        }  # fmt: skip


def effective_rule(config: Config, bundle: Bundle) -> EffectiveRule:
    """Rule that these settings give with this bundle.

    Raises
    ------
    ConfigError
        If the curve that is set was measured with another rule or bundle, or tells nothing of so rare alarms.
    InputError
        If the curve that is set cannot be read.
    """
    c = config.contacts
    rule = ContactRule(n_start=c.n_start, m=c.m, n_hold=c.n_hold)
    asked = c.false_alarms_per_day or None
    alarms = measured(config, bundle)
    if alarms is None:
        why = f"this bundle holds none for its contacts: {HOW}"
        return EffectiveRule(
            rule=rule, hop_s=config.window.hop_s, asked_per_day=asked, classes=None, unknown=None, data=why
        )
    if other := _differs(alarms, config):
        if c.curve:
            raise ConfigError(f"contacts.curve = {c.curve!r} was measured with {other}: {HOW}")
        return EffectiveRule(
            rule=rule, hop_s=config.window.hop_s, asked_per_day=asked, classes=None, unknown=None,
            data=f"those of the bundle are for {other}: {HOW}",
        )  # fmt: skip
    return rule_of(config, alarms, asked)


def rule_of(config: Config, alarms: FalseAlarms, asked: float | None) -> EffectiveRule:
    """Rule for ``asked`` contact starts per day; None: without gates.

    Raises
    ------
    ConfigError
        If so rare alarms lie beyond what the measurement can tell of.
    """
    c = config.contacts
    rule = ContactRule(n_start=c.n_start, m=c.m, n_hold=c.n_hold)
    per_hour = math.inf if asked is None else asked / HOURS_PER_DAY
    try:
        free = [_open(alarms, kind) for kind in ("class", "unknown")]
        classes = free[0] if free[0].per_hour <= per_hour / 2 else alarms.curve("class").gate_for(per_hour / 2)
        rest = max(per_hour - classes.per_hour, per_hour / 2)  # of classes no more may be known than a bound
        unknown = free[1] if free[1].per_hour <= rest else alarms.curve("unknown").gate_for(rest)
        if classes.gate > MAX_LOG_ODDS:
            raise ValueError(f"no probability is as near to 1 as {per_hour / 2:g} false starts of classes per hour ask")
    except ValueError as e:
        raise ConfigError(f"contacts.false_alarms_per_day = {asked}: {e}") from e
    gated = replace(rule, class_gate=classes.gate, unknown_gate=unknown.gate)
    return EffectiveRule(
        rule=gated, hop_s=config.window.hop_s, asked_per_day=asked, classes=classes, unknown=unknown, data=alarms.data
    )


def _open(alarms: FalseAlarms, kind: str) -> GateChoice:
    """What is expected without any gate: the lowest of the curve lets everything pass."""
    curve = alarms.curve(kind)
    return curve.gate_for(max(curve.per_hour) + 1.0 / curve.hours)


def measured(config: Config, bundle: Bundle) -> FalseAlarms | None:
    """What is known of false alarms: the file that is set, else what lies in the bundle; None: nothing.

    Raises
    ------
    ConfigError
        If the file was measured with another bundle.
    InputError
        If it cannot be read.
    BundleError
        If the bundle changed since it was loaded.
    """
    if config.contacts.curve:
        alarms = FalseAlarms.read(Path(config.contacts.curve))
        if alarms.bundle is not None and alarms.bundle != bundle.id:
            raise ConfigError(
                f"contacts.curve = {config.contacts.curve!r} was measured with bundle {alarms.bundle}, "
                f"in use is {bundle.id}: {HOW}"
            )
        return alarms
    info = bundle.manifest.files.get(FILE_NAME)
    if info is None:
        return None
    try:
        data = (bundle.path / FILE_NAME).read_bytes()
    except OSError as e:
        raise BundleError(f"bundle {bundle.path}: {FILE_NAME} cannot be read: {e.strerror or e}") from e
    if hashlib.sha256(data).hexdigest() != info.sha256:
        raise BundleError(f"bundle {bundle.path}: {FILE_NAME} changed while it was read: fetch it again")
    return FalseAlarms.parse(data.decode("utf-8", "replace"), str(bundle.path / FILE_NAME))


def _differs(alarms: FalseAlarms, config: Config) -> str:
    """In which settings the measurement differs; empty: in none."""
    c, x = config.contacts, config.extract
    pairs = (
        ("contacts.n_start", alarms.n_start, c.n_start), ("contacts.m", alarms.m, c.m),
        ("contacts.n_hold", alarms.n_hold, c.n_hold), ("window.hop_s", alarms.hop_s, config.window.hop_s),
        ("extract.mode", alarms.mode, x.mode), ("extract.line_snr_db", alarms.line_snr_db, x.line_snr_db),
        ("extract.n_lines_unknown", alarms.n_lines_unknown, x.n_lines_unknown),
    )  # fmt: skip
    return ", ".join(f"{name} = {theirs}" for name, theirs, ours in pairs if theirs != ours)


def _or_none(x: float) -> float | None:
    return x if math.isfinite(x) else None
