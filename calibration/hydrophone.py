r"""The measuring chain of one channel: hydrophone, amplifiers, converter; from full scale to micropascal.

With the sensitivity ``S`` (dB re 1 V/µPa, negative), the gain ``G`` of all amplifiers between hydrophone and converter
(dB) and the voltage ``V`` at which the converter is full (peak), a sample ``x`` (full scale 1) is a sound pressure of

.. math:: p = x \cdot V \cdot 10^{-(S + G) / 20} \quad \mu Pa

so a level relative to full scale becomes a sound pressure level by adding ``20 lg V - S - G``: the level of full scale,
dB re 1 µPa. A sine that just fills the converter has that as its peak level, and 3.01 dB less as its mean-square sound
pressure level. A hydrophone that is not flat has a table of its response relative to ``S``, which is taken off at the
frequency in question; between entries it runs straight in dB over the logarithm of the frequency, beyond its ends it
keeps the last value.

Terms of ISO 18405:2017: mean-square sound pressure level in dB re 1 µPa (squared), mean-square sound pressure spectral
density level in dB re 1 µPa²/Hz. Sensitivities are no matter of that standard (see IEC 60565).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import ConfigError

__all__ = ["SINE_DB", "Hydrophone"]

F64 = npt.NDArray[np.float64]

SINE_DB = 10.0 * math.log10(2.0)
"""Peak over mean square of a sine."""

SENSITIVITY_DB = (-250.0, -100.0)
GAIN_DB = (-60.0, 140.0)
ADC_V = (1e-3, 100.0)
FULL_SCALE_DB = (60.0, 280.0)
RESPONSE_DB = (-80.0, 80.0)
#: Channels in use have no longer table.
MAX_ENTRIES = 10_000


def _key(default: Any, doc: str) -> Any:  # noqa: ANN401  (a dataclass default of any type)
    return dataclasses.field(default=default, metadata={"doc": doc})


@dataclass(frozen=True, kw_only=True, slots=True)
class Hydrophone:
    """One measuring chain, as set. Either sensitivity, gain and converter are given, or ``full_scale_db`` for all.

    Raises
    ------
    ConfigError
        If a value is missing, has the wrong sign or lies where no hydrophone does; the message says what was meant.
    """

    channel: str = _key("", "name of the channel, as in topics: ch0, ch1, ...")
    sensitivity_db: float = _key(
        math.nan, "dB re 1 V/uPa, negative: the hydrophone's, its built-in amplifier included; e.g. -170.0"
    )
    gain_db: float = _key(0.0, "dB of all amplifiers between hydrophone and converter")
    adc_vpeak: float = _key(math.nan, "V, peak, at which the converter is full: half of its peak-to-peak range")
    full_scale_db: float = _key(
        math.nan, "instead of the three above: peak level of full scale, dB re 1 uPa, as makers of recorders state it"
    )
    response_hz: tuple[float, ...] = _key((), "Hz, rising; frequencies of the response table; empty: flat")
    response_db: tuple[float, ...] = _key((), "dB relative to sensitivity_db at response_hz; positive: more sensitive")
    response_file: str = _key("", "the same as a CSV file: freq_hz,response_db or freq_hz,sensitivity_db (absolute)")
    serial: str = _key("", "serial number, for people")
    calibrated: str = _key("", "when and by whom it was calibrated, for people")

    def __post_init__(self) -> None:
        if not self.channel or not self.channel.isprintable() or "/" in self.channel or len(self.channel) > 64:
            raise ConfigError(f"channel = {self.channel!r}: name the channel, such as 'ch0'")
        if math.isnan(self.full_scale_db):
            self._check_chain()
        elif not (math.isnan(self.sensitivity_db) and math.isnan(self.adc_vpeak) and self.gain_db == 0.0):
            raise ConfigError(
                f"full_scale_db = {self.full_scale_db:g} states the whole chain: leave out sensitivity_db, gain_db and "
                "adc_vpeak, or state these instead"
            )
        low, high = FULL_SCALE_DB
        if not low <= self.full_scale_peak_db <= high:
            raise ConfigError(
                f"full_scale_db = {self.full_scale_peak_db:.1f} dB re 1 uPa is what these values give; no recorder "
                f"lies outside {low:g} to {high:g}: check signs and units"
            )
        self._check_response()

    def _check_chain(self) -> None:
        s, (low, high) = self.sensitivity_db, SENSITIVITY_DB
        if math.isnan(s):
            raise ConfigError("sensitivity_db is missing: dB re 1 V/uPa, negative, from the hydrophone's data sheet")
        if s > 0.0:
            hint = f"write {-s:g}" if low <= -s <= high else "or is it a value for full_scale_db, dB re 1 uPa?"
            raise ConfigError(
                f"sensitivity_db = {s:g} is positive: a hydrophone gives far less than 1 V per uPa, so its sensitivity "
                f"in dB re 1 V/uPa is negative; {hint}"
            )
        if s > high:
            raise ConfigError(
                f"sensitivity_db = {s:g} lies above {high:g}: dB re 1 V/uPa is meant; of dB re 1 V/Pa take off 120"
            )
        if s < low:
            raise ConfigError(f"sensitivity_db = {s:g} lies below {low:g} dB re 1 V/uPa: no hydrophone is so deaf")
        if not GAIN_DB[0] <= self.gain_db <= GAIN_DB[1]:
            raise ConfigError(f"gain_db = {self.gain_db:g} is not in {GAIN_DB[0]:g} to {GAIN_DB[1]:g} dB")
        if math.isnan(self.adc_vpeak):
            raise ConfigError("adc_vpeak is missing: V, peak, at which the converter is full (half of peak-to-peak)")
        if not ADC_V[0] <= self.adc_vpeak <= ADC_V[1]:
            raise ConfigError(f"adc_vpeak = {self.adc_vpeak:g} is not in {ADC_V[0]:g} to {ADC_V[1]:g} V, peak")

    def _check_response(self) -> None:
        f, r = self.response_hz, self.response_db
        if self.response_file and (f or r):
            raise ConfigError(f"response_file = {self.response_file!r}: give the table in the file or here, not both")
        if len(f) != len(r):
            raise ConfigError(f"response_db has {len(r)} values, response_hz {len(f)}: one for each frequency")
        if len(f) > MAX_ENTRIES:
            raise ConfigError(f"response_hz has {len(f)} entries: {MAX_ENTRIES} at most")
        if not all(math.isfinite(v) and v > 0.0 for v in f):
            raise ConfigError("response_hz holds a frequency that is not positive")
        for a, b in itertools.pairwise(f):
            if not a < b:
                raise ConfigError(f"response_hz does not rise: {b:g} Hz follows {a:g} Hz")
        low, high = RESPONSE_DB
        for hz, db in zip(f, r, strict=True):
            if not low <= db <= high:
                hint = "; absolute sensitivities go into a response_file with the column sensitivity_db"
                raise ConfigError(
                    f"response_db = {db:g} at {hz:g} Hz is not in {low:g} to {high:g} dB relative to sensitivity_db"
                    + (hint if db < low else "")
                )

    @property
    def full_scale_peak_db(self) -> float:
        """Peak level of full scale, dB re 1 µPa, where the response is 0 dB."""
        if not math.isnan(self.full_scale_db):
            return self.full_scale_db
        return 20.0 * math.log10(self.adc_vpeak) - self.sensitivity_db - self.gain_db

    @property
    def full_scale_sine_db(self) -> float:
        """Mean-square sound pressure level of a sine that just fills the converter, dB re 1 µPa."""
        return self.full_scale_peak_db - SINE_DB

    def response(self, freq_hz: npt.ArrayLike) -> F64:
        """Response at ``freq_hz`` (Hz, any shape), dB relative to the sensitivity."""
        f = np.maximum(np.asarray(freq_hz, np.float64), 1e-3)
        if not self.response_hz:
            return np.zeros(f.shape)
        out: F64 = np.interp(np.log(f), np.log(self.response_hz), self.response_db)
        return out

    def level_db(self, level_db_re_fs: float, freq_hz: float) -> float:
        """Mean-square sound pressure level, dB re 1 µPa, of a tonal of ``level_db_re_fs`` at ``freq_hz``."""
        return level_db_re_fs + self.full_scale_peak_db - float(self.response(freq_hz))

    def band_level_db(self, power: F64, freq_hz: F64) -> float:
        """Mean-square sound pressure level, dB re 1 µPa, of ``power`` ``(n,)`` re full scale squared at ``freq_hz``."""
        total = float((power * 10.0 ** (-self.response(freq_hz) / 10.0)).sum())
        return 10.0 * math.log10(total) + self.full_scale_peak_db if total > 0.0 else -math.inf

    def uncovered(self, low_hz: float, high_hz: float) -> str:
        """Where in the analysed band the response table says nothing, for people; empty: nowhere, or it is flat."""
        if not self.response_hz:
            return ""
        first, last = self.response_hz[0], self.response_hz[-1]
        parts = [f"below {first:g} Hz"] if first > low_hz else []
        parts += [f"above {last:g} Hz"] if last < high_hz else []
        if not parts:
            return ""
        return (
            f"the response is not known {' and '.join(parts)} of the analysed {low_hz:g} to {high_hz:g} Hz: "
            "its last value is taken there"
        )

    def words(self, low_hz: float, high_hz: float) -> str:
        """The chain in one line, for people to check."""
        table = f", response of {len(self.response_hz)} entries" if self.response_hz else ""
        gap = self.uncovered(low_hz, high_hz)
        return (
            f"{self.channel}: full scale = {self.full_scale_peak_db:.1f} dB re 1 uPa (peak), a sine of full scale "
            f"{self.full_scale_sine_db:.1f} dB re 1 uPa (mean square){table}" + (f"; {gap}" if gap else "")
        )

    def numbers(self) -> dict[str, Any]:
        """All that enters a level."""
        return {
            "channel": self.channel,
            "full_scale_peak_db": round(self.full_scale_peak_db, 9),
            "response_hz": list(self.response_hz),
            "response_db": list(self.response_db),
        }
