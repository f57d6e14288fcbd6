"""When a recording began: from a side-car ``NAME.json`` or from its name. All times are UTC."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from models.errors import InputError

__all__ = ["StartTime", "time_in_name", "time_of_first_sample"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SEPARATED = re.compile(
    r"(?<!\d)(?P<Y>(?:19|20)\d\d)-?(?P<m>\d\d)-?(?P<d>\d\d)[T_ -](?P<H>\d\d)[-:]?(?P<M>\d\d)[-:]?(?P<S>\d\d)"
    r"(?:[.,](?P<fraction>\d{1,9})|-(?P<ms>\d{3}))?Z?(?!\d)"
)
"""20220925T223450, 2025-09-01T07-00-29-005, 20100305T120000.123456Z, 20150910_070000."""
_SHORT = re.compile(
    r"(?<!\d)(?P<Y>\d\d)(?P<m>\d\d)(?P<d>\d\d)_(?P<H>\d\d)(?P<M>\d\d)(?P<S>\d\d)(?P<fraction>(?!))?(?P<ms>(?!))?(?!\d)"
)
"""220925_223450: two digits of the year, 20YY."""


class StartTime(NamedTuple):
    """When a recording began."""

    t_ns: int
    """UTC, Unix ns."""
    resolution_ns: int
    """Value of the last digit written: 1 s in most names, 1 ns in a side-car."""


def time_of_first_sample(path: Path) -> StartTime | None:
    """When the first sample was taken; None if neither side-car nor name tell.

    The side-car lies beside the audio with the suffix replaced, ``{"t_first_sample_ns": 1662015629005000000}``; it has
    precedence over the name. A side-car without that key says nothing about time.

    Raises
    ------
    InputError
        If the side-car cannot be read or its time is not a whole number of ns.
    """
    sidecar = path.with_suffix(".json")
    if sidecar.is_file():
        try:
            content = json.loads(sidecar.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as e:
            raise InputError(f"{sidecar}: side-car of {path.name} cannot be read: {e}") from e
        t = content.get("t_first_sample_ns") if isinstance(content, dict) else None
        if t is not None:
            if not isinstance(t, int) or isinstance(t, bool):
                raise InputError(f"{sidecar}: t_first_sample_ns = {t!r} is not a whole number of Unix ns")
            return StartTime(t, 1)
    return time_in_name(path.stem)


def time_in_name(stem: str) -> StartTime | None:
    """Time written in a file's name (without its suffix); None if there is none, or no real one."""
    for pattern in (_SEPARATED, _SHORT):
        for found in pattern.finditer(stem):
            year = int(found["Y"]) + (2000 if len(found["Y"]) == 2 else 0)
            try:
                t = datetime(year, *(int(found[k]) for k in "mdHMS"), tzinfo=timezone.utc)  # type: ignore[misc, arg-type]  # five numbers, then the zone
            except ValueError:
                continue  # 20229925T...: digits that are no date
            digits = found["fraction"] or found["ms"] or ""
            since = t - _EPOCH
            t_ns = (since.days * 86_400 + since.seconds) * 1_000_000_000 + int(digits.ljust(9, "0"))
            return StartTime(t_ns, 10 ** (9 - len(digits)))
    return None
