"""Which channels of a source are taken, and what they are called."""

from __future__ import annotations

from collections.abc import Sequence

from models.errors import TonaldError

__all__ = ["pick"]


def pick(
    wanted: Sequence[int] | None, n_channels: int, where: str, error: type[TonaldError]
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Columns to take (from 0, in the order wanted) and their names ``ch<column>``; all if ``wanted`` is None.

    Raises
    ------
    error
        If a channel does not exist or is named twice; ``where`` opens the message.
    """
    columns = tuple(range(n_channels)) if wanted is None else tuple(wanted)
    for c in columns:
        if not 0 <= c < n_channels:
            has = "1 channel, number 0" if n_channels == 1 else f"{n_channels} channels, 0 to {n_channels - 1}"
            raise error(f"{where}: there is no channel {c}: it has {has}")
    if not columns or len(set(columns)) != len(columns):
        raise error(f"{where}: channels {list(columns)}: name at least one, and none twice")
    return columns, tuple(f"ch{c}" for c in columns)
