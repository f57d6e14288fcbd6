"""The experiment on conformal thresholds, on score maps whose removal is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from calibration.experiments.conformal import SITES, Heard, coverage, leaving_out, run, site_row
from calibration.scenarios import SCENARIOS
from calibration.thresholds import NOMINAL_LEVELS, conformal_quantile
from daemon.cli import main
from models.bundle import Bundle
from models.engines import open_engine
from models.errors import UsageError
from models.explainer import Explainer, graphs_of


def heard(n: int, spread: float, seed: int, detected: float = 0.0, shift: float = 0.0) -> Heard:
    """Windows of 400 cells, each window's level drawn anew."""
    rng = np.random.default_rng(seed)
    level = rng.normal(shift, spread, n)[:, None]
    scores = {label: np.exp(level + rng.normal(0.0, 1.0, (n, 400))).astype(np.float32) for label in ("a", "b")}
    return Heard(scores, rng.random(n) < detected, tuple(f"r{seed}/{i}" for i in range(n)))


def test_exchangeable_windows_meet_nominal_and_scatter_less_with_more_windows() -> None:
    out = coverage(heard(300, 0.3, 1), heard(300, 0.3, 2), (12, 48), 40, 0)
    for q in NOMINAL_LEVELS:
        few, many = out["12"][q], out["48"][q]
        # error: that of the mean of 40 calibrations from one pool, and of 300 judges
        for row, size in ((few, 12), (many, 48)):
            error = 3.0 * (row["se"] * np.sqrt(2.0) + row["scatter"] / np.sqrt(40))
            assert abs(row["removed"] - 100.0 * float(q)) < error + 0.3, (q, size)
        assert many["scatter"] < 0.8 * few["scatter"]
        assert few["low"] < few["removed"] < few["high"]
        assert few["n_calibrations"] == 80
        assert 75.0 < few["stated_interval_holds"] <= 100.0


def test_judges_unlike_the_pool_are_seen() -> None:
    out = coverage(heard(300, 0.1, 1), heard(300, 0.1, 2, shift=1.0), (24,), 10, 0)
    assert out["24"]["0.95"]["removed"] < 80.0


def test_same_seed_gives_the_same_figures() -> None:
    pool, test = heard(100, 0.3, 1), heard(50, 0.3, 2)
    assert coverage(pool, test, (12,), 5, 7) == coverage(pool, test, (12,), 5, 7)
    assert coverage(pool, test, (12,), 5, 7) != coverage(pool, test, (12,), 5, 8)


def test_windows_left_out_are_those_with_a_detection() -> None:
    pool, test = heard(200, 0.3, 1, detected=0.25), heard(100, 0.3, 2)
    loud = {label: np.where(pool.detected[:, None], 5.0 * s, s) for label, s in pool.scores.items()}
    out = leaving_out(Heard(loud, pool.detected, pool.recordings), test)
    share = pool.detected.sum() / 300.0
    assert out["share_detected"] == pytest.approx(100.0 * share)
    assert out["floor_factor"] == pytest.approx(1.0 - share)
    for q in NOMINAL_LEVELS:
        assert out["removed"][q]["kept"] > out["removed"][q]["left_out"]
        quiet = {label: s[~pool.detected] for label, s in loud.items()}
        plain = np.mean([(test.scores[c] <= conformal_quantile(s, float(q))).mean() for c, s in quiet.items()])
        assert out["removed"][q]["left_out"] == pytest.approx(100.0 * plain)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.load(Bundle.shipped())


def test_site_row_tells_both_thresholds_on_the_same_windows(bundle: Bundle) -> None:
    labels = list(bundle.thresholds.mix)[:2]

    def windows(seed: int) -> Heard:
        part = heard(60, 0.1, seed)
        return Heard(dict(zip(labels, part.scores.values(), strict=True)), part.detected, part.recordings)

    first, further = windows(1), windows(2)
    row = site_row(bundle, first, further)
    for q in NOMINAL_LEVELS:
        by_bundle = [(further.scores[c] <= np.float32(bundle.thresholds.mix[c][q])).mean() for c in labels]
        assert row[q]["bundle"] == pytest.approx(100.0 * np.mean(by_bundle))
        assert row[q]["bundle_least"] == pytest.approx(100.0 * min(by_bundle))
        assert abs(row[q]["site"] - 100.0 * float(q)) < 3.0 * row[q]["site_se"] * np.sqrt(2.0) + 0.3


def test_whole_on_fresh_sea_and_numbers_out_of_range_refused(bundle: Bundle) -> None:
    engine, _ = open_engine(bundle, "onnxruntime", max_batch=16, n_threads=1, graphs=graphs_of(bundle))
    try:
        explainer, sea = Explainer(bundle, engine), SCENARIOS["standard"]
        how = {"seed": 3, "n_pool": 8, "n_repetitions": 2, "sizes": (4,), "sites": ("humming recorder",)}
        out = run(bundle, explainer, sea, n_site=4, n_judge=4, **how)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="pool is 6"):
            run(bundle, explainer, sea, **{**how, "n_pool": 6})  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="repetitions are 1"):
            run(bundle, explainer, sea, **{**how, "n_repetitions": 1})  # type: ignore[arg-type]
    finally:
        engine.close()
    assert out["synthetic"] is True
    assert out["bundle"] == bundle.id
    assert set(out["sites"]) == {"humming recorder"} < set(SITES)
    # of 8 windows and 4 judges nothing can be told but that it is no nonsense
    assert 70.0 < out["coverage"]["4"]["0.86"]["removed"] < out["coverage"]["4"]["0.99"]["removed"] <= 100.0
    json.dumps(out, allow_nan=False)


def test_command_refuses_what_would_fail_later(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["experiments", "conformal", "--json", str(tmp_path / "no" / "x.json")]) == 66
    assert main(["experiments", "conformal", "--pool", "10"]) == 64
    assert "pool is 10: must lie in 192" in capsys.readouterr().err
