"""Site calibration of a bundle with line templates: its score maps need spectra, and it has a vessel map as well."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from calibration.site import ChannelCalibration, SiteCalibration
from calibration.site_scores import measure, vessel_maps
from calibration.site_windows import windows_of_folder
from calibration.thresholds import NOMINAL_LEVELS, conformal_quantile
from daemon.extract import Limits
from daemon.frames import AudioBlock, Record, Signature, StreamEnd, StreamStart
from daemon.pipeline import Pipeline, with_hop
from daemon.site_extract import SiteExtractor
from daemon.site_refresh import SiteEstimator
from models.bundle import Bundle
from models.engines import open_engine
from models.errors import InputError
from models.explainer import Explainer, graphs_of
from models.features import windows_of
from models.score_map import vessel_map
from tests.site.conftest import FS, LOW_SHIP, noise


@pytest.fixture(scope="module")
def explainer(tracked: Bundle) -> Iterator[Explainer]:
    engine, _ = open_engine(tracked, "onnxruntime", max_batch=8, n_threads=1, graphs=graphs_of(tracked))
    yield Explainer(tracked, engine)
    engine.close()


@pytest.fixture(scope="module")
def channel(tracked: Bundle, explainer: Explainer, sea: Path) -> ChannelCalibration:
    windows, _ = windows_of_folder(tracked, sea)
    return measure(tracked, explainer, windows)["ch0"].calibrated("left out")


def test_thresholds_are_those_of_the_maps_made_with_tracks(
    tracked: Bundle, explainer: Explainer, sea: Path, channel: ChannelCalibration
) -> None:
    import soundfile

    x, s = [], []
    for path in sorted(sea.iterdir()):
        sound, _ = soundfile.read(path, dtype="float32", always_2d=True)
        for w in list(windows_of(tracked.spec, FS, sound.T))[::3]:
            x.append(w.features[0])
            s.append(w.spectrum_db[0])
    lo, n_time = tracked.spec.row_lo, tracked.spec.n_time
    quiet = np.array([not v.detections for v in explainer.explain(x, s)])
    assert quiet.sum() == channel.n_windows
    kept = [(a, b) for a, b, q in zip(x, s, quiet, strict=True) if q]
    features, spectra = (np.stack(part) for part in zip(*kept, strict=True))
    maps = explainer.explain_all(features, tracked.labels.index("low"), spectra)[1][:, lo:]
    without = explainer.explain_all(features, tracked.labels.index("low"))[1][:, lo:]
    vessel = np.stack([vessel_map(v.tracks, v.own, n_time, lo)[lo:] for v in explainer.explain(features, spectra)])
    for q in NOMINAL_LEVELS:
        assert channel.labels["low"][q].value == conformal_quantile(maps, float(q))
        assert channel.labels["low"][q].value != conformal_quantile(without, float(q))
        assert channel.vessel[q].value == conformal_quantile(vessel, float(q))


def records(tracked: Bundle, explainer: Explainer, x: np.ndarray, site: SiteCalibration | None) -> list[Record]:
    spec = with_hop(tracked.spec, 2.0)
    limits = Limits.of(tracked.thresholds, "0.95", 3.0, 2)
    pipeline = Pipeline(spec, explainer, SiteExtractor(spec, limits, "0.95", site, "vessel"))
    events = [
        StreamStart("s", 0, FS, ("ch0",)), AudioBlock("s", 0, 0, FS, x[None]), StreamEnd("s", 0, x.size, final=True),
    ]  # fmt: skip
    return [r for e in events for r in pipeline.process(e)]


def test_vessel_mode_cuts_by_the_site(tracked: Bundle, explainer: Explainer, channel: ChannelCalibration) -> None:
    high = {q: dataclasses.replace(t, value=0.5 + 0.001 * i) for i, (q, t) in enumerate(channel.vessel.items())}
    site = SiteCalibration.now(tracked, "x", {"ch0": dataclasses.replace(channel, vessel=high)}, 1)
    ship = noise(20.0, 5, LOW_SHIP)
    plain, cut = (
        [int(r.mask.sum()) for r in records(tracked, explainer, ship, s) if isinstance(r, Signature)]
        for s in (None, site)
    )
    assert len(plain) == len(cut) > 3
    assert all(a >= b for a, b in zip(plain, cut, strict=True))
    assert sum(plain) > sum(cut)


def test_calibration_without_the_vessel_map_does_not_fit(
    tracked: Bundle, bundle: Bundle, channel: ChannelCalibration, tmp_path: Path
) -> None:
    site = SiteCalibration.now(tracked, "x", {"ch0": dataclasses.replace(channel, vessel={})}, 1)
    site.write(tmp_path / "site.json")
    with pytest.raises(InputError, match="thresholds of the vessel map do not fit"):
        SiteCalibration.read(tmp_path / "site.json", tracked)
    whole = SiteCalibration.now(tracked, "x", {"ch0": channel}, 1)
    whole.write(tmp_path / "whole.json")
    assert SiteCalibration.read(tmp_path / "whole.json", tracked) == whole
    with pytest.raises(InputError, match="is for bundle"):
        SiteCalibration.read(tmp_path / "whole.json", bundle)


def test_running_site_estimates_the_vessel_map_too(tracked: Bundle, explainer: Explainer) -> None:
    stage = SiteEstimator(tracked, explainer, 720.0)
    found = [e for r in records(tracked, explainer, noise(740.0, 8), None) if (e := stage.process(r)) is not None]
    (one,) = found
    c = one.channels["ch0"]
    assert set(c.labels) == {"low", "high"}
    verdicts = vessel_maps(tracked, explainer.explain(*_windows(tracked, noise(200.0, 9))))
    for q in NOMINAL_LEVELS:
        # other noise of the same kind; one of 8 order statistics of 432 cells is kept, the upper
        assert float(q) - 0.02 < (verdicts <= c.vessel[q].value).mean() < float(q) + 8 / 432 + 0.02


def _windows(tracked: Bundle, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    windows = list(windows_of(tracked.spec, FS, x[None]))
    return np.stack([w.features[0] for w in windows]), np.stack([w.spectrum_db[0] for w in windows])
