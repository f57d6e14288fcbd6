"""What truly sounds in a recording, line by line; the side-car ``NAME.truth.json``; and its masks over a window.

::

    {"labels": ["vessel_0"],
     "lines": [{"label": "vessel_0" or null, "t_s": [...], "f_hz": [...], "snr_db": [...]}]}

A line is a track: frequency and in-bin SNR (Hann frame with 2 Hz bins) at times after the recording's first sample,
straight between them, absent outside. A null label is a foreign line. Other keys are left unread.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from models.errors import InputError
from models.features import FeatureSpec

__all__ = ["TONE_SNR_DB", "LineTrack", "Truth", "TruthMasks", "truth_masks", "truth_path"]

F64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: A line counts as a tone to be kept where its in-bin SNR is at least this, dB.
TONE_SNR_DB = 3.0
_HALF_TONE, _HALF_GUARD = 1.0, 3.0  # rows to either side


@dataclass(frozen=True, slots=True, eq=False)
class LineTrack:
    """One tonal line over time."""

    label: str | None
    """Whose line it is; None for a foreign one."""
    t_s: F64
    """``(n,)`` after the first sample, strictly ascending."""
    f_hz: F64
    """``(n,)``"""
    snr_db: F64
    """``(n,)``"""

    def at(self, t_s: F64) -> tuple[F64, F64]:
        """Frequency and SNR at ``t_s`` ``(n,)``; NaN where the line is absent."""
        f = np.interp(t_s, self.t_s, self.f_hz, left=np.nan, right=np.nan)
        snr = np.interp(t_s, self.t_s, self.snr_db, left=np.nan, right=np.nan)
        return f, snr


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """All that is known of a recording."""

    labels: tuple[str, ...]
    """Classes that sound; empty for ambient noise."""
    lines: tuple[LineTrack, ...]

    def write(self, path: Path) -> None:
        """Write the side-car; times to 1e-6 s, frequencies to 1e-4 Hz, SNR to 1e-3 dB."""
        lines = [
            {
                "label": line.label,
                "t_s": np.round(line.t_s, 6).tolist(),
                "f_hz": np.round(line.f_hz, 4).tolist(),
                "snr_db": np.round(line.snr_db, 3).tolist(),
            }
            for line in self.lines
        ]
        path.write_text(json.dumps({"labels": list(self.labels), "lines": lines}) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> Truth:
        """Read a side-car.

        Raises
        ------
        InputError
            If the file is missing, is no JSON, or a key is missing or wrong; the message names file and key.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except OSError as e:
            raise InputError(f"{path}: cannot be read: {e.strerror or e}") from e
        except UnicodeDecodeError as e:
            raise InputError(f"{path}: is no UTF-8 text: {e.reason} at byte {e.start}") from e
        except RecursionError as e:
            raise InputError(f"{path}: is nested too deeply for a truth file") from e
        except ValueError as e:
            raise InputError(f"{path}: is no JSON: {e}") from e
        return _Parser(path).truth(values)


def truth_path(audio: Path) -> Path:
    """Side-car of a recording: ``NAME.wav`` to ``NAME.truth.json``."""
    return audio.with_name(audio.stem + ".truth.json")


