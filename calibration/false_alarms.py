"""How often contacts start on source-free sea, by the gate that their windows have to pass: measured, and asked for.

A curve holds, for rising gates, how many contacts started in so many hours. Between two gates the rate is interpolated
on a logarithmic scale. Gates at which fewer than ``MIN_COUNT`` contacts started measure nothing by themselves: beyond
the last gate ``g0`` that does, the rate is *extrapolated* along ``rate(g0) exp(-b (g - g0))``. With ``S`` the count as
a function of the gate, ``1 / b`` is the mean excess ``integral of S over g0..g_end / (S(g0) - S(g_end))``: the maximum
likelihood estimate for exponential excesses that are not followed beyond the last gate (peaks over threshold). Where
nothing decays, the rate is bounded by the rule of three, ``3 / hours`` with nothing seen.

Rates need not fall as the gate rises (a contact that never ends starts only once), so each is raised to the highest at
any higher gate. Intervals are exact Poisson intervals (Garwood, Biometrika 28, 1936): contacts of one recording are not
independent, so they are a little too narrow.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.special

from models.errors import InputError

__all__ = ["FILE_NAME", "FalseAlarmCurve", "FalseAlarms", "GateChoice", "poisson_interval"]

F64 = npt.NDArray[np.float64]

FILE_NAME = "false_alarms.json"
"""Within a bundle."""
SCHEMA = "tonald/false-alarms/1"
MIN_COUNT = 10
"""Contacts from which a gate counts as measured: a relative standard error of 32 %."""
HOURS_PER_DAY = 24.0


def poisson_interval(count: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of the expectation behind a Poisson count.

    Raises
    ------
    ValueError
        If ``count`` is negative or ``level`` not inside 0..1.
    """
    if count < 0 or not 0.0 < level < 1.0:
        raise ValueError(f"{count=} is negative or {level=} is not inside 0..1")
    tail = (1.0 - level) / 2.0
    lo = 0.0 if count == 0 else float(scipy.special.gammaincinv(count, tail))
    return lo, float(scipy.special.gammaincinv(count + 1, 1.0 - tail))


