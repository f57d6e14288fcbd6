"""The site calibration in the state directory: which one serves, and why not another.

``STATE/site/site.json`` is in force; those before it stay beside it as ``site.VERSION.json``, the last `N_KEPT`. To go
back is to copy one of them over it. Whatever stands there never keeps the daemon from serving: what cannot be used is
refused with its reason, in the log and in ``info/``, and the bundle's own thresholds serve.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration.site import FILE_NAME, SiteCalibration
from daemon.config import Config
from models.bundle import Bundle
from models.errors import InputError

__all__ = ["Site", "choose_site", "next_version", "save_site", "site_path"]

#: Calibrations kept beside the one in force.
N_KEPT = 10


@dataclass(frozen=True, slots=True)
class Site:
    """What serves."""

    calibration: SiteCalibration | None
    """None: the bundle's own thresholds."""
    problem: str = ""
    """Why a calibration that was there is not used."""

    @property
    def id(self) -> str | None:
        """``calibration_id`` of every record."""
        return None if self.calibration is None else self.calibration.id

    def words(self) -> str:
        """What serves, for people."""
        if self.problem:
            return f"{self.problem}; the bundle's own thresholds serve"
        c = self.calibration
        if c is None:
            return "none, the bundle's own thresholds serve"
        return f"{c.id} (version {c.version} of {c.created}, channels {', '.join(c.channels)}, from {c.data})"

    def to_dict(self) -> dict[str, Any] | None:
        """As it stands in ``info/``; None where there never was one."""
        c = self.calibration
        if c is None and not self.problem:
            return None
        return {
            "in_force": c is not None, "version": None if c is None else c.version,
            "created": None if c is None else c.created, "channels": [] if c is None else list(c.channels),
            "words": self.words(),
        }  # fmt: skip


def site_path(config: Config) -> Path | None:
    """Where the calibration in force lies; None: there is no place for one."""
    if config.site.calibration:
        return Path(config.site.calibration)
    return in_state(Path(config.state_dir)) if config.state_dir else None


def in_state(state_dir: Path) -> Path:
    """Where the calibration in force lies below a state directory."""
    return state_dir / "site" / FILE_NAME


def choose_site(config: Config, bundle: Bundle) -> Site:
    """The calibration that serves; never raises for what it finds on the disk."""
    path = site_path(config)
    if path is None:
        return Site(None)
    try:
        if not config.site.calibration and not path.exists():
            return Site(None)
        return Site(SiteCalibration.read(path, bundle))
    except (InputError, OSError) as e:
        return Site(None, str(e))


def next_version(path: Path) -> int:
    """One more than the version at ``path`` and any beside it."""
    highest = max((n for n, _ in _before(path)), default=0)
    with contextlib.suppress(InputError, OSError):  # absent or damaged: its number is lost, those beside it count
        highest = max(highest, SiteCalibration.parse(path.read_bytes()).version)
    return highest + 1


def save_site(path: Path, site: SiteCalibration) -> None:
    """Put a calibration in force and keep those before it; at any moment ``path`` is whole.

    Raises
    ------
    InputError
        If the folder or disk refuses.
    """
    site.write(path.with_name(f"{path.stem}.{site.version}{path.suffix}"))
    site.write(path)
    for _, old in sorted(_before(path))[: -N_KEPT - 1]:
        with contextlib.suppress(OSError):  # one too many does no harm, and the next save tries again
            old.unlink()


def _before(path: Path) -> list[tuple[int, Path]]:
    """Versions beside ``path``."""
    name = re.compile(re.escape(path.stem) + r"\.(\d{1,9})" + re.escape(path.suffix))
    try:
        found = list(path.parent.iterdir())
    except OSError:
        return []
    return [(int(m[1]), p) for p in found if (m := name.fullmatch(p.name))]
