"""The site state: thresholds, own ship and measuring chains that serve, and why not others.

``STATE/site/site.json`` is in force; those before it stay beside it as ``site.VERSION.json``, the last `N_KEPT`. To go
back is to copy one of them over it. Whatever stands there never keeps the daemon from serving: what cannot be used is
refused with its reason, in the log and in ``info/``, and the bundle's own thresholds serve. ``own_ship.json`` beside it
holds the own ship's lines, with its versions alike.

``calibration_id`` tells them all: where there are thresholds only it is theirs, else a digest over the ids of what is
there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibration import own_ship as _own
from calibration.own_ship import OwnShip
from calibration.site import FILE_NAME, SiteCalibration
from daemon.config import Config
from daemon.levels import Levels, levels_of
from models.bundle import Bundle
from models.errors import InputError
from models.feature_spec import FeatureSpec

__all__ = ["Site", "choose_site", "in_state", "next_version", "own_ship_in", "save_site", "site_path", "tell"]

_LOGGER = logging.getLogger(__name__)

#: Calibrations kept beside the one in force.
N_KEPT = 10


@dataclass(frozen=True, slots=True)
class Site:
    """What serves."""

    calibration: SiteCalibration | None
    """None: the bundle's own thresholds."""
    problem: str = ""
    """Why a calibration that was there is not used."""
    levels: Levels = Levels()
    """Measuring chains."""
    own_ship: OwnShip | None = None
    """None: not learned."""
    own_ship_problem: str = ""
    """Why one that was learned is not used."""

    @property
    def id(self) -> str | None:
        """``calibration_id`` of every record."""
        thresholds = None if self.calibration is None else self.calibration.id
        own = None if self.own_ship is None else self.own_ship.id
        if self.levels.id is None and own is None:
            return thresholds
        return hashlib.sha256(f"{thresholds} {self.levels.id} {own}".encode()).hexdigest()[:16]

    def own_ship_words(self) -> str:
        """What is known of the own ship, for people."""
        if self.own_ship_problem:
            return f"{self.own_ship_problem}; no line is taken for the own ship's"
        return "not learned" if self.own_ship is None else self.own_ship.words()

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


def tell(site: Site, spec: FeatureSpec) -> None:
    """Put measuring chains and own ship into the log."""
    for words in site.levels.words(spec) or ("not calibrated, levels are in dB re FS",):
        _LOGGER.info("hydrophone %s", words)
    _LOGGER.log(logging.ERROR if site.own_ship_problem else logging.INFO, "own ship: %s", site.own_ship_words())


def site_path(config: Config) -> Path | None:
    """Where the calibration in force lies; None: there is no place for one."""
    if config.site.calibration:
        return Path(config.site.calibration)
    return in_state(Path(config.state_dir)) if config.state_dir else None


def in_state(state_dir: Path) -> Path:
    """Where the calibration in force lies below a state directory."""
    return state_dir / "site" / FILE_NAME


def choose_site(config: Config, bundle: Bundle) -> Site:
    """What serves; never raises for what it finds in the state directory.

    Raises
    ------
    ConfigError
        If the settings of the measuring chains are wrong, or a file they name is.
    """
    own, problem = _own_ship(config, bundle)
    thresholds = _thresholds(config, bundle)
    return dataclasses.replace(thresholds, levels=levels_of(config), own_ship=own, own_ship_problem=problem)


def own_ship_in(state_dir: Path) -> Path:
    """Where the lines of the own ship lie below a state directory."""
    return state_dir / "site" / _own.FILE_NAME


def _own_ship(config: Config, bundle: Bundle) -> tuple[OwnShip | None, str]:
    if not config.state_dir or not (path := own_ship_in(Path(config.state_dir))).exists():
        return None, ""
    try:
        return OwnShip.read(path, bundle), ""
    except (InputError, OSError) as e:
        return None, str(e)


def _thresholds(config: Config, bundle: Bundle) -> Site:
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
        of = OwnShip if path.name == _own.FILE_NAME else SiteCalibration
        highest = max(highest, of.parse(path.read_bytes()).version)
    return highest + 1


def save_site(path: Path, site: SiteCalibration | OwnShip) -> None:
    """Put a calibration, or the own ship, in force and keep those before it; at any moment ``path`` is whole.

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
