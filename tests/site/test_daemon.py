"""The daemon with a site calibration: its thresholds, its id in every record; nothing there keeps it from serving."""

import logging
from pathlib import Path

import numpy as np
import pytest

from calibration.site import SiteCalibration
from calibration.site_scores import measure
from calibration.site_windows import windows_of_folder
from daemon.config import Config, PublishConfig, SiteConfig, SourceConfig, WindowConfig
from daemon.extract import Limits
from daemon.frames import AudioBlock, Record, StreamEnd, StreamStart
from daemon.pipeline import Pipeline, with_hop
from daemon.service import Service
from daemon.site_extract import SiteExtractor
from daemon.site_refresh import THIN, SiteEstimate, SiteEstimator, thinned
from daemon.site_state import N_KEPT, choose_site, in_state, next_version, save_site
from daemon.wire import Message
from models.bundle import Bundle
from models.errors import ConfigError
from models.explainer import Explainer
from tests.site.conftest import FS, LOW_SHIP, noise, write
from tests.toy_bundle import make_bundle
from tests.toy_site import site_with


def run(bundle: Bundle, path: Path, tmp_path: Path, **settings: object) -> list[Message]:
    """All records of one pass over a file."""
    got: list[Message] = []
    config = Config(
        bundle=str(bundle.path), state_dir=str(tmp_path / "state"), source=SourceConfig(kind="file", path=str(path)),
        publish=PublishConfig(endpoints=(f"ipc://{tmp_path}/out",)), **settings,
    )  # fmt: skip
    service = Service(config, got.append)
    service.start()
    try:
        assert service.finished.wait(300)  # a busy machine; 3 s when it is quiet
    finally:
        service.stop()
    service.raise_failure()
    return got


@pytest.fixture
def ship(tmp_path: Path) -> Path:
    return write(tmp_path / "ship.wav", noise(12.0, 77, LOW_SHIP), noise(12.0, 78, LOW_SHIP))


def cells(messages: list[Message], channel: str) -> list[int]:
    return [m.body["mask_cells"] for m in messages if m.topic == f"signature/{channel}/low/"]


def test_site_thresholds_serve_their_channel_and_every_record_names_them(
    bundle: Bundle, ship: Path, tmp_path: Path
) -> None:
    plain = run(bundle, ship, tmp_path)
    assert {m.body["calibration_id"] for m in plain} == {None}
    site = site_with(bundle, 0.65)
    save_site(in_state(tmp_path / "state"), site)
    with_site = run(bundle, ship, tmp_path)
    assert {m.body["calibration_id"] for m in with_site} == {site.id}
    assert len(cells(plain, "ch0")) == len(cells(with_site, "ch0")) > 5
    assert all(a > b > 0 for a, b in zip(cells(plain, "ch0"), cells(with_site, "ch0"), strict=True))
    assert cells(plain, "ch1") == cells(with_site, "ch1")  # not in the calibration: the bundle's own


