"""No good recording is called bad; the few that are called anything have the fault they are called by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from daemon.checks.channel import ChannelChecks
from daemon.config import ChecksConfig
from daemon.frames import StreamStart

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the real recordings (../shared/data) are not at hand")

KNOWN = {
    "humpback_glacierbay_20201113.flac": {("dc", "suspect"), ("dc", "bad")},  # offset of 0.34 of full scale
    "orcasound_live002.flac": {("identical", "suspect")},  # joint stereo: alike to 0.99996 for 2 s
}


def test_checks_of_all_real_recordings() -> None:
    import soundfile

    paths = sorted(DATA.glob("*/*.flac"))
    assert len(paths) > 100
    found: dict[str, set] = {}
    for path in paths:
        x, fs = soundfile.read(path, dtype="float32", always_2d=True)
        x = np.ascontiguousarray(x.T)
        start = StreamStart("file", 0, fs, tuple(f"ch{c}" for c in range(len(x))))
        said = {check for h in ChannelChecks(ChecksConfig(), start).process(x) for check in h.quality}
        if said:
            found[path.name] = said
    assert found == KNOWN
    assert max(len(said) for said in found.values()) <= 2
