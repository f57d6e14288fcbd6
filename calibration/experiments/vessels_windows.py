"""Windows of real recordings for `tonald experiments vessels`: what each judge sees, and whose they are.

Each recording is cut into pieces of `SECONDS`; the mean of a piece is taken away, as recorders betray themselves by it.
Bands are measured on the samples as recorded, up to `BAND_HZ`, a band that every recorder has. Lines are found after
the front end's own resampler has brought all recordings to one rate.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from calibration.dataset import Progress, no_progress
from models.errors import InputError
from models.families import families
from models.feature_spec import FeatureSpec, resampler
from models.features import windows_of
from models.tracks import COHERENT, EVEN_EVIDENCE, TrackFinder

__all__ = ["LINE_FIGURES", "N_MODEL", "SECONDS", "SPEC", "VESSEL", "Windows", "line_figures", "look"]

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

SECONDS = 5.0
BAND_HZ, N_BANDS = (20.0, 900.0), 32
VESSEL = "vessel"
SPEC = FeatureSpec(n_time=32, n_time_step=4)
#: Samples at `SPEC.fs_model` that are heard of each piece: two windows of `SPEC`, the last of which is judged.
N_MODEL = (SPEC.n_time + SPEC.n_time_step - 1) * SPEC.hop + SPEC.n_fft
#: Networks of hydrophones, as they are written in names of files.
NETWORKS = ("orcasound", "onc")
#: What is told of the lines of a window.
LINE_FIGURES = ("coherent", "tones", "evidence", "strongest", "in families")


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Windows of recordings; arrays have one entry per window."""

    folder: npt.NDArray[np.str_]
    group: npt.NDArray[np.str_]
    """Vessel, or session of ambient recordings."""
    site: npt.NDArray[np.str_]
    """Where and by whom it was recorded."""
    spectra: F64
    """``(n, N_BANDS)`` dB, mean 0."""
    lines: F64
    """``(n, 5)``: coherent tracks, tones, log of the summed evidence, log of the highest, lines in families."""
    audio: F32
    """``(n, N_MODEL)`` at `SPEC.fs_model` Hz, full scale 1: what the lines were found in."""

    def __len__(self) -> int:
        return len(self.folder)

    def take(self, index: npt.NDArray[Any]) -> Windows:
        """Some of them."""
        return Windows(*(getattr(self, f.name)[index] for f in fields(self)))

    @property
    def is_vessel(self) -> npt.NDArray[np.bool_]:
        """By folder."""
        return np.char.startswith(self.folder, VESSEL)


def look(folder: Path, progress: Progress = no_progress) -> Windows:
    """Windows of all recordings that ``folder/labels.csv`` lists and whose rate and length suffice.

    Raises
    ------
    InputError
        If the table or a recording cannot be read, or nothing is long enough.
    """
    rows = _table(folder / "labels.csv")
    finder = TrackFinder(SPEC)
    words: list[tuple[str, str, str]] = []
    seen: list[tuple[F64, F64, F32]] = []
    for i, row in enumerate(rows):
        progress("recordings", i, len(rows))
        try:
            x, fs = soundfile.read(folder / row["file"], dtype="float32", always_2d=True)
        except (OSError, soundfile.LibsndfileError) as e:
            raise InputError(f"{folder / row['file']}: cannot be read: {' '.join(str(e).split())}") from e
        if fs < SPEC.fs_model:
            continue
        for piece in _pieces(x[:, 0], int(fs)):
            seen.append(_seen(piece, int(fs), finder))
            words.append((row["cls"], *_origin(row)))
    progress("recordings", len(rows), len(rows))
    if not seen:
        raise InputError(f"{folder}: holds no recording of {SECONDS:g} s and {SPEC.fs_model} Hz")
    folders, groups, sites = (np.array(w) for w in zip(*words, strict=True))
    spectra, lines, audio = (np.array(s) for s in zip(*seen, strict=True))
    return Windows(folders, groups, sites, spectra, lines, audio)


def line_figures(audio: F32, finder: TrackFinder) -> F64:
    """What is told of the lines of ``N_MODEL`` samples at `SPEC.fs_model` Hz, see `LINE_FIGURES`."""
    *_, window = windows_of(SPEC, SPEC.fs_model, audio[None])
    tracks = finder.find(window.spectrum_db[0])
    coherent = tracks.evidence >= COHERENT
    return np.array([
        coherent.sum(), (tracks.evidence >= EVEN_EVIDENCE).sum(),
        np.log1p(float(tracks.evidence[coherent].sum())), np.log1p(float(tracks.evidence.max(initial=0.0))),
        np.isfinite(families(tracks.row[coherent] * SPEC.bin_hz, 1.5)).sum(),
    ], np.float64)  # fmt: skip


def _table(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise InputError(f"{path}: cannot be read: {getattr(e, 'strerror', None) or e}") from e
    if not rows or (missing := sorted({"file", "cls", "vessel"} - set(rows[0]))):
        raise InputError(f"{path}: lacks the column {missing[0] if rows else 'file'}")
    return rows


def _origin(row: dict[str, str]) -> tuple[str, str]:
    """Group and site of a recording: its vessel or session, and the recorder or collection it comes from.

    Of recordings without a vessel those of one network of hydrophones are taken as one site: too few sites rather than
    one recorder on both sides.
    """
    stem = Path(row["file"]).stem
    session = re.sub(r"_part\d+$", "", stem)
    if row["cls"].startswith(VESSEL):
        known = row["vessel"] not in ("", "unknown")
        return (row["vessel"] if known else session), re.sub(r"(5s)?_.*", "", stem)
    group = re.sub(r"[_T]?\d{6,}.*|\d{3}$", "", session)
    return group, next((n for n in NETWORKS if n in group), group)


def _pieces(x: F32, fs: int) -> Iterator[F32]:
    n = round(SECONDS * fs)
    for start in range(0, len(x) - n + 1, n):
        yield x[start : start + n] - x[start : start + n].mean()


def _seen(piece: F32, fs: int, finder: TrackFinder) -> tuple[F64, F64, F32]:
    n = len(piece)
    edges = np.geomspace(*BAND_HZ, N_BANDS + 1)
    freq = np.fft.rfftfreq(n, 1.0 / fs)
    power = np.abs(np.fft.rfft(piece * np.hanning(n))) ** 2
    bands = [power[(freq >= a) & (freq < b)].mean() for a, b in itertools.pairwise(edges)]
    level = 10.0 * np.log10(np.array(bands) + 1e-20)
    audio = resampler(SPEC, fs)(piece[None], N_MODEL)[0]
    return level - level.mean(), line_figures(audio, finder), audio