class _Parser:
    """Checks every value; each complaint names the file and the key."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _fail(self, key: str, what: str) -> NoReturn:
        raise InputError(f"{self._path}: {key}: {what}")

    def _get(self, values: Any, key: str, where: str) -> Any:  # noqa: ANN401  (JSON may hold anything)
        if not isinstance(values, dict):
            self._fail(where or "top level", f"must be a map, is {_kind(values)}")
        if key not in values:
            self._fail(f"{where}.{key}" if where else key, "is missing")
        return values[key]

    def truth(self, values: Any) -> Truth:  # noqa: ANN401
        labels = self._get(values, "labels", "")
        if not isinstance(labels, list) or not all(isinstance(s, str) and s for s in labels):
            self._fail("labels", "must be a list of names")
        lines = self._get(values, "lines", "")
        if not isinstance(lines, list):
            self._fail("lines", f"must be a list, is {_kind(lines)}")
        return Truth(tuple(labels), tuple(self._line(line, f"lines[{i}]") for i, line in enumerate(lines)))

    def _line(self, values: Any, where: str) -> LineTrack:  # noqa: ANN401
        label = self._get(values, "label", where)
        if not (label is None or (isinstance(label, str) and label)):
            self._fail(f"{where}.label", f"must be a name or null, is {_kind(label)}")
        t, f, snr = (self._numbers(self._get(values, k, where), f"{where}.{k}") for k in ("t_s", "f_hz", "snr_db"))
        for key, a in (("f_hz", f), ("snr_db", snr)):
            if a.size != t.size:
                self._fail(f"{where}.{key}", f"has {a.size} values, but t_s has {t.size}")
        if np.any(np.diff(t) <= 0):
            self._fail(f"{where}.t_s", f"is not ascending at index {int(np.argmax(np.diff(t) <= 0)) + 1}")
        if np.any(f <= 0):
            self._fail(f"{where}.f_hz", f"is not positive at index {int(np.argmax(f <= 0))}")
        return LineTrack(label, t, f, snr)

    def _numbers(self, values: Any, key: str) -> F64:  # noqa: ANN401
        if not isinstance(values, list) or not values:
            self._fail(key, "must be a non-empty list of numbers")
        for i, v in enumerate(values):
            if isinstance(v, bool) or not isinstance(v, (int, float)):
                self._fail(f"{key}[{i}]", f"must be a number, is {_kind(v)}")
            if abs(v) > 1e12 or not math.isfinite(v):
                self._fail(f"{key}[{i}]", f"is out of all reason: {str(v)[:20]}")
        a = np.array(values, np.float64)
        a.setflags(write=False)
        return a


def _kind(value: Any) -> str:  # noqa: ANN401
    names = {dict: "a map", list: "a list", str: "text", bool: "true/false", type(None): "null"}
    return names.get(type(value), "a number")


@dataclass(frozen=True, slots=True, eq=False)
class TruthMasks:
    """Truth over one window, each bool ``(n_freq, n_time)``; cells in none of them hold noise."""

    tone: Mask
    """Within 1 bin of a line of the label, where its SNR is at least 3 dB."""
    guard: Mask
    """Within 3 bins of any line of the label, ``tone`` left out: counted neither way."""
    interferer: Mask
    """Within 1 bin of a foreign line, outside ``tone`` and ``guard``."""
    other: Mask
    """Within 1 bin of a line of another label, outside ``tone`` and ``guard``."""


def _band(lines: list[tuple[F64, Mask]], spec: FeatureSpec, half: float) -> Mask:
    """Cells within ``half`` rows of the tracks; each track is ``(row (n_time,), where it counts)``."""
    rows = np.arange(spec.n_freq)[:, None]
    mask = np.zeros((spec.n_freq, spec.n_time), np.bool_)
    for row, counts in lines:
        mask |= (np.abs(rows - np.where(counts, row, -np.inf)) <= half) & counts
    return mask


def truth_masks(truth: Truth, spec: FeatureSpec, fs: int, window_first_sample: int, label: str) -> TruthMasks:
    """Masks of the window that starts at ``window_first_sample`` (source samples), as seen by ``label``.

    Lines are read at the centre of each column. ``tone`` and ``guard`` are empty for a label without lines.

    Parameters
    ----------
    truth : Truth
    spec : FeatureSpec
    fs : int
        Rate of the recording, Hz.
    window_first_sample : int
    label : str
        Whose tones are wanted.

    Returns
    -------
    TruthMasks
        As in Table I of the method: tone, don't-care ring, foreign tones, tones of others.
    """
    t = (window_first_sample + spec.column_centres(fs)) / fs
    own: list[tuple[F64, Mask]] = []
    strong: list[tuple[F64, Mask]] = []
    foreign: list[tuple[F64, Mask]] = []
    others: list[tuple[F64, Mask]] = []
    for line in truth.lines:
        f, snr = line.at(t)
        row, present = f / spec.bin_hz, np.isfinite(f)
        if line.label == label:
            own.append((row, present))
            strong.append((row, present & (np.where(present, snr, -np.inf) >= TONE_SNR_DB)))
        else:
            (foreign if line.label is None else others).append((row, present))
    tone = _band(strong, spec, _HALF_TONE)
    near = _band(own, spec, _HALF_GUARD)
    masks = (tone, near & ~tone, _band(foreign, spec, _HALF_TONE) & ~near, _band(others, spec, _HALF_TONE) & ~near)
    for m in masks:
        m.setflags(write=False)
    return TruthMasks(*masks)
