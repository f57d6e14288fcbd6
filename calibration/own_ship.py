"""The own ship: lines of the vessel that carries the hydrophones, learned once and known from then on.

One JSON file per state directory, strictly read, versioned and bound to a bundle like the site calibration
(`calibration.overlay`). Each line is a band from ``lo_hz`` to ``hi_hz``; a tonal is the own ship's if its frequency
lies in one, or nearer to it than the tolerance. Lines that the speed moves have wider bands: whatever sounds in there
counts as own ship, so the file says how much of the analysed band it takes.
"""

from __future__ import annotations

import datetime
import hashlib
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from calibration.overlay import read_at_most, sealed, unsealed, write_whole
from models.bundle import Bundle
from models.errors import BundleError, InputError
from models.strict_json import StrictMap

__all__ = ["AGAIN", "FILE_NAME", "OwnLine", "OwnShip"]

FILE_NAME = "own_ship.json"
SCHEMA_VERSION = 1
KIND = "tonald own ship"
MAX_BYTES = 4 << 20
MAX_LINES = 1000
AGAIN = "learn it again with 'tonald own-ship learn'"


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnLine:
    """One line of the own ship, or the band in which the speed moves it."""

    lo_hz: float
    hi_hz: float
    share: float
    """Of the windows it was learned from, how many held it, 0..1."""
    level_db_re_fs: float
    """Median level, dB re full scale squared."""

    @property
    def freq_hz(self) -> float:
        """Middle of the band."""
        return 0.5 * (self.lo_hz + self.hi_hz)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnShip:
    """Lines of the own ship by channel; immutable: learned anew it is a new version."""

    bundle: str
    """Id of the bundle whose front end heard the lines."""
    version: int
    created: str
    """UTC, ISO 8601."""
    data: str
    """What it was learned from, for people."""
    tolerance_hz: float
    """A tonal so near to a band belongs to it."""
    channels: Mapping[str, tuple[OwnLine, ...]]
    """By rising frequency."""
    raw: bytes = field(default=b"", compare=False, repr=False)

    def __post_init__(self) -> None:
        _check(self)
        if not self.raw:
            object.__setattr__(self, "raw", _render(self))

    @property
    def id(self) -> str:
        """Sixteen hex digits of the file's SHA-256."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def owns(self, channel: str, freq_hz: float) -> bool:
        """Whether a tonal at ``freq_hz`` on ``channel`` is the own ship's."""
        t = self.tolerance_hz
        return any(x.lo_hz - t <= freq_hz <= x.hi_hz + t for x in self.channels.get(channel, ()))

    def covered_hz(self, channel: str) -> float:
        """Width of all bands together, tolerance included and overlaps counted once, Hz."""
        total, reach = 0.0, -math.inf
        for x in self.channels[channel]:
            lo, hi = max(x.lo_hz - self.tolerance_hz, reach), x.hi_hz + self.tolerance_hz
            total += max(hi - lo, 0.0)
            reach = max(reach, hi)
        return total

    def words(self) -> str:
        """What it holds, for people."""
        parts = [f"{name}: {len(x)} lines over {self.covered_hz(name):.0f} Hz" for name, x in self.channels.items()]
        return f"{self.id} (version {self.version} of {self.created}, {'; '.join(parts)}; from {self.data})"

    @classmethod
    def now(
        cls, bundle: Bundle, data: str, tolerance_hz: float, channels: Mapping[str, Sequence[OwnLine]], version: int
    ) -> OwnShip:
        """One made this moment.

        Raises
        ------
        InputError
            If a value does not fit.
        """
        created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        kept = {name: tuple(sorted(channels[name], key=lambda x: x.lo_hz)) for name in sorted(channels)}
        try:
            return cls(
                bundle=bundle.id, version=version, created=created, data=data, tolerance_hz=tolerance_hz, channels=kept
            )
        except BundleError as e:
            raise InputError(f"own ship: {e}") from e

    @classmethod
    def parse(cls, raw: bytes) -> OwnShip:
        """Read strictly.

        Raises
        ------
        InputError
            If a byte was changed, a key is unknown or missing, a value does not fit, or the schema is another.
        """
        try:
            top = unsealed(raw, KIND, SCHEMA_VERSION)
            own = cls(
                version=top.of("version", int), created=top.of("created", str), bundle=top.of("bundle", str),
                data=top.of("data", str), tolerance_hz=top.number("tolerance_hz"),
                channels={name: _lines(m) for name, m in top.map("channels").maps()}, raw=raw,
            )  # fmt: skip
            top.done()
        except (BundleError, ValueError, OverflowError) as e:
            raise InputError(f"{e}: {AGAIN}") from e
        return own

    @classmethod
    def read(cls, path: Path, bundle: Bundle | None = None) -> OwnShip:
        """Read a file and check that it is for ``bundle``, if one is given.

        Raises
        ------
        InputError
            Naming the file and what is wrong with it.
        """
        raw = read_at_most(path, MAX_BYTES, "own ship")
        try:
            if len(raw) > MAX_BYTES:
                raise InputError(f"is longer than {MAX_BYTES} bytes, it is damaged: {AGAIN}")
            own = cls.parse(raw)
            if bundle is not None and own.bundle != bundle.id:
                raise InputError(f"is for bundle {own.bundle}, in use is {bundle.id}: {AGAIN}")
        except InputError as e:
            raise InputError(f"own ship {path} {e}") from e
        return own

    def write(self, path: Path) -> None:
        """Replace ``path`` as a whole.

        Raises
        ------
        InputError
            If the folder or disk refuses; what stood there stays.
        """
        write_whole(path, self.raw, "own ship")


def _render(own: OwnShip) -> bytes:
    channels = {
        name: {
            "lo_hz": [x.lo_hz for x in lines], "hi_hz": [x.hi_hz for x in lines],
            "share": [x.share for x in lines], "level_db_re_fs": [x.level_db_re_fs for x in lines],
        }
        for name, lines in own.channels.items()
    }  # fmt: skip
    return sealed(
        KIND,
        SCHEMA_VERSION,
        {
            "version": own.version, "created": own.created, "bundle": own.bundle, "data": own.data,
            "tolerance_hz": own.tolerance_hz, "channels": channels,
        },
    )  # fmt: skip


def _lines(m: StrictMap) -> tuple[OwnLine, ...]:
    columns = {k: m.list_of(k, float) for k in ("lo_hz", "hi_hz", "share", "level_db_re_fs")}
    m.done()
    if len({len(c) for c in columns.values()}) != 1:
        raise BundleError(f"{m.where}: lists of different length")
    return tuple(
        OwnLine(lo_hz=lo, hi_hz=hi, share=share, level_db_re_fs=level)
        for lo, hi, share, level in zip(*columns.values(), strict=True)
    )


def _check(own: OwnShip) -> None:
    " ".join((own.data, own.created, own.bundle, *own.channels)).encode()  # what no record could carry is refused
    if not 0.0 <= own.tolerance_hz <= 50.0:
        raise BundleError(f"tolerance_hz is {own.tolerance_hz}, not 0 to 50")
    for name, lines in own.channels.items():
        if len(lines) > MAX_LINES:
            raise BundleError(f"channel {name} has {len(lines)} lines, {MAX_LINES} at most")
        for x in lines:
            if not (0.0 < x.lo_hz <= x.hi_hz < 1e6 and 0.0 <= x.share <= 1.0 and math.isfinite(x.level_db_re_fs)):
                raise BundleError(f"channel {name}: {x} is no line")
        if any(a.lo_hz > b.lo_hz for a, b in itertools.pairwise(lines)):
            raise BundleError(f"channel {name}: frequencies do not rise")
