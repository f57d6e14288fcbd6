"""The systemd unit: installed, and accepted without a word."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from daemon.doctor.finding import Finding, fail, ok, warn

__all__ = ["FOLDERS", "NAME", "TEMPLATE", "check_unit", "find_unit"]

NAME, TEMPLATE = "tonald.service", "tonald@.service"
FOLDERS = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
           "/lib/systemd/system")  # fmt: skip
TIMEOUT_S = 60.0


def find_unit(folders: Sequence[str | Path] = FOLDERS) -> Path | None:
    """The unit that systemd would take, else the template; None if there is neither."""
    paths = (Path(folder) / name for name in (NAME, TEMPLATE) for folder in folders)
    return next((p for p in paths if p.is_file()), None)


def check_unit(path: Path | None = None) -> Iterator[Finding]:
    """``systemd-analyze verify`` must be silent: it exits 0 on keys it does not know, so its words count."""
    unit = path or find_unit()
    if unit is None:
        yield warn("unit", f"{NAME} is not installed", "copy systemd/tonald.service to /etc/systemd/system")
        return
    if not unit.is_file():
        yield fail("unit", f"{unit} does not exist", "give the path of a unit file")
        return
    tool = shutil.which("systemd-analyze")
    if tool is None:
        yield warn("unit", f"{unit} is there, but systemd-analyze is not", "apt-get install systemd")
        return
    try:
        done = subprocess.run(  # noqa: S603  (fixed words, no shell)
            [tool, "verify", str(unit)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S,
            check=False, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        yield warn("unit", f"systemd-analyze verify took longer than {TIMEOUT_S:g} s", "try again on an idle machine")
        return
    words = (done.stderr + done.stdout).strip().splitlines()
    if done.returncode or words:
        yield fail("unit", f"systemd-analyze verify {unit}: {(words or ['no words'])[0]}", "mend what it says")
    else:
        yield ok("unit", f"{unit}: accepted by systemd-analyze verify without a word")
