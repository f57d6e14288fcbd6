"""When a daemon is not healthy, and why, in words; judged where the status is made, so that all who read it agree."""

from __future__ import annotations

from typing import Any

__all__ = ["STALE_S", "problems_and_notes"]

STALE_S = 10.0
"""A status older than that, which is written once a second, is of a daemon that hangs or is gone."""
NO_SAMPLES_S = 10.0
NO_WINDOWS_S = 30.0
"""Beyond the time between windows."""


def problems_and_notes(told: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What is wrong, and what is worth knowing though the daemon does its work.

    Parameters
    ----------
    told : dict
        The snapshot (daemon.monitor.snapshot).
    """
    problems: list[str] = []
    notes: list[str] = []
    if told["state"] in ("stopping", "stopped", "failed"):
        problems.append(f"the daemon is {told['state']}" + (f": {told['failure']}" if told["failure"] else ""))
    elif told["failure"]:
        problems.append(told["failure"])
    if told["state"] in ("running", "waiting"):
        problems += _of_sound(told)
    for channel, c in sorted(told["channels"].items()):
        failing = ", ".join(f"{check} {state}" for check, state in c["checks"].items())
        if c["state"] == "bad":
            problems.append(f"channel {channel} is bad: {failing}")
        elif c["state"] == "suspect":
            notes.append(f"channel {channel} is suspect: {failing}")
    journal, publish = told["journal"], told["publish"]
    if journal is not None and journal["problem"]:
        problems.append(f"journal: {journal['problem']}; {journal['n_missed']} records not kept")
    elif journal is not None and journal["n_missed"]:
        notes.append(f"journal: {journal['n_missed']} records were not kept")
    if publish["n_dropped"]:
        notes.append(f"{publish['n_dropped']} messages dropped because the publisher's queue was full")
    if told["overload"]["step"]:
        notes.append(f"overload step {told['overload']['step']} ({told['overload']['name']}): less is analysed")
    if told["clock"]["synced"] is False:
        notes.append("the system clock is not synchronised: times may be off by anything")
    if told["reload"]["problem"]:
        notes.append(f"not reloaded: {told['reload']['problem']}; what served before goes on")
    if told["site"]["problem"]:
        notes.append(f"site calibration: {told['site']['words']}")
    notes += [f"engine passed over: {why}" for why in told["engine"]["passed_over"]]
    if told["forensic"] is not None and told["forensic"]["lost_samples"]:
        notes.append(f"forensic ring: {told['forensic']['lost_samples']} samples per channel not kept")
    return problems, notes


def _of_sound(told: dict[str, Any]) -> list[str]:
    """Sound that does not come, and windows that do not follow it."""
    problems = []
    sound_comes = False
    for name, s in sorted(told["sources"].items()):
        age_s = s["samples_age_s"]
        if s["state"] in ("waiting", "refused"):
            problems.append(f"source {name} is {s['state']} ({s['n_retries']} retries): {s['detail']}")
        elif told["live"] and s["state"] == "running" and age_s is not None and age_s > NO_SAMPLES_S:
            problems.append(f"source {name}: no samples for {age_s:.0f} s, and it does not say why")
        sound_comes |= age_s is not None and age_s < NO_SAMPLES_S
    if not told["sources"] and told["live"] and told["uptime_s"] > NO_WINDOWS_S:
        problems.append(f"no source has begun within {told['uptime_s']:.0f} s")
    late_s = NO_WINDOWS_S + told["hop_s"]
    for channel, w in sorted(told["windows"].items()):
        if sound_comes and w["age_s"] > late_s:
            problems.append(f"channel {channel}: no window for {w['age_s']:.0f} s though sound comes")
    if sound_comes and not told["windows"] and told["uptime_s"] > late_s:
        problems.append(f"no window within {told['uptime_s']:.0f} s though sound comes")
    return problems
