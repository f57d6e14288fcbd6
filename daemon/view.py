"""What people see of a message: one line of text, or a live table with one row per channel."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from daemon.wire import Message

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table

__all__ = ["LiveTable", "format_line", "format_lines"]

N_LINES_SHOWN = 6
Body = Mapping[str, Any]


def format_line(message: Message) -> str:
    """One line for people; text from the wire is stripped of what could steer a terminal."""
    body = message.body
    say = _SAY.get(message.family)
    text = say(body) if say else f"{len(body)} fields, {len(message.arrays)} arrays"
    where = body.get("channel") or body.get("source") or body["node"]
    return _plain(f"{_when(body)}  {where}  {message.family:9}  {text}")


def format_lines(lines: Sequence[Body], n_shown: int = N_LINES_SHOWN, *, levels: bool = True) -> str:
    """Tonals, strongest first, with their signal to noise ratio: ``72.1 Hz 11 dB, 144.2 Hz 8 dB``."""
    strongest = sorted(lines, key=lambda line: -line["snr_db"])
    shown = ", ".join(_tonal(line, levels) for line in strongest[:n_shown])
    more = len(lines) - n_shown
    return (shown + (f" and {more} more" if more > 0 else "")) or "no tonal"


def _tonal(line: Body, levels: bool) -> str:
    """``72.1 Hz 11 dB``; of a calibrated channel also its level, of the own ship that it is its."""
    level = line.get("level_db_re_1upa") if levels else None
    of = "" if level is None else f" ({level:.0f} dB re 1 µPa)"
    return f"{line['freq_hz']:.1f} Hz {line['snr_db']:.0f} dB{of}" + (" own" if line.get("own_ship") else "")


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _when(body: Body) -> str:
    t_ns = body["t_first_sample_ns"]
    if t_ns is None and "t_sent_ns" in body:
        t_ns = body["t_sent_ns"]
    if t_ns is not None and abs(t_ns) < 2**62:
        t = dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=t_ns // 1000)
        return t.isoformat("T", "milliseconds") + "Z"
    if body.get("first_sample") is not None and body.get("fs"):
        return f"{body['epoch']}+{body['first_sample'] / body['fs']:.1f}s"
    return "-"


def _percent(probability: float | None) -> str:
    return "?" if probability is None else f"{100 * probability:.0f} %"


def _level(body: Body) -> str:
    level, calibrated = body["level_db_re_fs"], body.get("level_db_re_1upa")
    if calibrated is not None:
        return f"{calibrated:.0f} dB re 1 µPa"
    return "" if level is None else f"{level:.0f} dB re FS"


def _heard(body: Body) -> str:
    """What a window/ record says."""
    if not body["analysed"]:
        return f"not analysed: {body['reason']}"
    if body["detections"]:
        return ", ".join(f"{d['label']} {_percent(d['probability'])}" for d in body["detections"])
    if body["unknown"]:
        return "unknown"
    if body.get("own_ship") and not body["n_signatures"]:
        return "own ship"
    return "unknown lines" if body["n_signatures"] else "ambient"  # nothing known sounds, yet tonals stand out


def _say_window(body: Body) -> str:
    lost = f", {body['lost_samples']} samples lost" if body["lost_samples"] else ""
    return f"{_heard(body)}  {_level(body)}{lost}".rstrip()


def _say_signature(body: Body) -> str:
    return f"{_label(body)}  {format_lines(body['lines'])}  {_level(body)}".rstrip()


def _label(body: Body) -> str:
    """Of an unknown source no class is probable: its signature gives the probability of the likeliest one only."""
    return (
        str(body["label"])
        if body["unknown"] or body["is_ambient"]
        else f"{body['label']} {_percent(body['probability'])}"
    )


def _say_forensic(body: Body) -> str:
    return f"{body['event']}: {body['words']}" + (f" -> {body['folder']}" if body["folder"] else "")


def _say_contact(body: Body) -> str:
    end = f" ({body['reason']})" if body["event"] == "end" else ""
    return f"{body['event']}{end}  {_contact(body)}  {format_contact_lines(body['lines'])}"


def _contact(body: Body) -> str:
    """Label and length: ``vessel_0 for 34 s``."""
    seconds = (body["n_samples"] or 0) / body["fs"] if body["fs"] else 0.0
    return f"{body['label']} for {seconds:.0f} s"


def format_contact_lines(lines: Sequence[Body], n_shown: int = N_LINES_SHOWN) -> str:
    """Tonals that are followed, heard longest first: ``72.1 Hz 11 dB 34x``; the count is of windows."""
    longest = sorted(lines, key=lambda line: (-line["n_windows"], line["freq_hz"]))
    shown = ", ".join(
        f"{line['freq_hz']:.1f} Hz {line['snr_db']:.0f} dB {line['n_windows']}x" for line in longest[:n_shown]
    )
    more = len(lines) - n_shown
    return (shown + (f" and {more} more" if more > 0 else "")) or "no tonal"


def _say_demon(body: Body) -> str:
    if not body["available"]:
        return f"not available: {body['reason']}"
    if body["pulse_hz"] is not None:
        return f"pulses, {body['pulse_hz']:.2f} per second"
    if not body["found"]:
        return "no modulation"
    return (
        f"shaft {body['shaft_hz']:.2f} Hz ({60 * body['shaft_hz']:.0f} rpm), {body['blades']} blades, "
        f"blade rate {body['blade_hz']:.2f} Hz, {body['n_lines']} lines, {body['score_nats']:.0f} nats"
    )


def _say_status(body: Body) -> str:
    lost = f"  {body['lost_samples_total']} samples lost" if body["lost_samples_total"] else ""
    detail = f": {body['detail']}" if body["detail"] else ""
    checks = (body.get("quality") or {}).get("checks") or []
    unwell = "".join(f"  {c['check']} ({c['state']})" for c in checks)
    return f"{body['state']}  {body['label']}{detail}{lost}{unwell}".rstrip()


def _say_gap(body: Body) -> str:
    n = "about " if body["n_samples"] is None else f"{body['n_samples']} samples, "
    return f"{body['reason']}: {n}{body['duration_ns'] / 1e9:.3f} s"


def _say_heartbeat(body: Body) -> str:
    end = ", the end" if body["final"] else ""
    return f"{body['n_sent']} sent, {body['n_dropped']} dropped, up {body['uptime_s']:.0f} s{end}"


def _say_info(body: Body) -> str:
    engine = body["engine"]
    return (
        f"tonald {body['version']}, bundle {body['bundle']}, labels {', '.join(body['labels'])}, "
        f"engine {engine['name']} {engine['precision']} on {engine['device']}"
        + (f", site calibration: {body['site']['words']}" if body.get("site") else "")
    )


def _say_label(body: Body) -> str:
    return str(body.get("label", ""))


_SAY = {
    "window": _say_window, "signature": _say_signature, "own_ship": _say_signature,
    "contact": _say_contact, "demon": _say_demon,
    "status": _say_status, "gap": _say_gap,
    "heartbeat": _say_heartbeat, "info": _say_info, "explain": _say_label, "spectrogram": _say_label,
    "forensic": _say_forensic,
}  # fmt: skip


class LiveTable:
    """Live table on a terminal; needs rich. Use with ``with``, feed ``update``.

    Raises
    ------
    ModuleNotFoundError
        If rich is not installed.
    """

    def __init__(self, title: str = "tonald", console: Console | None = None) -> None:
        from rich.live import Live

        self._title, self._foot = title, ""
        self._rows: dict[str, dict[str, str]] = {}
        self._publisher = ""
        self._contacts: dict[str, dict[str, str]] = {}  # channel -> id -> what is said of it
        self._live: Live = Live(self._table(), console=console, refresh_per_second=4)

    def __enter__(self) -> LiveTable:
        self._live.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _t: TracebackType | None
    ) -> None:
        self._live.stop()

    def update(self, message: Message, foot: str = "") -> None:
        """Take in one message; ``foot`` stands below the table, e.g. the count of lost messages."""
        body, self._foot = message.body, foot or self._foot
        if body["publisher"] != self._publisher:  # the daemon was started anew: its contacts are others
            self._publisher = body["publisher"]
            self._contacts.clear()
        channel = body.get("channel")
        if channel is not None:
            row = self._rows.setdefault(channel, {})
            if message.family == "window":
                row.update(time=_when(body), heard=_heard(body), level=_level(body))
                if not body["n_signatures"]:
                    row["lines"] = ""
            elif message.family == "signature":
                row["lines"] = format_lines(body["lines"], 4, levels=False)
            elif message.family == "contact":
                row["contacts"] = self._contacts_of(channel, body)
            elif message.family == "status":
                row["state"] = body["state"] + (f": {body['detail']}" if body["detail"] else "")
                if checks := (body.get("quality") or {}).get("checks"):
                    row["state"] += ", " + ", ".join(f"{c['check']} {c['state']}" for c in checks)
                row["lost"] = str(body["lost_samples_total"])
        self._live.update(self._table())

    def _contacts_of(self, channel: str, body: Body) -> str:
        """Contacts that are held on the channel; if none is, the one that ended last."""
        held = self._contacts.setdefault(channel, {})
        if body["event"] == "end":
            held.pop(body["contact_id"], None)
            return ", ".join(held.values()) or f"{_contact(body)}, ended"
        held[body["contact_id"]] = _contact(body)
        return ", ".join(held.values())

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(_plain(self._title)), caption=Text(_plain(self._foot)) if self._foot else None)
        for head in ("channel", "window", "heard now", "tonals", "level", "contacts", "state", "samples lost"):
            table.add_column(head)
        for channel, row in sorted(self._rows.items()):
            cells = [row.get(k, "") for k in ("time", "heard", "lines", "level", "contacts", "state", "lost")]
            table.add_row(*(Text(_plain(cell)) for cell in (channel, *cells)))
        return table
