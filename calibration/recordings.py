"""Real data: folders of recordings, with labels from sub-folders or from a CSV, split by where they come from.

Two layouts are read:

* plain: ``FOLDER/<label>/NAME.wav`` (any format of libsndfile), ``FOLDER/ambient/...`` for source-free recordings;
* ``FOLDER/labels.csv`` with the columns ``file`` (relative to it), a class column (``cls`` unless told otherwise), and
  where known ``vessel``, ``source_path`` and ``tier``.

Either may hold a side-car ``NAME.truth.json`` beside ``NAME.wav`` (see `calibration.truth`). Recordings that share a
vessel, a source file or a name up to ``_partN`` are one *group*: windows of one pass resemble each other, so splits
never cut a group. Files that cannot be used are listed with the reason, they stop nothing.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import AudioFormatError, InputError, SampleRateError
from models.features import FeatureSpec

__all__ = ["Catalogue", "Recording", "Refused", "read", "scan", "scan_tree"]

#: Suffixes looked at in the plain layout; the CSV layout takes what it names.
AUDIO_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".aif", ".aiff", ".rf64", ".w64", ".caf", ".au", ".mp3"})
#: Values of a CSV cell that mean "not known".
NOT_KNOWN = frozenset({"", "unknown", "none", "n/a", "na", "-", "?"})


@dataclass(frozen=True, slots=True)
class Recording:
    """One usable file."""

    path: Path
    label: str
    group: str
    """Recordings of one group come from one pass, vessel or source file."""
    fs: int
    n_channels: int
    n_samples: int
    truth: Path | None
    """Side-car, if there is one."""
    ties: tuple[str, ...] = ()
    """What joins it to others: ``name NAME`` up to ``_partN``, ``vessel``, ``source_path``."""


@dataclass(frozen=True, slots=True)
class Refused:
    """One file that cannot be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What a folder holds."""

    folder: Path
    recordings: tuple[Recording, ...]
    refused: tuple[Refused, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in use, sorted."""
        return tuple(sorted({r.label for r in self.recordings}))


@dataclass(frozen=True, slots=True)
class _Entry:
    """A file before it was opened; ``ties`` are the marks that join it to others of its group."""

    path: Path
    label: str
    ties: tuple[str, ...]


def scan(
    folder: Path,
    spec: FeatureSpec,
    *,
    labels_csv: Path | None = None,
    class_column: str = "cls",
    tiers: Collection[str] = (),
) -> Catalogue:
    """List the recordings of a folder.

    Parameters
    ----------
    folder
        Where the recordings lie. Its ``labels.csv`` is used if there is one.
    spec
        Front end the recordings must serve: rate and length are checked against it.
    labels_csv
        Another CSV; paths in it are relative to ``folder``.
    class_column
        Column that holds the label.
    tiers
        Licence tiers to keep (exact words of the column ``tier``); all if empty.

    Raises
    ------
    InputError
        If the folder or CSV is missing, lacks a column, or nothing in it can be used.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    table = labels_csv or folder / "labels.csv"
    if labels_csv is not None or table.is_file():
        entries = list(_from_csv(folder, table, class_column, frozenset(tiers)))
    else:
        entries = list(_from_folders(folder))
    if not entries:
        raise InputError(f"{folder}: no recordings found; expected {folder}/<label>/NAME.wav or a labels.csv")
    groups = _groups(entries)
    recordings: list[Recording] = []
    refused: list[Refused] = []
    for entry, group in zip(entries, groups, strict=True):
        opened = _try_open(entry, spec)
        if isinstance(opened, Refused):
            refused.append(opened)
        else:
            recordings.append(replace(opened, group=group, ties=entry.ties))
    if not recordings:
        raise InputError(f"{folder}: none of {len(entries)} files can be used; the first: {refused[0].reason}")
    return Catalogue(folder, tuple(recordings), tuple(refused))


def scan_tree(folder: Path, spec: FeatureSpec, label: str) -> Catalogue:
    """List all recordings below a folder, whatever its sub-folders are named, under one label.

    Raises
    ------
    InputError
        If the folder is missing, holds no audio, or none that can be used.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    paths = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in AUDIO_SUFFIXES and p.is_file()]
    entries = [_Entry(p, label, (f"name {_base(p.relative_to(folder))}",)) for p in paths]
    opened = [_try_open(entry, spec) for entry in entries]
    recordings = tuple(
        replace(r, group=group) for r, group in zip(opened, _groups(entries), strict=True) if isinstance(r, Recording)
    )
    refused = tuple(r for r in opened if isinstance(r, Refused))
    if not paths:
        raise InputError(f"{folder}: no recordings found; give a folder of WAV, FLAC or other audio files")
    if not recordings:
        raise InputError(f"{folder}: none of {len(paths)} files can be used; the first: {refused[0].reason}")
    return Catalogue(folder, recordings, refused)


