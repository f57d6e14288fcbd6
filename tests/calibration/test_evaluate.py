"""Evaluation with networks whose answers are known: perfect, blind, and always the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from calibration.dataset import AMBIENT, Clip, WindowSet, collect, simulated_clips
from calibration.evaluate import Calibrated, evaluate
from calibration.metrics import WindowTruth
from calibration.report import Example, write_report
from calibration.scenarios import SCENARIOS
from models.features import FeatureSpec
from models.manifest import Thresholds
from models.verdict import Detection, Verdict

SPEC = FeatureSpec()
STANDARD = SCENARIOS["standard"]
LABELS = (*STANDARD.labels, AMBIENT)


class Oracle:
    """Knows every window; `slip` maps a true label index to the one it names instead."""

    def __init__(self, windows: WindowSet, slip: Mapping[int, int] | None = None) -> None:
        self._windows, self._slip = windows, slip or {}
        self._index = {f.tobytes(): i for i, f in enumerate(windows.features)}

    def _ids(self, features: np.ndarray) -> list[int]:
        return [self._index[f.tobytes()] for f in np.ascontiguousarray(features)]

    def explain(self, features: np.ndarray, spectra_db: np.ndarray | None = None) -> list[Verdict]:
        verdicts = []
        for i in self._ids(features):
            named = self._slip.get(int(self._windows.y[i]), int(self._windows.y[i]))
            found = () if named == 4 else (Detection(LABELS[named], 0.9, self._tone(i, LABELS[named])),)
            probs = np.eye(len(LABELS), dtype=np.float32)[named]
            verdicts.append(Verdict(found, not found, False, probs, "a/0", 0.0, None, {}, 0.0))
        return verdicts

    def explain_all(
        self, features: np.ndarray, cls: np.ndarray, spectra_db: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        maps = np.stack([self._tone(i, LABELS[c]) for i, c in zip(self._ids(features), cls, strict=True)])
        return maps, maps

    def _tone(self, i: int, label: str) -> np.ndarray:
        w = self._windows
        truth = w.truths[w.clip[i]]
        if truth is None:
            return np.zeros(SPEC.shape[1:], np.float32)
        return WindowTruth.of(truth, SPEC, 2000, int(w.first_sample[i]), label).tone.astype(np.float32)


@pytest.fixture(scope="module")
def windows() -> WindowSet:
    return collect(simulated_clips(STANDARD, "test", 2, 18.0), SPEC, LABELS, every=8)


@pytest.fixture(scope="module")
def bundle() -> Calibrated:
    return Calibrated(
        LABELS,
        SPEC,
        Thresholds(
            {label: {"0.86": 0.4, "0.95": 0.5, "0.99": 0.6} for label in STANDARD.labels},
            "0.95",
            dict.fromkeys(LABELS, 0.5),
            dict.fromkeys(LABELS, 0.5),
        ),
        {label: STANDARD.canonical_lines(label).tolist() for label in STANDARD.labels},
    )


def test_evaluate_gives_an_oracle_full_marks(windows: WindowSet, bundle: Calibrated) -> None:
    result = evaluate(bundle, Oracle(windows), windows)
    assert result["accuracy"] == result["accuracy_recordings"] == 100.0
    for point in ("conformal_86", "conformal_95", "conformal_99", "cut_65", "cut_75", "cut_85"):
        s = result["signature"][point]
        assert (s["removed_noise"], s["overwritten_tones"], s["intersecting_regions"]) == (100.0, 0.0, 0.0)
        assert s["pixel_f1"] == s["line_f1"] == 100.0
        assert s["removed_noise_se"] == 0.0
    assert result["signature"]["threshold_free"]["tone_auc"] == 1.0
    assert result["unknown"]["rejected_known"] == 0.0
    assert np.array_equal(np.array(result["confusion"]), np.diag(list(windows.counts().values())))


def test_evaluate_counts_a_vessel_taken_for_ambient_as_no_signature(windows: WindowSet, bundle: Calibrated) -> None:
    result = evaluate(bundle, Oracle(windows, slip={0: 4}), windows)
    lost = result["per_class"]["vessel_0"]
    assert lost["accuracy"] == 0.0
    assert lost["signature"]["conformal_95"]["overwritten_tones"] == 100.0
    assert lost["signature"]["conformal_95"]["removed_noise"] == 100.0
    assert result["per_class"]["vessel_1"]["signature"]["conformal_95"]["overwritten_tones"] == 0.0
    assert result["accuracy"] == pytest.approx(80.0)


def test_evaluate_scores_the_map_of_the_label_that_was_named(windows: WindowSet, bundle: Calibrated) -> None:
    result = evaluate(bundle, Oracle(windows, slip={0: 2}), windows)
    s = result["per_class"]["vessel_0"]["signature"]
    assert s["conformal_95"]["overwritten_tones"] == 100.0  # no line of vessel_2 sounds in these windows
    assert s["threshold_free"]["tone_auc"] == 1.0  # the map of the true label is still right


def test_evaluate_without_truth_gives_accuracy_only(windows: WindowSet, bundle: Calibrated) -> None:
    blind = WindowSet(
        SPEC, LABELS, windows.clips, tuple(None for _ in windows.clips), windows.features, windows.y, windows.clip,
        windows.channel, windows.first_sample,
    )  # fmt: skip
    result = evaluate(bundle, Oracle(windows), blind)
    assert result["signature"] is None
    assert result["accuracy"] == 100.0
    json.dumps(result, allow_nan=False)


def test_evaluate_counts_strangers_apart(bundle: Calibrated) -> None:
    clips = simulated_clips(STANDARD, "test", 1, 9.0)
    strange = [Clip("s", "stranger", "s", 2000, clips[0].load)]
    windows = collect([*clips[1:], *strange], SPEC, LABELS, others=True)
    assert list(windows.y).count(-1) == 1

    class Far:
        def explain(self, features: np.ndarray, spectra_db: np.ndarray | None = None) -> list[Verdict]:
            out = []
            for f in features:
                strange = f.tobytes() == windows.features[-1].tobytes()
                found = () if strange else (Detection("vessel_1", 1.0, np.zeros(SPEC.shape[1:], "f4")),)
                probs = np.eye(5, dtype="f4")[1]
                out.append(Verdict(found, False, strange, probs, "a/0", 9.0 if strange else 0.0, None, {}, 0.0))
            return out

        def explain_all(
            self, features: np.ndarray, cls: np.ndarray, spectra_db: np.ndarray | None = None
        ) -> tuple[np.ndarray, np.ndarray]:
            maps = np.zeros((len(features), *SPEC.shape[1:]), "f4")
            return maps, maps

    result = evaluate(bundle, Far(), windows)
    assert result["unknown"] == {
        "rejected_known": 0.0, "rejected_ambient": 0.0, "rejected_strange": 100.0, "named_strange": 0.0,
        "auroc": 1.0, "auroc_ambient": 1.0,
    }  # fmt: skip
    assert result["accuracy"] == 25.0


def test_report_holds_table_pictures_and_says_synthetic(tmp_path: Path, windows: WindowSet, bundle: Calibrated) -> None:
    from PIL import Image

    result = evaluate(bundle, Oracle(windows), windows)
    f = windows.features[0, 0]
    mask = f > 0.4
    examples = [Example(f"vessel {i}", f, f, f, f, mask, mask, ~mask, mask) for i in range(5)]
    write_report(
        tmp_path,
        results={"evaluation": result, "evaluated_on": "two recordings"},
        examples=examples,
        spec=SPEC,
        history={"val_loss": [1.0, 0.5]},
        elbows={"vessel_0": ((2, 3, 4), (9.0, 3.0, 2.0), 3)},
        synthetic=True,
    )
    assert json.loads((tmp_path / "report.json").read_text())["evaluation"]["accuracy"] == 100.0
    page = (tmp_path / "index.html").read_text()
    assert "Synthetic" in page
    assert "conformal 0.95" in page
    assert sorted(p.name for p in tmp_path.glob("*.png")) == ["summary.png", *(f"window_{i}.png" for i in range(1, 6))]
    with Image.open(tmp_path / "window_1.png") as image:
        colours = image.convert("RGB").getcolors(256)
    assert colours is not None
    assert (255, 255, 255) in [c for _, c in colours]
    assert sum(p.stat().st_size for p in tmp_path.iterdir()) < 1_000_000
