"""How often contacts start on source-free sea, by the gate that their windows have to pass: measured, and asked for.

A curve holds, for rising gates, how many contacts started in so many hours. Between two gates the rate is interpolated
on a logarithmic scale. Gates at which fewer than ``MIN_COUNT`` contacts started, or in fewer than ``MIN_RECORDINGS``
recordings (a sea that resembles a ship starts contacts again and again), measure nothing by themselves: beyond the last
gate ``g0`` that does, the rate is *extrapolated* along ``rate(g0) exp(-b (g - g0))``. With ``S`` the count as a
function of the gate, ``1 / b`` is the mean excess ``integral of S over g0..g_end / (S(g0) - S(g_end))``: the maximum
likelihood estimate for exponential excesses that are not followed beyond the last gate (peaks over threshold). Where no
gate measures anything, ``g0`` is the last one before the curve falls, and all is extrapolated. Where no contact started
at all, the rate is taken for its bound by the rule of three, ``3 / hours``.

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
"""Contacts from which a gate counts as measured: a relative standard error of 32 % if they are independent."""
MIN_RECORDINGS = 5
"""Recordings that these must come from."""
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
    recordings: tuple[int, ...]
    """Recordings in which at least one started, one count per gate."""

    def __post_init__(self) -> None:
        if len(self.gates) < 2 or len(self.gates) != len(self.counts):
            raise ValueError(f"{len(self.gates)} gates and {len(self.counts)} counts: as many of each, two at least")
        if not all(a < b for a, b in zip(self.gates, self.gates[1:], strict=False)) or not _finite(self.gates):
            raise ValueError("gates do not rise")
        if len(self.recordings) != len(self.counts) or not all(
            0 <= r <= c for r, c in zip(self.recordings, self.counts, strict=True)
        ):
            raise ValueError("recordings are not as many as gates, or more of them than contacts")
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

        Where none was ever heard the lowest gate of all is taken, and its bound is what is expected, above ``per_hour``
        as it may be: to raise the gate would change nothing that is known.

        Raises
        ------
        ValueError
            If ``per_hour`` is not positive, or the curve does not fall and is too high throughout.
        """
        if not (math.isfinite(per_hour) and per_hour > 0.0):
            raise ValueError(f"{per_hour=} is not positive")
        gates, rates, n = np.array(self.gates), self._falling(), self._n_measured()
        if rates[0] == 0.0:
            return GateChoice(self.gates[0], 3.0 / self.hours, True)
        if rates[0] <= per_hour:
            return GateChoice(self.gates[0], float(rates[0]), n == 0)
        if n and rates[n - 1] <= per_hour:
            i = int(np.flatnonzero(rates[:n] <= per_hour)[0])
            t = (math.log(rates[i - 1]) - math.log(per_hour)) / (math.log(rates[i - 1]) - math.log(rates[i]))
            return GateChoice(float(gates[i - 1] + t * (gates[i] - gates[i - 1])), per_hour, False)
        fit = self._tail()
        if fit is not None:
            gate, rate, decay = fit
            return GateChoice(gate + math.log(rate / per_hour) / decay, per_hour, True)
        raise ValueError(
            f"{HOURS_PER_DAY * per_hour:g} contact starts per day are rarer than {self.hours:g} h can tell of"
        )

    def _falling(self) -> F64:
        """Rate at each gate, raised to the highest at any higher gate."""
        rates: F64 = np.maximum.accumulate(np.array(self.per_hour)[::-1])[::-1]
        return rates

    def _n_measured(self) -> int:
        """How many gates, from the lowest, count as measured."""
        seas = np.maximum.accumulate(np.array(self.recordings)[::-1])[::-1]
        enough = (self._falling() * self.hours >= MIN_COUNT - 1e-6) & (seas >= MIN_RECORDINGS)
        return int(np.count_nonzero(enough))

    def _tail(self) -> tuple[float, float, float] | None:
        """Gate ``g0``, the rate there and its decay per unit of gate beyond; None where nothing decays.

        ``g0`` is the last gate measured; where none is, the last one before the curve begins to fall.
        """
        rates = self._falling()
        k = self._n_measured() - 1 if self._n_measured() else int(np.flatnonzero(rates == rates[0])[-1])
        if rates[k] == rates[-1]:
            return None
        beyond, gates = rates[k:], np.array(self.gates[k:])
        area = float((0.5 * (beyond[1:] + beyond[:-1]) * np.diff(gates)).sum())
        return self.gates[k], float(rates[k]), float(rates[k] - rates[-1]) / area


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
    gates, counts, recordings = body["gates"], body["counts"], body["recordings"]
    if not all(isinstance(c, int) and not isinstance(c, bool) for c in (*counts, *recordings)):
        raise ValueError("a count is no whole number")
    return FalseAlarmCurve(
        kind=str(body["kind"]), hours=_number(body, "hours"), gates=tuple(map(float, gates)), counts=tuple(counts),
        recordings=tuple(recordings),
    )  # fmt: skip


def _number(body: Mapping[str, Any], key: str) -> float:
    value = body[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{key} = {value!r} is no number")
    return float(value)


def _finite(values: tuple[float, ...]) -> bool:
    return all(map(math.isfinite, values))
