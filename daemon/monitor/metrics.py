"""The metrics, one row each: name, kind, labels, meaning and where in the snapshot it is; and their text.

Text is the Prometheus exposition format 0.0.4. docs/monitoring.md holds the same table; a test compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

__all__ = ["CONTENT_TYPE", "METRICS", "Metric", "text_of"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Told: TypeAlias = dict[str, Any]
Rows: TypeAlias = Iterator[tuple[tuple[str, ...], Any]]
"""Values of the labels, and the number; None: unknown, the row is left out."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One family of numbers."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    doc: str
    rows: Callable[[Told], Rows]


def _one(*path: str) -> Callable[[Told], Rows]:
    """The number at a place of the snapshot; none where a part is not wanted."""

    def rows(told: Told) -> Rows:
        value: Any = told
        for key in path:
            value = None if value is None else value[key]
        yield (), value

    return rows


def _each(table: str, key: str) -> Callable[[Told], Rows]:
    """Of each entry of a table the number under ``key``."""

    def rows(told: Told) -> Rows:
        for name, entry in told[table].items():
            yield (name,), entry[key]

    return rows


def _info(told: Told) -> Rows:
    e = told["engine"]
    labels = (told["node"], told["version"], told["bundle"]["id"], told["site"]["calibration_id"] or "",
              e["name"], e["precision"])  # fmt: skip
    yield labels, 1


def _windows(told: Told) -> Rows:
    for channel, w in told["windows"].items():
        for outcome, n in w["outcomes"].items():
            yield (channel, outcome), n


def _signatures(told: Told) -> Rows:
    for channel, label, own_ship, n in told["signatures"]:
        yield (channel, label, str(own_ship).lower()), n


def _contacts(told: Told) -> Rows:
    for label, event, n in told["contacts"]:
        yield (label, event), n


def _source_up(told: Told) -> Rows:
    for name, s in told["sources"].items():
        yield (name,), int(s["state"] == "running")


def _channel_state(told: Told) -> Rows:
    for channel, c in told["channels"].items():
        yield (channel,), ("ok", "suspect", "bad").index(c["state"])


def _synced(told: Told) -> Rows:
    synced = told["clock"]["synced"]
    yield (), None if synced is None else int(synced)


def _clock_error(told: Told) -> Rows:
    error_ns = told["clock"]["est_error_ns"]
    yield (), None if error_ns is None else error_ns / 1e9


def _journal_up(told: Told) -> Rows:
    if told["journal"] is not None:
        yield (), int(not told["journal"]["problem"])


def _healthy(told: Told) -> Rows:
    yield (), int(told["healthy"])


def _started(told: Told) -> Rows:
    yield (), told["t_started_ns"] / 1e9


def _reloads(told: Told) -> Rows:
    yield ("done",), told["reload"]["n_done"]
    yield ("refused",), told["reload"]["n_refused"]


def _calls(told: Told) -> Rows:
    for graph, h in told["engine_calls"].items():
        yield (graph,), h


