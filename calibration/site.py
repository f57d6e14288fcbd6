"""The site calibration: thresholds of one place and its channels, laid over those of a bundle.

One JSON file, strictly read, bound to one bundle by its id. Its own digest stands in its first key and is taken over
the text with sixty-four zeros in the digest's place, as a bundle's manifest has it: no byte can change unseen. It
guards against damage and mix-ups; it is no signature and proves no author. The file appears as a whole or not at all.

The first 16 hex digits of the SHA-256 of the file are its id: the ``calibration_id`` of every record.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from calibration.overlay import read_at_most, sealed, unsealed, write_whole
from calibration.site_channel import (
    ChannelCalibration,
    SiteThreshold,
    channel_of_map,
    channel_to_dict,
    check_channel,
)
from models.bundle import Bundle
from models.errors import BundleError, InputError

__all__ = ["FILE_NAME", "SCHEMA_VERSION", "ChannelCalibration", "SiteCalibration", "SiteThreshold"]

FILE_NAME = "site.json"
SCHEMA_VERSION = 1
KIND = "tonald site calibration"
#: No site calibration is longer: 64 channels of 100 labels.
MAX_BYTES = 8 << 20
AGAIN = "make it again with 'tonald calibrate --site FOLDER'"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCalibration:
    """Thresholds of a site, per channel; immutable: a new estimate is a new version."""

    bundle: str
    """Id of the bundle whose score maps were measured."""
    version: int
    """Counts up with each estimate written over the one before."""
    created: str
    """UTC, ISO 8601."""
    data: str
    """What it was measured on, for people."""
    channels: Mapping[str, ChannelCalibration]
    raw: bytes = field(default=b"", compare=False, repr=False)
    """The file's content; made when absent."""

    def __post_init__(self) -> None:
        if not self.raw:
            object.__setattr__(self, "raw", _render(self))

    @property
    def id(self) -> str:
        """Sixteen hex digits: ``calibration_id`` of every record made with it."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def check(self, bundle: Bundle) -> None:
        """Refuse another bundle than the one it was measured with.

        Raises
        ------
        InputError
            Saying which it is for.
        """
        if self.bundle != bundle.id:
            raise InputError(f"is for bundle {self.bundle}, in use is {bundle.id}: {AGAIN}")
        known = set(bundle.thresholds.mix)
        for channel, c in self.channels.items():
            if set(c.labels) != known:
                raise InputError(f"channel {channel} has {sorted(c.labels)}, the bundle {sorted(known)}: {AGAIN}")
            if bool(c.vessel) != bool(bundle.thresholds.vessel):
                raise InputError(f"channel {channel}: thresholds of the vessel map do not fit the bundle: {AGAIN}")

    @classmethod
    def now(
        cls, bundle: Bundle, data: str, channels: Mapping[str, ChannelCalibration], version: int
    ) -> SiteCalibration:
        """One made this moment."""
        created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
        return cls(bundle=bundle.id, version=version, created=created, data=data, channels=channels)

    @classmethod
    def parse(cls, raw: bytes) -> SiteCalibration:
        """Read strictly.

        Raises
        ------
        InputError
            If a byte was changed, a key is unknown or missing, a value does not fit, or the schema is another.
        """
        try:
            return _parse(raw)
        except (BundleError, ValueError, OverflowError) as e:
            raise InputError(f"{e}: {AGAIN}") from e

    @classmethod
    def read(cls, path: Path, bundle: Bundle) -> SiteCalibration:
        """Read a file and check that it is for ``bundle``.

        Raises
        ------
        InputError
            Naming the file and what is wrong with it.
        """
        raw = read_at_most(path, MAX_BYTES, "site calibration")
        try:
            if len(raw) > MAX_BYTES:
                raise InputError(f"is longer than {MAX_BYTES} bytes, it is damaged: {AGAIN}")
            site = cls.parse(raw)
            site.check(bundle)
        except InputError as e:
            raise InputError(f"site calibration {path} {e}") from e
        return site

    def write(self, path: Path) -> None:
        """Replace ``path`` as a whole; the content is on the disk before the name is.

        Raises
        ------
        InputError
            If the folder or disk refuses; what stood there stays.
        """
        write_whole(path, self.raw, "site calibration")


def _render(site: SiteCalibration) -> bytes:
    _check(site)
    return sealed(
        KIND,
        SCHEMA_VERSION,
        {
            "version": site.version,
            "created": site.created,
            "bundle": site.bundle,
            "data": site.data,
            "channels": {name: channel_to_dict(c) for name, c in sorted(site.channels.items())},
        },
    )


def _parse(raw: bytes) -> SiteCalibration:
    top = unsealed(raw, KIND, SCHEMA_VERSION)
    site = SiteCalibration(
        version=top.of("version", int), created=top.of("created", str), bundle=top.of("bundle", str),
        data=top.of("data", str), channels={name: channel_of_map(m) for name, m in top.map("channels").maps()}, raw=raw,
    )  # fmt: skip
    top.done()
    _check(site)
    return site


def _check(site: SiteCalibration) -> None:
    if not site.channels:
        raise BundleError("holds no channel")
    " ".join((site.data, site.created, site.bundle, *site.channels)).encode()  # what no record could carry is refused
    for name, c in site.channels.items():
        check_channel(name, c)
