"""Real hydrophone recordings, where they are at hand: every window accounted for, tonals where others measured them."""

import csv
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from daemon.lines import lines_of
from models.bundle import Bundle
from models.errors import SampleRateError
from models.features import windows_of
from models.tracks import TrackFinder

soundfile = pytest.importorskip("soundfile", reason="the audio extra is not installed")

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real recordings (../shared/data) are not at hand")


def expected_windows() -> Counter:
    """Windows of each file by its length alone."""
    spec = Bundle.load(Bundle.shipped()).spec
    n: Counter = Counter()
    for path in DATA.rglob("*.flac"):
        info = soundfile.info(path)
        if info.samplerate >= spec.fs_model:
            n[path.name] += spec.n_windows(info.samplerate, info.frames) * info.channels
    return n


def test_all_recordings_in_one_run_give_as_many_windows_as_their_lengths_say(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/out"
    script = [sys.executable, str(ROOT / "docs" / "wire" / "subscriber.py"), endpoint]
    words = ["run", "--source", str(DATA), "--once", "--wait-subscriber", "30", "--publish", endpoint, "--verbose"]
    with (tmp_path / "heard").open("w+") as heard, subprocess.Popen(script, stdout=heard) as listener:
        try:
            daemon = subprocess.run(
                [sys.executable, "-m", "daemon", *words],
                cwd=ROOT, capture_output=True, text=True, timeout=200, check=False,
            )  # fmt: skip
            listener.wait(60)
        finally:
            listener.kill()
        heard.seek(0)
        out = heard.read()
    assert daemon.returncode == 0, daemon.stderr[-2000:]
    assert listener.returncode == 0, "the independent subscriber lost messages"
    got: Counter = Counter()
    name = ""
    for line in daemon.stdout.splitlines():
        if "  status     running  " in line:
            name = line.split("  status     running  ")[1].strip().split("  ")[0]  # what the checks say comes after it
        elif "  window     " in line:
            got[name] += 1
    expected = expected_windows()
    assert +got == +expected
    assert sum(line.startswith("window/") for line in out.splitlines()) == sum(expected.values())
    short = [n for n, windows in expected.items() if not windows]
    for n in short:  # told of each, in the journal of the system only of the first: they are counted
        assert f"{n}: too short" in daemon.stdout
    assert "(more of these within 600 s are counted only)" in daemon.stderr
    assert "pamguard_blue_whale.flac: sampled at 1000 Hz" in daemon.stderr
    assert "Traceback" not in daemon.stderr
    assert daemon.stdout.count("  signature  ") > 0.5 * sum(got.values())
    unknown = daemon.stdout.count("  signature  unknown")
    # the bundle knows simulated vessels only; 90 % measured, the rest are chance fits of a template
    assert unknown > 0.85 * daemon.stdout.count("  signature  ")


def test_tonals_agree_with_those_measured_by_others(record_property) -> None:  # noqa: ANN001
    spec = Bundle.load(Bundle.shipped()).spec
    listed: Counter = Counter()
    found: Counter = Counter()
    with (DATA / "labels.csv").open() as f:
        rows = list(csv.DictReader(f))
    finder = TrackFinder(spec)
    for row in rows:
        x, fs = soundfile.read(DATA / row["file"], dtype="float32", always_2d=True)
        try:
            windows = list(windows_of(spec, fs, np.ascontiguousarray(x.T)))
        except SampleRateError:
            continue
        tracked = [(w.spectrum_db[0], finder.find(w.spectrum_db[0])) for w in windows]
        lines = [t.line for spectrum, tracks in tracked for t in lines_of(spec, fs, tracks, spectrum, 3.0)]
        at = np.array([line.freq_hz for line in lines])
        for text in row["lines_hz"].split() if windows else ():
            f_hz = float(text)
            if spec.f_lo_hz <= f_hz <= spec.f_hi_hz - 8:
                listed[row["cls"]] += 1
                found[row["cls"]] += bool(at.size and np.abs(at - f_hz).min() <= 2.0)  # they used 1 Hz bins, we 2
    for cls, n in sorted(listed.items()):
        record_property(cls, f"{found[cls]} of {n}")
        sys.stdout.write(f"{cls:20} {found[cls]:3d} of {n:3d} listed lines found\n")
    vessels = defaultdict(int)
    for cls, n in listed.items():
        if cls.startswith("vessel"):
            vessels["listed"] += n
            vessels["found"] += found[cls]
    assert vessels["found"] >= 0.8 * vessels["listed"]  # measured: 123 of 137; the list is an aid, not truth