METRICS: tuple[Metric, ...] = (
    Metric("tonald_info", "gauge", ("node", "version", "bundle", "calibration", "engine", "precision"),
           "what serves; always 1", _info),
    Metric("tonald_healthy", "gauge", (), "1 if `tonald status` finds nothing wrong, else 0", _healthy),
    Metric("tonald_uptime_seconds", "gauge", (), "since the daemon began", _one("uptime_s")),
    Metric("tonald_loop_age_seconds", "gauge", (), "since the processing loop last turned", _one("loop_age_s")),
    Metric("tonald_source_up", "gauge", ("source",), "1 while the source runs, 0 while it waits, is refused or ended",
           _source_up),
    Metric("tonald_source_losses_total", "counter", ("source",), "times the source was lost", _each("sources",
           "n_lost")),
    Metric("tonald_source_restarts_total", "counter", ("source",), "times its capture came back",
           _each("sources", "n_restarts")),
    Metric("tonald_streams_total", "counter", ("source",), "stream epochs begun", _each("sources", "n_streams")),
    Metric("tonald_samples_total", "counter", ("source",), "samples per channel that came", _each("sources",
           "n_samples")),
    Metric("tonald_samples_age_seconds", "gauge", ("source",), "since samples last came",
           _each("sources", "samples_age_s")),
    Metric("tonald_backlog_seconds", "gauge", (), "sound that waits to be analysed; live sources only",
           _one("backlog", "waiting_s")),
    Metric("tonald_backlog_limit_seconds", "gauge", (), "backlog from which on samples are lost",
           _one("backlog", "most_s")),
    Metric("tonald_windows_total", "counter", ("channel", "outcome"),
           "slots of the grid: `analysed`, or why not (`gap`, `invalid`, `overload`, `warm-up`)", _windows),
    Metric("tonald_window_age_seconds", "gauge", ("channel",), "since a slot was last settled", _each("windows",
           "age_s")),
    Metric("tonald_signatures_total", "counter", ("channel", "label", "own_ship"), "signatures published", _signatures),
    Metric("tonald_contacts_total", "counter", ("label", "event"), "contact records: `start`, `update`, `end`",
           _contacts),
    Metric("tonald_gaps_total", "counter", ("reason",), "gaps published", _each("gaps", "n")),
    Metric("tonald_lost_samples_total", "counter", ("reason",), "samples per channel lost in gaps of known length",
           _each("gaps", "lost_samples")),
    Metric("tonald_lost_seconds_total", "counter", ("reason",), "length of all gaps, those between epochs estimated",
           _each("gaps", "lost_s")),
    Metric("tonald_channel_state", "gauge", ("channel",), "checks of the channel: 0 ok, 1 suspect, 2 bad",
           _channel_state),
    Metric("tonald_channel_level_db_re_fs", "gauge", ("channel",), "mean square, dB re full scale squared",
           _each("channels", "level_db_re_fs")),
    Metric("tonald_clock_synced", "gauge", (), "1 if the clock behind UTC is disciplined, 0 if not", _synced),
    Metric("tonald_clock_error_seconds", "gauge", (), "estimated error of UTC", _clock_error),
    Metric("tonald_clock_rate_ppm", "gauge", (), "sample rate against the clock, deviation from nominal",
           _one("clock", "rate_ppm")),
    Metric("tonald_clock_steps_total", "counter", (), "times the system clock stepped", _one("clock", "n_steps_total")),
    Metric("tonald_overload_step", "gauge", (), "step of the overload ladder, 0 to 3", _one("overload", "step")),
    Metric("tonald_overload_rises_total", "counter", (), "steps up the ladder", _one("overload", "n_up")),
    Metric("tonald_reloads_total", "counter", ("outcome",), "SIGHUPs: `done`, or `refused`", _reloads),
    Metric("tonald_engine_call_seconds", "histogram", ("graph",), "time of one call of the engine", _calls),
    Metric("tonald_queue_messages", "gauge", (), "messages between processing and publisher", _one("publish",
           "n_queued")),
    Metric("tonald_queue_limit_messages", "gauge", (), "room of that queue", _one("publish", "n_queue")),
    Metric("tonald_messages_total", "counter", (), "messages handed to ZeroMQ", _one("publish", "n_sent")),
    Metric("tonald_messages_dropped_total", "counter", (), "messages dropped because that queue was full",
           _one("publish", "n_dropped")),
    Metric("tonald_subscriber_stalls_total", "counter", (), "times a stuck subscriber was left behind",
           _one("publish", "n_stalls")),
    Metric("tonald_subscriptions", "gauge", (), "subscriptions at present", _one("publish", "n_subscriptions")),
    Metric("tonald_journal_up", "gauge", (), "1 while the journal can be written; absent without one", _journal_up),
    Metric("tonald_journal_next_seq", "gauge", (), "number of the next journalled record", _one("journal", "next_seq")),
    Metric("tonald_journal_first_seq", "gauge", (), "oldest number kept", _one("journal", "first_seq")),
    Metric("tonald_journal_missed_total", "counter", (), "records that could not be written", _one("journal",
           "n_missed")),
    Metric("tonald_journal_bytes", "gauge", (), "size on disk", _one("journal", "n_bytes")),
    Metric("tonald_forensic_frozen_total", "counter", (), "spans frozen; absent without a ring", _one("forensic",
           "n_frozen")),
    Metric("tonald_forensic_lost_samples_total", "counter", (), "samples per channel that the ring did not keep",
           _one("forensic", "lost_samples")),
    Metric("process_resident_memory_bytes", "gauge", (), "memory in use", _one("process", "rss_bytes")),
    Metric("process_cpu_seconds_total", "counter", (), "CPU time, user and system", _one("process", "cpu_s")),
    Metric("process_open_fds", "gauge", (), "open files and sockets", _one("process", "n_fds")),
    Metric("process_threads", "gauge", (), "threads", _one("process", "n_threads")),
    Metric("process_start_time_seconds", "gauge", (), "when the daemon began, Unix time as it stood then",
           _started),
)  # fmt: skip
"""All there are."""


def text_of(told: Told) -> str:
    """The metrics of a snapshot, as Prometheus reads them; a family without a row is left out."""
    lines: list[str] = []
    for metric in METRICS:
        rows = [line for labels, value in metric.rows(told) if value is not None
                for line in _lines(metric, labels, value)]  # fmt: skip
        if rows:
            lines += [f"# HELP {metric.name} {_escaped(metric.doc)}", f"# TYPE {metric.name} {metric.kind}", *rows]
    return "\n".join(lines) + "\n"


def _lines(metric: Metric, values: tuple[str, ...], value: Any) -> Iterator[str]:  # noqa: ANN401  (number or histogram)
    labels = dict(zip(metric.labels, values, strict=True))
    if metric.kind != "histogram":
        yield f"{metric.name}{_labels(labels)} {value!r}"
        return
    n = 0
    for bound, n_at in zip([*map(repr, value["le_s"]), "+Inf"], value["n_at"], strict=True):
        n += n_at
        yield f"{metric.name}_bucket{_labels({**labels, 'le': bound})} {n}"
    yield f"{metric.name}_sum{_labels(labels)} {value['sum_s']!r}"
    yield f"{metric.name}_count{_labels(labels)} {n}"


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_quoted(text)}"' for name, text in labels.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')
