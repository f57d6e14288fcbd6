"""Files about hydrophones: response tables, and lists of measuring chains as CSV."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from calibration.hydrophone import MAX_ENTRIES, Hydrophone
from models.errors import ConfigError

__all__ = ["read_chains_csv", "with_response"]

MAX_BYTES = 4 << 20
RELATIVE, ABSOLUTE = ("freq_hz", "response_db"), ("freq_hz", "sensitivity_db")
_HEADS = (RELATIVE, ABSOLUTE)
_TEXTS = ("channel", "response_file", "serial", "calibrated")
_NUMBERS = ("sensitivity_db", "gain_db", "adc_vpeak", "full_scale_db")


def with_response(chain: Hydrophone, folder: Path) -> Hydrophone:
    """``chain`` with the table of its ``response_file``, a path relative to ``folder``, in place of the file's name.

    Absolute sensitivities are taken relative to ``sensitivity_db``.

    Raises
    ------
    ConfigError
        Naming the file and the line, if it cannot be read or a value does not fit.
    """
    if not chain.response_file:
        return chain
    path = folder / chain.response_file
    rows = _rows(path)
    where, head = next(rows, (f"{path}:1", []))
    if tuple(head) not in (RELATIVE, ABSOLUTE):
        raise ConfigError(f"{where}: the columns are {','.join(head)}; write {' or '.join(map(','.join, _HEADS))}")
    off = 0.0
    if tuple(head) == ABSOLUTE:
        off = chain.sensitivity_db
        if math.isnan(off):
            raise ConfigError(f"{where}: absolute sensitivities need sensitivity_db of {chain.channel}; it has none")
    f, r = [], []
    for where, row in rows:
        f.append(_number(row[0], where))
        r.append(_number(row[1], where) - off)
        if len(f) > MAX_ENTRIES:
            raise ConfigError(f"{where}: a response table has {MAX_ENTRIES} entries at most")
    if not f:
        raise ConfigError(f"{path}: holds no entry")
    try:
        return dataclasses.replace(chain, response_file="", response_hz=tuple(f), response_db=tuple(r))
    except ConfigError as e:
        raise ConfigError(f"{path}: {e}") from e


def read_chains_csv(path: Path) -> tuple[Hydrophone, ...]:
    """Chains of a CSV file: a head with names of settings, then one row for each channel; empty: not given.

    Raises
    ------
    ConfigError
        Naming the file and the line; of an unknown column the nearest known one, too.
    """
    rows = _rows(path)
    where, head = next(rows, (f"{path}:1", []))
    known = (*_TEXTS, *_NUMBERS)
    for name in head:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.5)
            raise ConfigError(f"{where}: unknown column '{name}'" + (f"; nearest is '{near[0]}'" if near else ""))
    chains = []
    for where, row in rows:
        cells = {name: cell for name, cell in zip(head, row, strict=True) if cell}
        values = {name: cell if name in _TEXTS else _number(cell, where) for name, cell in cells.items()}
        try:
            chains.append(Hydrophone(**values))  # type: ignore[arg-type]  # texts are strings, the rest numbers
        except ConfigError as e:
            raise ConfigError(f"{where}: {e}") from e
    return tuple(chains)


def _rows(path: Path) -> Iterator[tuple[str, Sequence[str]]]:
    """Rows with their places; comments after ``#`` and empty lines are passed over; all are as long as the head."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path}: longer than {MAX_BYTES} bytes, that is no table of hydrophones")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"{path}: cannot be read: {getattr(e, 'strerror', None) or e}") from e
    n_columns = 0
    for n, line in enumerate(text.splitlines(), 1):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        try:
            row = [cell.strip() for cell in next(csv.reader([line]))]
        except csv.Error as e:
            raise ConfigError(f"{path}:{n}: {e}") from e
        n_columns = n_columns or len(row)
        if len(row) != n_columns:
            raise ConfigError(f"{path}:{n}: {len(row)} columns, the head has {n_columns}")
        yield f"{path}:{n}", row


def _number(cell: str, where: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        raise ConfigError(f"{where}: {cell!r} is not a number") from None
    if not math.isfinite(value):
        raise ConfigError(f"{where}: {cell!r} is not a finite number")
    return value