@dataclass(frozen=True, slots=True)
class GateChoice:
    """A gate and what is to be expected of it."""

    gate: float
    per_hour: float
    """Contact starts per hour expected on source-free sea."""
    extrapolated: bool
    """The rate lies beyond what was measured."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FalseAlarmCurve:
    """Contact starts on source-free sea by gate, of one kind of contact.

    Raises
    ------
    ValueError
        If gates do not rise, counts do not fit them, or the hours are not positive.
    """

    kind: str
    """``class`` or ``unknown``."""
    hours: float
    """Listened to, h, summed over channels."""
    gates: tuple[float, ...]
    counts: tuple[int, ...]
    """Contacts that started, one count per gate."""

    def __post_init__(self) -> None:
        if len(self.gates) < 2 or len(self.gates) != len(self.counts):
            raise ValueError(f"{len(self.gates)} gates and {len(self.counts)} counts: as many of each, two at least")
        if not all(a < b for a, b in zip(self.gates, self.gates[1:], strict=False)) or not _finite(self.gates):
            raise ValueError("gates do not rise")
        if min(self.counts) < 0 or not (math.isfinite(self.hours) and self.hours > 0.0):
            raise ValueError(f"a count is negative or hours={self.hours} is not positive")

    @property
    def per_hour(self) -> tuple[float, ...]:
        """Measured rate at each gate."""
        return tuple(c / self.hours for c in self.counts)

    @property
    def intervals_per_hour(self) -> tuple[tuple[float, float], ...]:
        """Poisson 95 % interval of each rate."""
        return tuple((lo / self.hours, hi / self.hours) for lo, hi in map(poisson_interval, self.counts))

    def gate_for(self, per_hour: float) -> GateChoice:
        """The lowest gate of which no more than ``per_hour`` contact starts are expected.

        Raises
        ------
        ValueError
            If ``per_hour`` is not positive, or lies where neither measurement nor fit reaches.
        """
        if not (math.isfinite(per_hour) and per_hour > 0.0):
            raise ValueError(f"{per_hour=} is not positive")
        gates, rates, n = np.array(self.gates), self._falling(), self._n_measured()
        if rates[0] <= per_hour:
            return GateChoice(self.gates[0], float(rates[0]), n == 0)
        if n and rates[n - 1] <= per_hour:
            i = int(np.flatnonzero(rates[:n] <= per_hour)[0])
            t = (math.log(rates[i - 1]) - math.log(per_hour)) / (math.log(rates[i - 1]) - math.log(rates[i]))
            return GateChoice(float(gates[i - 1] + t * (gates[i] - gates[i - 1])), per_hour, False)
        fit = self._tail()
        if fit is not None:
            gate, decay = fit
            return GateChoice(gate + math.log(rates[n - 1] / per_hour) / decay, per_hour, True)
        if per_hour * self.hours >= 3.0 and self.counts[-1] == 0:
            return GateChoice(self.gates[int(np.flatnonzero(rates == 0.0)[0])], per_hour, True)
        raise ValueError(
            f"{HOURS_PER_DAY * per_hour:g} contact starts per day are rarer than {self.hours:g} h can tell of"
        )

    def _falling(self) -> F64:
        """Rate at each gate, raised to the highest at any higher gate."""
        rates: F64 = np.maximum.accumulate(np.array(self.per_hour)[::-1])[::-1]
        return rates

    def _n_measured(self) -> int:
        """How many gates, from the lowest, count as measured."""
        return int(np.count_nonzero(self._falling() * self.hours >= MIN_COUNT))

    def _tail(self) -> tuple[float, float] | None:
        """Last gate measured, and the decay per unit of gate beyond it; None where nothing decays."""
        n, rates = self._n_measured(), self._falling()
        if n == 0 or rates[n - 1] == rates[-1]:
            return None
        beyond, gates = rates[n - 1 :], np.array(self.gates[n - 1 :])
        area = float((0.5 * (beyond[1:] + beyond[:-1]) * np.diff(gates)).sum())
        return self.gates[n - 1], float(rates[n - 1] - rates[-1]) / area


@dataclass(frozen=True, kw_only=True, slots=True)
class FalseAlarms:
    """All that was measured for one rule of contacts.

    Raises
    ------
    ValueError
        If a kind is missing or given twice.
    """

    n_start: int
    m: int
    n_hold: int
    hop_s: float
    """The rule it was measured with, see `daemon.contact_rule.ContactRule`."""
    mode: str
    line_snr_db: float
    n_lines_unknown: int
    """The settings of the extraction it was measured with."""
    data: str
    """What was listened to, for people."""
    synthetic: bool
    """The sea was simulated."""
    bundle: str | None
    """Bundle it was measured with; None: the one it lies in."""
    curves: tuple[FalseAlarmCurve, ...]

    def __post_init__(self) -> None:
        if sorted(c.kind for c in self.curves) != ["class", "unknown"]:
            raise ValueError("one curve each of 'class' and 'unknown' is needed")

    def curve(self, kind: str) -> FalseAlarmCurve:
        """The curve of ``class`` or ``unknown``."""
        return next(c for c in self.curves if c.kind == kind)

    def to_json(self) -> str:
        """As a file: what `parse` reads, and rates with intervals for people."""
        body: dict[str, Any] = {"schema": SCHEMA, **asdict(self)}
        for entry, curve in zip(body["curves"], self.curves, strict=True):
            entry["per_hour"] = [round(r, 6) for r in curve.per_hour]
            entry["interval_95_per_hour"] = [[round(v, 6) for v in pair] for pair in curve.intervals_per_hour]
        return json.dumps(body, indent=1) + "\n"

    @classmethod
    def parse(cls, text: str, name: str = FILE_NAME) -> FalseAlarms:
        """Read what `to_json` wrote; rates are computed anew from the counts.

        Raises
        ------
        InputError
            If it is nothing of the kind.
        """
        try:
            body = json.loads(text)
            if not isinstance(body, dict) or body.pop("schema", None) != SCHEMA:
                raise ValueError(f"its schema is not {SCHEMA}")
            curves = tuple(_curve(c) for c in body.pop("curves"))
            numbers = {k: _number(body, k) for k in ("n_start", "m", "n_hold", "hop_s", "line_snr_db")}
            whole = {k: int(numbers[k]) for k in ("n_start", "m", "n_hold")}
            return cls(
                **whole, hop_s=numbers["hop_s"], line_snr_db=numbers["line_snr_db"],
                n_lines_unknown=int(_number(body, "n_lines_unknown")), mode=str(body["mode"]), data=str(body["data"]),
                synthetic=bool(body["synthetic"]), bundle=None if body["bundle"] is None else str(body["bundle"]),
                curves=curves,
            )  # fmt: skip
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
            raise InputError(f"{name}: holds no measured false alarms: {e!r}") from e

    @classmethod
    def read(cls, path: Path) -> FalseAlarms:
        """Read a file.

        Raises
        ------
        InputError
            If it is missing or nothing of the kind.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise InputError(f"{path}: cannot be read: {e}") from e
        return cls.parse(text, str(path))


def _curve(body: Mapping[str, Any]) -> FalseAlarmCurve:
    gates, counts = body["gates"], body["counts"]
    if not all(isinstance(c, int) and not isinstance(c, bool) for c in counts):
        raise ValueError("a count is no whole number")
    return FalseAlarmCurve(
        kind=str(body["kind"]), hours=_number(body, "hours"), gates=tuple(map(float, gates)), counts=tuple(counts)
    )


def _number(body: Mapping[str, Any], key: str) -> float:
    value = body[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} = {value!r} is no number")
    return float(value)


def _finite(values: tuple[float, ...]) -> bool:
    return all(map(math.isfinite, values))
