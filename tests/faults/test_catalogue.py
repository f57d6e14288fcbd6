"""The catalogue is whole, and its page is read as it was written; ``make faults`` causes the faults themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import table
from tests.faults.catalogue import PENDING, catalogue
from tests.faults.table import Outcome, read_page, summary, write_page


def test_every_number_of_the_first_design_is_there_and_more() -> None:
    numbers = [f.number for f in catalogue()]
    assert set(range(1, 43)) <= set(numbers)
    assert len(numbers) >= 70
    assert set(PENDING) <= set(numbers)


def test_every_entry_says_cause_and_expectation_on_one_line() -> None:
    for f in catalogue():
        for text in (f.cause, f.expected):
            assert text
            assert "\n" not in text


def test_page_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "PAGE", tmp_path / "faults.md")
    faults = catalogue()
    verdicts = ("kept", "broken", "not run")
    outcomes = {f.number: Outcome(f.number, verdicts[i % 3], f"words {i}", 0.0) for i, f in enumerate(faults)}
    write_page(faults, outcomes)
    again = read_page()
    for f in faults:
        if f.number not in PENDING:
            assert again[f.number] == outcomes[f.number]
    rows = [line for line in (tmp_path / "faults.md").read_text().splitlines() if line.startswith("| 1 |")]
    assert len(rows) == 1


def test_summary_counts_what_was_not_run_apart() -> None:
    text = summary([Outcome(1, "kept", "", 0), Outcome(2, "broken", "", 0), Outcome(3, "not run", "no GPU here: x", 0)])
    assert text == "faults: 1 of 2 promises kept, 1 not run: 3 no GPU here"