def _from_folders(folder: Path) -> Iterator[_Entry]:
    for sub in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        for path in sorted(sub.rglob("*")):
            if path.suffix.lower() in AUDIO_SUFFIXES and path.is_file():
                yield _Entry(path, sub.name, (f"name {_base(path.relative_to(folder))}",))


def _from_csv(folder: Path, table: Path, class_column: str, tiers: frozenset[str]) -> Iterator[_Entry]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = set(reader.fieldnames or ())
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        raise InputError(f"{table}: cannot be read as CSV: {e}") from e
    need = {"file", class_column} | ({"tier"} if tiers else set())
    if need - columns:
        raise InputError(f"{table}: column {sorted(need - columns)[0]!r} is missing; it has {sorted(columns)}")
    for row in rows:
        label = (row[class_column] or "").strip()
        if not label or (tiers and (row["tier"] or "").strip() not in tiers):
            continue
        ties = [f"name {_base(Path(row['file']))}"]
        for column in ("vessel", "source_path"):
            value = (row.get(column) or "").strip()
            if value.lower() not in NOT_KNOWN:
                # the same path in two repositories is two files
                where = (row.get("source_repo") or "").strip() if column == "source_path" else ""
                ties.append(f"{column} {where} {value}")
        yield _Entry(folder / row["file"], label, tuple(ties))


def _base(path: Path) -> str:
    """File name without suffix and without ``_partN``, so that parts of one recording share it."""
    return re.sub(r"[_-]part\d+$", "", path.with_suffix("").as_posix())


def _groups(entries: Sequence[_Entry]) -> list[str]:
    """Name of the group of each entry: entries that share a tie, directly or over others, are one group."""
    parent: dict[str, str] = {}

    def root(tie: str) -> str:
        while parent.setdefault(tie, tie) != tie:
            tie = parent[tie]
        return tie

    for entry in entries:
        first = root(entry.ties[0])
        for tie in entry.ties[1:]:
            parent[root(tie)] = first
    return [root(entry.ties[0]).removeprefix("name ") for entry in entries]


def _try_open(entry: _Entry, spec: FeatureSpec) -> Recording | Refused:
    try:
        return _open(entry, spec)
    except (AudioFormatError, InputError) as e:
        return Refused(entry.path, str(e))


def _open(entry: _Entry, spec: FeatureSpec) -> Recording:
    """Read the header and check rate and length."""
    import soundfile

    if not entry.path.is_file():
        raise InputError(f"{entry.path}: no such file")
    try:
        info = soundfile.info(str(entry.path))
    except (soundfile.SoundFileError, RuntimeError) as e:
        raise AudioFormatError(f"{entry.path}: not audio that can be read: {e}") from e
    try:
        need = spec.n_samples(info.samplerate)
    except SampleRateError as e:
        raise SampleRateError(f"{entry.path}: {e}") from e
    if info.frames < need:
        raise AudioFormatError(
            f"{entry.path}: {info.frames / info.samplerate:.2f} s is shorter than one window of "
            f"{need / info.samplerate:.2f} s"
        )
    truth = entry.path.with_suffix(".truth.json")
    return Recording(
        entry.path, entry.label, "", info.samplerate, info.channels, info.frames, truth if truth.is_file() else None
    )


def read(recording: Recording) -> npt.NDArray[np.float32]:
    """Samples ``(n_channels, n_samples)``, full scale 1; non-finite samples are refused.

    Raises
    ------
    AudioFormatError
        If the file is damaged, ends early, or holds values that are not finite.
    """
    import soundfile

    try:
        x, _ = soundfile.read(str(recording.path), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError) as e:
        raise AudioFormatError(f"{recording.path}: cannot be decoded: {e}") from e
    if len(x) < recording.n_samples:
        raise AudioFormatError(f"{recording.path}: ends after {len(x)} of {recording.n_samples} samples")
    if not np.isfinite(x).all():
        raise AudioFormatError(f"{recording.path}: holds samples that are not finite")
    return np.ascontiguousarray(x.T)
