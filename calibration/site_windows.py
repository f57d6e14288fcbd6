"""Windows of a site: from a folder of recordings, by channel, with the piece of recording that each belongs to."""

from __future__ import annotations

import fnmatch
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibration.dataset import AMBIENT, Progress, no_progress
from calibration.recordings import Catalogue, Recording, Refused, read, scan_tree
from calibration.site_estimate import segment_of
from models.bundle import Bundle
from models.errors import AudioFormatError, UsageError
from models.features import FeatureWindow, windows_of

__all__ = ["SiteWindows", "channel_of", "window_s", "windows_of_folder"]

F32 = npt.NDArray[np.float32]

#: Windows of one channel at most: more are thinned out evenly.
MAX_WINDOWS = 600


def window_s(bundle: Bundle) -> float:
    """Length of a window, s."""
    spec = bundle.spec
    return spec.n_samples(spec.fs_model) / spec.fs_model


@dataclass(frozen=True, slots=True, eq=False)
class SiteWindows:
    """Windows of one recording on one channel."""

    channel: str
    recording: str
    features: F32
    spectrum_db: F32
    segments: tuple[str, ...]


def channel_of(path: Path, folder: Path, channel: int, named: Mapping[str, str]) -> str | None:
    """Name of channel ``channel`` of a file; None where the file belongs to no channel that was named.

    ``named`` maps channels to patterns of paths below the folder, or of file names. Without it a file in a sub-folder
    ``chN`` belongs to channel ``chN``, and of any other file column ``N`` does, as the daemon names them.
    """
    inside = path.relative_to(folder)
    if named:
        hits = [n for n, g in named.items() if fnmatch.fnmatch(inside.as_posix(), g) or fnmatch.fnmatch(path.name, g)]
        if len(hits) > 1:
            raise UsageError(
                f"{inside} belongs to the channels {' and '.join(hits)}: make the patterns of --channel apart"
            )
        return hits[0] if hits else None
    return inside.parts[0] if re.fullmatch(r"ch\d+", inside.parts[0]) else f"ch{channel}"


def windows_of_folder(
    bundle: Bundle,
    folder: Path,
    *,
    named: Mapping[str, str] | None = None,
    hop_s: float | None = None,
    progress: Progress = no_progress,
) -> tuple[Iterator[SiteWindows], list[Refused]]:
    """Windows of all recordings below ``folder``, one recording and channel at a time, and files that cannot be used.

    The list of refused files grows while the windows are read.

    Parameters
    ----------
    named
        ``{channel: pattern}``, see `channel_of`; the files must then have one channel.
    hop_s
        Time between windows, s; the length of a window by default, so that windows share no sample.

    Raises
    ------
    InputError
        If nothing in the folder can be used.
    UsageError
        If ``hop_s`` is shorter than the step of the front end, or a pattern meets no file.
    """
    spec = bundle.spec
    step_s = spec.n_time_step * spec.column_s
    every = math.ceil(window_s(bundle) / step_s - 1e-9) if hop_s is None else round(hop_s / step_s)
    if every < 1:
        raise UsageError(f"--hop {hop_s:g}: the front end makes a window every {step_s:g} s at most")
    catalogue = scan_tree(folder, spec, AMBIENT)
    named = named or {}
    for name, pattern in named.items():
        if not any(channel_of(r.path, folder, 0, {name: pattern}) for r in catalogue.recordings):
            raise UsageError(f"--channel {name}={pattern}: meets no usable recording below {folder}")
    longest = sum(r.n_samples / r.fs for r in catalogue.recordings) / (every * step_s)
    every *= max(1, math.ceil(longest / MAX_WINDOWS))
    refused = list(catalogue.refused)
    return _read_all(bundle, catalogue, named, every, refused, progress), refused


def _read_all(
    bundle: Bundle,
    catalogue: Catalogue,
    named: Mapping[str, str],
    every: int,
    refused: list[Refused],
    progress: Progress,
) -> Iterator[SiteWindows]:
    before_s: dict[str, float] = {}  # parts of one recording follow one another
    for n_done, r in enumerate(catalogue.recordings):
        start_s = before_s.setdefault(r.group, 0.0)
        before_s[r.group] += r.n_samples / r.fs
        progress("recordings", n_done, len(catalogue.recordings))
        channels = [channel_of(r.path, catalogue.folder, c, named) for c in range(r.n_channels)]
        if len(set(channels)) < len(channels) and any(channels):
            refused.append(
                Refused(r.path, f"{r.path}: has {r.n_channels} channels, one was expected for {channels[0]}")
            )
            continue
        if not any(channels):
            continue
        try:
            x = read(r)
        except AudioFormatError as e:
            refused.append(Refused(r.path, str(e)))
            continue
        windows = [w for w in windows_of(bundle.spec, r.fs, x) if w.grid_index % every == 0]
        yield from _by_channel(r, channels, windows, start_s)
    progress("recordings", len(catalogue.recordings), len(catalogue.recordings))


def _by_channel(
    r: Recording, channels: Sequence[str | None], windows: Sequence[FeatureWindow], start_s: float
) -> Iterator[SiteWindows]:
    segments = tuple(segment_of(r.group, start_s + w.first_sample / r.fs) for w in windows)
    for c, name in enumerate(channels):
        if name is not None and windows:
            yield SiteWindows(
                name, r.group, np.stack([w.features[c] for w in windows]),
                np.stack([w.spectrum_db[c] for w in windows]), segments,
            )  # fmt: skip
