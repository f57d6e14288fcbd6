"""Which peers there are, in the order of the table, and what the trained ones are trained on."""

from __future__ import annotations

from calibration.experiments.peers import Entry
from calibration.peers.hpss import Hpss
from calibration.peers.normalisers import MedianSubtraction, OrderTruncateAverage, Tpsw

__all__ = ["peer_entries"]


def peer_entries() -> list[Entry]:
    """All peers; none knows truth or class."""
    return [
        Entry("tpsw", Tpsw),
        Entry("tpsw_9", lambda: Tpsw(9)),
        Entry("ota", OrderTruncateAverage),
        Entry("median_subtraction", MedianSubtraction),
        Entry("hpss_mask", Hpss),
        Entry("hpss_level", lambda: Hpss("level")),
    ]
