"""Raven selection tables and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from daemon.export.selections import Selection, Stream, column_of
from daemon.takes.side_car import utc_text

__all__ = ["CSV_COLUMNS", "RAVEN_COLUMNS", "to_csv", "to_raven"]

RAVEN_COLUMNS = (
    "Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)",
    "Begin File", "Begin Date Time", "Kind", "Label", "Probability", "SNR (dB)", "Test",
)  # fmt: skip
"""The first seven are Raven's own, in its spelling; it shows whatever else a table has."""
CSV_COLUMNS = (
    "kind", "recording", "epoch", "channel", "label", "probability", "begin_s", "end_s", "utc_begin", "freq_low_hz",
    "freq_high_hz", "freq_hz", "snr_db", "level_db_re_fs", "n_windows", "first_sample", "n_samples", "fs_hz",
    "contact_id", "test", "node", "bundle",
)  # fmt: skip


def to_raven(stream: Stream, channels: Sequence[str] | None = None) -> str:
    """One tab-separated table; times count from the stream's first sample, channels from 1.

    ``channels`` names the columns of the recording; None: ``ch2`` is the third.
    """
    rows = []
    for n, s in enumerate(stream.selections, 1):
        column = list(channels).index(s.channel) if channels and s.channel in channels else column_of(s.channel)
        begin, end = s.begin / stream.fs, (s.begin + s.n_samples) / stream.fs
        utc = utc_text(s.utc_ns) or ""
        rows.append((
            str(n), "Spectrogram 1", str(column + 1), f"{begin:.6f}", f"{end:.6f}", f"{s.low_hz:.3f}",
            f"{s.high_hz:.3f}", stream.name, utc.replace("-", "/").replace("T", " ").rstrip("Z"), s.kind, s.label,
            _text(s.probability, 4), _text(s.snr_db, 2), "yes" if s.test else "no",
        ))  # fmt: skip
    return "".join("\t".join(_plain(cell) for cell in row) + "\n" for row in (RAVEN_COLUMNS, *rows))


def to_csv(streams: Iterable[Stream]) -> str:
    """All streams in one table, units in the heads, empty where not known (RFC 4180)."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\r\n")
    table.writerow(CSV_COLUMNS)
    for stream in streams:
        for s in stream.selections:
            table.writerow(_csv_row(stream, s))
    return out.getvalue()


def _csv_row(stream: Stream, s: Selection) -> tuple[str | int, ...]:
    return (
        s.kind, stream.name, stream.epoch, s.channel, s.label, _text(s.probability, 6),
        f"{s.begin / stream.fs:.6f}", f"{(s.begin + s.n_samples) / stream.fs:.6f}", utc_text(s.utc_ns) or "",
        f"{s.low_hz:.4f}", f"{s.high_hz:.4f}", _text(s.freq_hz, 4), _text(s.snr_db, 3), _text(s.level_db_re_fs, 3),
        s.n_windows, round(s.begin), round(s.n_samples), stream.fs, s.contact_id, str(s.test).lower(), stream.node,
        stream.bundle,
    )  # fmt: skip


def _text(x: float | None, digits: int) -> str:
    return "" if x is None else f"{x:.{digits}f}"


def _plain(cell: str) -> str:
    """Raven knows no quotes."""
    return " ".join(cell.split())
