"""``tonald status``: how the running daemon is, for people and for scripts."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from daemon.config import Config
from daemon.monitor.status_file import NAME, age_of, read_status, stale_words, status_path

__all__ = ["add_arguments", "run"]

INSTALLED = Path("/run/tonald") / NAME
UNWELL, STALE = 1, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the command's words."""
    parser.description = (
        f"Read what the daemon says of itself once a second. Ends with 0 if all is well, {UNWELL} if not, {STALE} if "
        "the daemon hangs or does not run, 66 if there is no such file."
    )
    parser.add_argument(
        "file", metavar="FILE", type=Path, nargs="?",
        help=f"status file (default: that of the settings, or of $RUNTIME_DIRECTORY, or {INSTALLED})",
    )  # fmt: skip
    parser.add_argument("--config", metavar="FILE", type=Path, help="settings of the daemon")
    parser.add_argument("--json", action="store_true", help="print it as it is, with 'age_s' and 'stale'")


def run(args: argparse.Namespace) -> int:
    """Print it."""
    config = Config.load(args.config) if args.config else Config()
    told = read_status(args.file or status_path(config) or INSTALLED)
    stale = stale_words(told)
    if args.json:
        print(json.dumps({**told, "age_s": age_of(told), "stale": stale}, indent=1))
    else:
        print("\n".join(_lines(told, stale)))
    if stale is not None or told["state"] in ("stopped", "failed"):
        return STALE
    return 0 if told["healthy"] else UNWELL


def _lines(told: dict[str, Any], stale: str | None) -> Iterator[str]:
    if stale is not None:
        yield f"STALE     {stale}; what follows was true then"
    yield f"state     {told['state']}, {'healthy' if told['healthy'] else 'NOT HEALTHY'}"
    yield from (f"PROBLEM   {words}" for words in told["problems"])
    yield from (f"note      {words}" for words in told["notes"])
    yield f"daemon    {told['node']}, tonald {told['version']}, process {told['pid']}, up {_span(told['uptime_s'])}"
    if "sources" in told:
        yield from _serving(told)
    m = told["process"]
    rss = "?" if m["rss_bytes"] is None else f"{m['rss_bytes'] / 1e6:.0f} MB"
    yield f"process   {rss}, {m['n_fds']} files, {m['n_threads']} threads, {m['cpu_s']:.0f} s of CPU"
    when = datetime.fromtimestamp(told["t_written_ns"] / 1e9, timezone.utc)
    yield f"written   {when.isoformat(timespec='seconds')}"


def _serving(told: dict[str, Any]) -> Iterator[str]:
    """All that there is to tell once the service is started."""
    yield from (_source(name, s) for name, s in told["sources"].items())
    yield from _channels(told)
    c, r = told["counts"], told["rates"]
    yield (
        f"heard     {c['audio_s']:.0f} s of audio, {c['n_windows']} windows, {c['n_skipped']} not analysed, "
        f"{c['n_signatures']} signatures, {c['n_contacts']} contacts, {c['lost_samples']} samples lost in "
        f"{c['n_gaps']} gaps"
    )
    if r:
        yield (
            f"rates     {r['audio_s_per_s']:.2f} s of audio, {r['windows_per_s']:.2f} windows, "
            f"{r['signatures_per_s']:.2f} signatures, {r['messages_per_s']:.1f} messages per second"
        )
    yield f"overload  step {told['overload']['step']} ({told['overload']['name']})" + _backlog(told["backlog"])
    yield f"clock     {_clock(told['clock'])}"
    e = told["engine"]
    yield f"engine    {e['name']} ({e['precision']}) on {e['device']}"
    yield f"bundle    {told['bundle']['id']}: {', '.join(told['bundle']['labels'])}"
    yield f"site      {told['site']['words']}"
    p = told["publish"]
    yield (
        f"publish   {', '.join(p['endpoints'])}: {p['n_sent']} messages, {p['n_dropped']} dropped, "
        f"{p['n_queued']} of {p['n_queue']} queued, {p['n_subscriptions']} subscriptions"
    )
    if (j := told["journal"]) is not None:
        kept = f"{j['first_seq']} to {j['next_seq'] - 1}" if j["next_seq"] > j["first_seq"] else "nothing yet"
        yield f"journal   {j['problem'] or 'good'}: {kept}, {j['n_bytes'] / 1e6:.1f} MB, {j['n_missed']} missed"
    if (f := told["forensic"]) is not None:
        yield f"forensic  {f['n_frozen']} spans frozen, {f['lost_samples']} samples per channel not kept"


def _source(name: str, s: dict[str, Any]) -> str:
    age = "no samples yet" if s["samples_age_s"] is None else f"samples {s['samples_age_s']:.1f} s ago"
    detail = f": {s['detail']}" if s["detail"] else ""
    return (
        f"source    {name} is {s['state']}{detail}; {s['label'] or 'nothing begun'}, {s['fs']} Hz, epoch {s['epoch']} "
        f"at sample {s['position']}, {age}, lost {s['n_lost']} times"
    )


def _channels(told: dict[str, Any]) -> Iterator[str]:
    for channel in sorted(told["windows"].keys() | told["channels"].keys()):
        w, c = told["windows"].get(channel), told["channels"].get(channel)
        words = []
        if c is not None:
            failing = ", ".join(f"{check} {state}" for check, state in c["checks"].items())
            level = "no level" if c["level_db_re_fs"] is None else f"{c['level_db_re_fs']:.1f} dB re FS"
            words.append(f"{c['state']}{f' ({failing})' if failing else ''}, {level}")
        if w is not None:
            counts = ", ".join(f"{n} {outcome}" for outcome, n in sorted(w["outcomes"].items()))
            words.append(f"windows: {counts}, last {w['age_s']:.1f} s ago")
        yield f"channel   {channel}: {'; '.join(words)}"


def _clock(c: dict[str, Any]) -> str:
    synced = {True: "synchronised", False: "NOT synchronised", None: "synchronisation unknown"}[c["synced"]]
    error = "" if c["est_error_ns"] is None else f", within {c['est_error_ns'] / 1e6:.3f} ms"
    rate = "" if c["rate_ppm"] is None else f", rate {c['rate_ppm']:+.2f} ppm"
    return f"{c['source']}, {synced}{error}{rate}, {c['n_steps_total']} steps"


def _backlog(b: dict[str, Any] | None) -> str:
    return "" if b is None else f", {b['waiting_s']:.2f} of {b['most_s']:.1f} s of sound wait"


def _span(seconds: float) -> str:
    days, rest = divmod(int(seconds), 86400)
    clock = f"{rest // 3600:02d}:{rest // 60 % 60:02d}:{rest % 60:02d}"
    return f"{days} d {clock}" if days else clock
