"""Vessel or not: what leaks is seen to leak, what is grouped stays together, lines are counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from calibration.experiments.vessels import SPLITS, Material, fitted, run, tried
from calibration.experiments.vessels_bundle import by_folder
from calibration.experiments.vessels_intervals import compared, judged
from calibration.experiments.vessels_mixed import mixtures, simulated
from calibration.experiments.vessels_windows import N_MODEL, SPEC, Windows, line_figures, look
from models.bundle import Bundle
from models.engines import open_engine
from models.errors import InputError
from models.explainer import Explainer
from models.tracks import TrackFinder

FS, SECONDS = 2000, 10.2
#: As many as a vessel has, none on a multiple of 50 or 60 Hz.
TONES_HZ = (34.0, 46.0, 62.0, 74.0, 90.0, 112.0, 133.0, 158.0, 181.0, 212.0, 253.0, 287.0)


def write(folder: Path, name: str, tones_hz: tuple[float, ...], seed: int) -> None:
    t = np.arange(round(SECONDS * FS)) / FS
    x = 0.05 * np.random.default_rng(seed).standard_normal(t.size) + 0.01
    for f in tones_hz:
        x += 0.02 * np.sin(2 * np.pi * f * t)
    (folder / name).parent.mkdir(exist_ok=True)
    soundfile.write(folder / name, x, FS, subtype="FLOAT")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("real")
    rows = ["file,cls,vessel"]
    for site in ("bay", "strait"):
        for i in range(3):
            name = f"vessel_a/{site}_{i}.wav"
            write(place, name, TONES_HZ, 10 * i + len(site))
            rows.append(f"{name},vessel_a,{site.upper()} {i}")
    for site in ("reef", "shelf"):
        for i in range(3):
            name = f"ambient/{site}_2020010{i}.wav"
            write(place, name, (), 2000 + 10 * i + len(site))
            rows.append(f"{name},ambient,")
    (place / "labels.csv").write_text("\n".join(rows) + "\n")
    return place


def test_lines_tell_vessels_of_sites_never_heard(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calibration.experiments.vessels_intervals.N_BOOT", 60)
    found = run(folder, 0)
    assert (found["n_windows"], found["n_vessel_windows"]) == (24, 12)
    assert found["sites"] == {"vessel": ["bay", "strait"], "ambient": ["reef", "shelf"]}
    by_site = found["judges"]["lines"]["by site"]
    assert by_site["n_folds"] == 4
    assert by_site["auc"] == 100.0
    assert by_site["auc_95"] == [100.0, 100.0]
    assert found["folders"]["vessel_a"]["coherent"] > found["folders"]["ambient"]["coherent"] + 4
    assert found["folders"]["vessel_a"]["called_vessel"] == {"mixed": 100.0, "simulated": 100.0}
    assert found["folders"]["ambient"]["called_vessel"]["simulated"] == 0.0
    # these spectra tell as well, so the lines are no better
    assert found["better_than_baseline"]["lines"]["by site"]["auc"] <= 0.0
    assert found["pairs"] == [["bay", "reef"], ["bay", "shelf"], ["strait", "reef"], ["strait", "shelf"]]
    # each vessel window over both seas, each ambient window over the other
    assert found["n_mixtures"] == 12 * 2 + 12


def windows_of_recorders(seed: int = 0) -> Windows:
    """Each session has a spectrum of its own, vessels and sea have nothing apart: only a leak can tell them."""
    rng = np.random.default_rng(seed)
    folder, group, site, spectra = [], [], [], []
    for i in range(16):
        own = rng.standard_normal(32) * 3.0
        for _ in range(6):
            folder.append("vessel_a" if i < 8 else "ambient")
            group.append(f"g{i}")
            site.append(f"s{i // 4}")
            spectra.append(own + 0.3 * rng.standard_normal(32))
    return Windows(
        np.array(folder),
        np.array(group),
        np.array(site),
        np.array(spectra),
        np.zeros((96, 5)),
        np.zeros((96, N_MODEL), np.float32),
    )


def scored(w: Windows, split: str, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(te, fitted(w.spectra[tr], w.is_vessel[tr], w.spectra[te])) for tr, te in SPLITS[split](w, seed)]


def test_a_random_split_leaks_and_a_grouped_one_does_not() -> None:
    seen: dict[str, list[float]] = {name: [] for name in SPLITS}
    for seed in range(4):
        w = windows_of_recorders(seed)
        for name in SPLITS:
            figures = judged(scored(w, name, seed), w)
            assert figures is not None
            seen[name].append(figures["auc"])
    assert np.mean(seen["random"]) > 97.0
    assert np.mean(seen["by vessel"]) < 80.0
    assert np.mean(seen["by site"]) < 80.0


def test_no_group_is_on_both_sides() -> None:
    w = windows_of_recorders()
    for train, test in SPLITS["by vessel"](w, 0):
        assert not set(w.group[test].tolist()) & set(w.group[train].tolist())
    for train, test in SPLITS["by site"](w, 0):
        assert len(set(w.site[test].tolist())) == 2
        assert not set(w.site[test].tolist()) & set(w.site[train].tolist())


def test_intervals_are_of_groups_not_of_windows() -> None:
    """One vessel of two scores wrong throughout: whether it is drawn decides the figure."""
    w = windows_of_recorders().take(np.flatnonzero(np.repeat(np.isin(np.arange(16), (0, 1, 8, 9)), 6)))
    score = np.where(w.group == "g0", 0.1, np.where(w.is_vessel, 0.9, 0.2))
    figures = judged([(np.arange(24), score)], w)
    assert figures is not None
    assert figures["auc"] == pytest.approx(50.0)
    assert figures["balanced_accuracy"] == pytest.approx(75.0)
    assert figures["auc_95"] == [0.0, 100.0]
    assert figures["balanced_accuracy_95"] == [50.0, 100.0]


def test_equal_judges_differ_by_nothing_and_others_by_pairs_of_draws() -> None:
    w = windows_of_recorders()
    folds = scored(w, "by site", 0)
    same = compared(folds, folds, w)
    assert same is not None
    assert (same["auc"], same["auc_95"]) == (0.0, [0.0, 0.0])
    best = [(i, w.is_vessel[i].astype(np.float64)) for i, _ in folds]
    gain, alone = compared(best, folds, w), judged(folds, w)
    assert gain is not None
    assert alone is not None
    assert gain["auc"] == pytest.approx(100.0 - alone["auc"])
    assert gain["auc_95"] == pytest.approx([100.0 - alone["auc_95"][1], 100.0 - alone["auc_95"][0]])
    with pytest.raises(ValueError, match="folds of two judges differ"):
        compared(folds, folds[::-1], w)


def test_ties_count_half_and_folds_without_a_kind_are_left_out() -> None:
    w = windows_of_recorders()
    figures = judged([(np.arange(96), np.full(96, 0.7))], w)
    assert figures is not None
    assert (figures["auc"], figures["balanced_accuracy"]) == (50.0, 50.0)
    assert judged([], w) is None


def test_mixtures_hold_both_halves_and_a_fold_sees_only_its_own(folder: Path) -> None:
    w = look(folder)
    mixed = mixtures(w, 0)
    first, second = w.site[mixed.pair[:, 0]], w.site[mixed.pair[:, 1]]
    assert not np.any(first == second)
    assert not w.is_vessel[mixed.pair[:, 1]].any()
    # half of the tones' lines survive an equally loud sea, and no sea over a sea grows them
    assert mixed.lines[mixed.is_vessel, 0].mean() > mixed.lines[~mixed.is_vessel, 0].mean() + 3.0
    for train, test in SPLITS["by site"](w, 0):
        own = mixed.within(train)
        assert own.any()
        assert not np.isin(mixed.pair[own], test).any()


def test_the_simulated_judge_learns_nothing_from_the_recordings(folder: Path) -> None:
    w = look(folder)
    sea = simulated()
    assert sea[1].mean() == 0.5
    m = Material(w, mixtures(w, 0), sea)
    every = np.arange(len(w))
    assert np.array_equal(tried(m, "simulated", every[:2], every), tried(m, "simulated", every, every))


def test_noise_holds_fewer_tones_than_a_vessel_whatever_its_level() -> None:
    rng = np.random.default_rng(3)
    noise = (1e-3 * rng.standard_normal(N_MODEL)).astype(np.float32)
    t = np.arange(N_MODEL) / SPEC.fs_model
    hz = np.array([[60.0], [110.0], [170.0], [310.0]])
    tones = noise + (1e-3 * np.sin(2 * np.pi * hz * t).sum(axis=0)).astype(np.float32)
    finder = TrackFinder(SPEC)
    assert line_figures(tones, finder)[0] >= line_figures(noise, finder)[0] + 4
    assert np.allclose(line_figures(100.0 * tones, finder), line_figures(tones, finder), rtol=1e-3)


def test_the_shipped_bundle_hears_lines_and_no_noise(folder: Path) -> None:
    bundle = Bundle.load(Bundle.shipped())
    engine, _ = open_engine(bundle, "onnxruntime", max_batch=16, n_threads=1)
    try:
        found = by_folder(bundle, Explainer(bundle, engine), folder)
    finally:
        engine.close()
    assert {k: (v["n_windows"], v["n_groups"]) for k, v in found["folders"].items()} == {
        "ambient": (6, 6), "vessel_a": (6, 6),
    }  # fmt: skip
    assert found["folders"]["ambient"]["heard"] == 0.0
    assert found["folders"]["vessel_a"]["heard"] == 100.0
    assert found["left_out"] == 0


def test_tables_and_recordings_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels\.csv: cannot be read"):
        look(tmp_path)
    (tmp_path / "labels.csv").write_text("file,cls\na.wav,ambient\n")
    with pytest.raises(InputError, match="lacks the column vessel"):
        look(tmp_path)
    (tmp_path / "labels.csv").write_text("file,cls,vessel\na.wav,ambient,\n")
    with pytest.raises(InputError, match=r"a\.wav: cannot be read"):
        look(tmp_path)


def test_real_recordings_are_grouped_and_each_is_cut_to_pieces() -> None:
    data = Path(__file__).parents[3] / "shared" / "data"
    if not data.is_dir():
        pytest.skip("../shared/data is absent")
    w = look(data)
    assert len(set(w.group[w.is_vessel].tolist())) == 12
    assert set(w.site[w.is_vessel].tolist()) == {"deepship", "shipsear"}
    assert set(w.site[np.char.startswith(w.folder, "ambient")].tolist()) == {"mbari_mars", "onc", "orcasound", "osekit"}
    # of an offset of 0.03, that of one recorder, nothing is left but what 5 s hold of the swell
    assert np.abs(w.audio.mean(axis=1)).max() < 0.01
    assert np.abs(w.spectra.mean(axis=1)).max() < 1e-9
