"""docs/time.md names every field of the clock, every outcome of verify, and the key for pulses."""

from pathlib import Path

from daemon.commands.verify import EXIT_CODES
from daemon.config import SourceConfig
from daemon.sources.clock_epoch import ALARM_PPM
from daemon.wire_schema import CLOCK

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_page_names_each_field_of_the_clock_and_each_outcome() -> None:
    text = (DOCS / "time.md").read_text()
    for name in CLOCK:
        assert f"`{name}`" in text, name
    for source in CLOCK["source"].one_of:
        assert f"`{source}`:" in text, source
    for outcome, code in EXIT_CODES.items():
        assert f"| `{outcome}` | {code} |" in text
    assert SourceConfig().pps_channel == -1
    assert "pps_channel = " in text
    assert f"More than {ALARM_PPM:.0f} ppm" in (DOCS / "troubleshooting.md").read_text()