def test_channel_that_is_not_in_the_calibration_is_said(
    bundle: Bundle, ship: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save_site(in_state(tmp_path / "state"), site_with(bundle, 0.65))
    with caplog.at_level(logging.WARNING):
        run(bundle, ship, tmp_path)
    said = [r.message for r in caplog.records if "is not in the site calibration" in r.message]
    assert said == ["channel ch1 is not in the site calibration (ch0): the bundle's own thresholds serve for it"]


@pytest.mark.parametrize("fault", ["damaged", "cut", "empty", "other bundle", "folder", "absent", "newer"])
def test_what_cannot_be_used_never_stops_the_daemon_and_is_said_loudly(
    bundle: Bundle, ship: Path, tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "given.json"
    raw = site_with(bundle, 0.65).raw
    if fault == "other bundle":
        site_with(make_bundle(tmp_path / "other"), 0.65).write(path)
    elif fault == "folder":
        path.mkdir()
    elif fault != "absent":
        broken = {
            "damaged": raw.replace(b"0.65", b"0.66", 1), "cut": raw[:200], "empty": b"",
            "newer": raw.replace(b'"schema_version": 1', b'"schema_version": 9'),
        }  # fmt: skip
        path.write_bytes(broken[fault])
    with caplog.at_level(logging.INFO):
        got = run(bundle, ship, tmp_path, site=SiteConfig(calibration=str(path)))
    assert {m.body["calibration_id"] for m in got} == {None}
    assert cells(got, "ch0") == cells(run(bundle, ship, tmp_path), "ch0")
    (said,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert str(path) in said.message
    assert said.message.endswith("the bundle's own thresholds serve")
    info = choose_site(Config(site=SiteConfig(calibration=str(path))), bundle).to_dict()
    assert info is not None
    assert (info["in_force"], info["version"]) == (False, None)


def test_state_without_a_calibration_says_nothing_of_one(bundle: Bundle, tmp_path: Path) -> None:
    site = choose_site(Config(state_dir=str(tmp_path)), bundle)
    assert (site.id, site.problem, site.to_dict()) == (None, "", None)
    assert choose_site(Config(), bundle).calibration is None


def test_saving_keeps_those_before_within_bounds_and_counts_on(bundle: Bundle, tmp_path: Path) -> None:
    path = in_state(tmp_path)
    for k in range(1, N_KEPT + 5):
        assert next_version(path) == k
        save_site(path, site_with(bundle, 0.5 + 0.001 * k, k))
    assert len(list(path.parent.iterdir())) == N_KEPT + 2
    first = SiteCalibration.read(path.with_name(f"site.{N_KEPT + 3}.json"), bundle)
    assert first.version == N_KEPT + 3
    path.write_bytes(b"damaged")
    assert next_version(path) == N_KEPT + 5  # the numbers beside it count


def test_refresh_needs_a_place_to_write_to() -> None:
    with pytest.raises(ConfigError, match="set state_dir"):
        Config(site=SiteConfig(refresh_hours=1.0))
    with pytest.raises(ConfigError, match=r"leave site\.calibration empty"):
        SiteConfig(refresh_hours=1.0, calibration="x")
    with pytest.raises(ConfigError, match=r"site\.refresh_hours = 0\.01"):
        SiteConfig(refresh_hours=0.01)


def test_thinning_keeps_the_upper_of_each_group() -> None:
    x = np.random.default_rng(0).permutation(np.arange(40, dtype=np.float32))
    np.testing.assert_array_equal(thinned(x), [7, 15, 23, 31, 39])
    np.testing.assert_array_equal(thinned(np.arange(20, dtype=np.float32)), [7, 15, 19])
    assert THIN == 8


REFRESH = {"site": SiteConfig(refresh_hours=0.2), "window": WindowConfig(hop_s=2.0)}


def test_running_site_is_estimated_anew_and_swapped_in(bundle: Bundle, tmp_path: Path) -> None:
    before = site_with(bundle, 0.65, version=5, channels=("ch0", "ch7"))
    save_site(in_state(tmp_path / "state"), before)
    got = run(bundle, write(tmp_path / "day.wav", noise(760.0, 9)), tmp_path, **REFRESH)
    windows = [m.body for m in got if m.family == "window"]
    site = SiteCalibration.read(in_state(tmp_path / "state"), bundle)
    assert list(dict.fromkeys(w["calibration_id"] for w in windows)) == [before.id, site.id]
    first = next(w["first_sample"] for w in windows if w["calibration_id"] == site.id) / FS
    assert 710.0 < first < 750.0  # 0.2 h, known when a window ends, and in force from the next block on
    assert site.version == 6
    assert site.channels["ch0"].n_windows > 80
    assert site.channels["ch7"] == before.channels["ch7"]  # not heard in this run: keeps its own
    assert SiteCalibration.read(tmp_path / "state" / "site" / "site.5.json", bundle) == before


def records(bundle: Bundle, explainer: Explainer, x: np.ndarray) -> list[Record]:
    """What the pipeline makes of one channel."""
    spec = with_hop(bundle.spec, 2.0)
    limits = Limits.of(bundle.thresholds, "0.95", 3.0, 2)
    pipeline = Pipeline(spec, explainer, SiteExtractor(spec, limits, "0.95"))
    blocks = range(0, x.size, 30 * FS)
    events = [
        StreamStart("s", 0, FS, ("ch0",)),
        *(AudioBlock("s", 0, i, FS, x[None, i : i + 30 * FS]) for i in blocks),
        StreamEnd("s", 0, x.size, final=True),
    ]
    return [r for e in events for r in pipeline.process(e)]


def estimates(stage: SiteEstimator, heard: list[Record]) -> list[SiteEstimate]:
    return [e for r in heard if (e := stage.process(r)) is not None]


def test_estimate_is_that_of_the_whole_maps_and_leaves_out_a_ship(
    bundle: Bundle, explainer: Explainer, tmp_path: Path
) -> None:
    x = noise(740.0, 3)
    x[300 * FS : 360 * FS] = noise(60.0, 10, LOW_SHIP)
    heard = records(bundle, explainer, x)
    stage = SiteEstimator(bundle, explainer, 720.0)
    (one,) = estimates(stage, heard)
    c = one.channels["ch0"]
    assert 4 <= c.n_detected <= 10  # a window every 7.5 s of 60 s
    assert 80 <= c.n_windows <= 92
    write(tmp_path / "sea.wav", x)
    windows, _ = windows_of_folder(bundle, tmp_path, hop_s=8.0)
    whole = measure(bundle, explainer, windows)["ch0"]
    for label, levels in c.labels.items():
        for q, t in levels.items():
            # one of 8 order statistics of 432 cells is kept, the upper: at most 8 / 432 too much; and in part other
            # windows of the same noise: 0.01
            assert float(q) - 0.01 < whole.removed(label, t.value) < float(q) + 8 / 432 + 0.01
    # the same sound gives the same, after a reset and in a second stream
    stage.reset()
    assert estimates(stage, heard) == [one]
    halves = SiteEstimator(bundle, explainer, 720.0)
    assert len(estimates(halves, [*heard[: len(heard) // 2], StreamEnd("s", 0, 0), *heard])) == 1


def test_too_little_ambient_sea_gives_no_estimate_and_says_so(
    bundle: Bundle, explainer: Explainer, caplog: pytest.LogCaptureFixture
) -> None:
    heard = records(bundle, explainer, noise(200.0, 9, LOW_SHIP))
    with caplog.at_level(logging.WARNING):
        assert estimates(SiteEstimator(bundle, explainer, 150.0), heard) == []
    assert any("has 0 ambient windows" in r.message for r in caplog.records)


def test_disk_that_refuses_leaves_the_thresholds_in_force(
    bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "state").write_text("a file stands where the folder should be")
    path = write(tmp_path / "sea.wav", noise(740.0, 9))
    with caplog.at_level(logging.ERROR):
        got = run(bundle, path, tmp_path, **REFRESH)
    assert {m.body["calibration_id"] for m in got} == {None}
    assert any(r.message.endswith("the thresholds in force stay") for r in caplog.records)
