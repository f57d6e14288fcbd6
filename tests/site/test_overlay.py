"""The file of a site calibration: what goes in comes out, and nothing else is taken for it."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

from calibration.site import ChannelCalibration, SiteCalibration, SiteThreshold
from calibration.thresholds import NOMINAL_LEVELS
from models.bundle import Bundle
from models.errors import BundleError, InputError
from tests.toy_bundle import make_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "toy")


def channel(base: float = 0.2, labels: tuple[str, ...] = ("low", "high")) -> ChannelCalibration:
    rng = np.random.default_rng(5)
    by_label = {
        label: {
            q: SiteThreshold(
                base + 0.1 * i + float(rng.uniform(0.0, 0.05)), float(q), float(q) - 0.01, float(q) + 0.005
            )
            for i, q in enumerate(NOMINAL_LEVELS)
        }
        for label in labels
    }
    return ChannelCalibration(
        n_windows=48, n_recordings=3, n_segments=12, seconds=403.2, n_detected=2, detected="left out", labels=by_label
    )


def site_of(bundle: Bundle) -> SiteCalibration:
    return SiteCalibration.now(bundle, "a folder: häfen", {"ch0": channel(), "ch1": channel(0.4)}, 3)


def test_what_was_written_is_read_to_the_last_bit(bundle: Bundle, tmp_path: Path) -> None:
    site = site_of(bundle)
    site.write(tmp_path / "deep" / "site.json")
    again = SiteCalibration.read(tmp_path / "deep" / "site.json", bundle)
    assert again == site
    assert again.id == site.id
    assert len(site.id) == 16
    assert again.channels["ch1"].scores("0.95")["low"] == site.channels["ch1"].labels["low"]["0.95"].value


def test_no_byte_can_change_unseen(bundle: Bundle) -> None:
    raw = site_of(bundle).raw
    rng = np.random.default_rng(0)
    for i in range(len(raw)):
        changed = bytearray(raw)
        changed[i] ^= 1 << int(rng.integers(8))
        with pytest.raises(InputError, match="calibrate --site"):
            SiteCalibration.parse(bytes(changed))


@pytest.mark.parametrize("n", [0, 1, 100, -1])
def test_cut_or_lengthened_file_is_refused(bundle: Bundle, n: int) -> None:
    raw = site_of(bundle).raw
    with pytest.raises(InputError):
        SiteCalibration.parse(raw[:n])
    with pytest.raises(InputError):
        SiteCalibration.parse(raw + b" ")


def test_another_bundle_is_refused_by_name(bundle: Bundle, tmp_path: Path) -> None:
    site_of(bundle).write(tmp_path / "site.json")
    other = make_bundle(tmp_path / "other", training={"seed": 8, "command": "tests"})
    assert other.id != bundle.id
    with pytest.raises(InputError, match=f"site.json is for bundle {bundle.id}, in use is {other.id}: make it again"):
        SiteCalibration.read(tmp_path / "site.json", other)


def test_other_labels_than_the_bundle_has_are_refused(bundle: Bundle) -> None:
    site = SiteCalibration.now(bundle, "x", {"ch0": channel(labels=("low",))}, 1)
    with pytest.raises(InputError, match=r"channel ch0 has \['low'\]"):
        site.check(bundle)


def _resigned(raw: bytes, old: bytes, new: bytes) -> bytes:
    """The file as a newer or mistaken program would have written it, its digest right."""
    import hashlib

    assert old in raw
    digest = raw.split(b'"digest": "')[1][:64]
    blank = raw.replace(old, new, 1).replace(digest, b"0" * 64, 1)
    return blank.replace(b"0" * 64, hashlib.sha256(blank).hexdigest().encode(), 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"schema_version": 1', b'"schema_version": 2', "has schema 2, this tonald reads 1"),
        (b'"version": 3', b'"versio": 3', "key 'version' is missing"),
        (b'"version": 3', b'"version": 3, "extra": 1', "unknown keys extra"),
        (b'"tonald site calibration"', b'"something else"', "is none: its kind is 'something else'"),
        (b'"left out"', b'"forgotten"', "expected 'left out' or 'kept'"),
        (b'"n_windows": 48', b'"n_windows": 0', "are impossible"),
        (b'"0.86"', b'"0.87"', "has levels"),
        (b'"removed": 0.86', b'"removed": 0.5', "lies outside its interval"),
        (b'"seconds": 403.2', b'"seconds": 1' + 400 * b"0", "too large"),
        (b'"seconds": 403.2', b'"seconds": 1' + 9000 * b"0", "is no JSON"),
        (b'"seconds": 403.2', b'"seconds": 1e999', "expected a finite number"),
        (b'"seconds": 403.2', b'"seconds": NaN', "expected a finite number"),
        (b'"data": "a folder', b'"data": "\\ud800 a folder', "surrogates not allowed"),
        (b'"kind"', b'"kind": ' + 100000 * b"[", "is no JSON"),
    ],
)
def test_wrong_content_is_refused_though_its_digest_is_right(
    bundle: Bundle, old: bytes, new: bytes, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        SiteCalibration.parse(_resigned(site_of(bundle).raw, old, new))


def test_thresholds_must_rise_with_their_level(bundle: Bundle) -> None:
    levels = dict(channel().labels["low"])
    levels["0.99"] = dataclasses.replace(levels["0.99"], value=0.0)
    with pytest.raises(BundleError, match="do not rise"):
        SiteCalibration.now(bundle, "x", {"ch0": dataclasses.replace(channel(), labels={"low": levels})}, 1)


def test_failed_write_leaves_what_stood_there(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "site.json"
    site_of(bundle).write(path)
    before = path.read_bytes()

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="cannot be written: No space left"):
        SiteCalibration.now(bundle, "new", {"ch0": channel()}, 4).write(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["site.json"]


def test_file_that_is_absent_says_so(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        SiteCalibration.read(tmp_path / "site.json", bundle)
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        SiteCalibration.read(tmp_path, bundle)
