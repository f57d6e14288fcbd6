from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from models.bundle import Bundle, write_bundle
from models.errors import BundleError
from tests.toy_bundle import LABELS, SPEC, arguments, make_bundle


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    report = tmp_path_factory.mktemp("report")
    (report / "pages").mkdir()
    (report / "index.html").write_text("<p>calibrated</p>")
    (report / "pages" / "a.txt").write_text("one")
    return make_bundle(tmp_path_factory.mktemp("bundles") / "toy", report_dir=report).path


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "copy"))


def all_files(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def reseal(folder: Path, change: object) -> None:
    """Apply ``change`` to the manifest and make its digest right again: what remains wrong is the content."""
    path = folder / "manifest.json"
    data = json.loads(path.read_text())
    assert callable(change)
    change(data)
    data["digest"] = "0" * 64
    text = json.dumps(data).encode()
    path.write_bytes(text.replace(b"0" * 64, hashlib.sha256(text).hexdigest().encode(), 1))


def test_load_written_bundle_gives_back_everything(original: Path) -> None:
    given, bundle = arguments(), Bundle.load(original)
    assert (bundle.labels, bundle.spec, bundle.k) == (LABELS, SPEC, given["k"])
    assert bundle.id == hashlib.sha256((original / "manifest.json").read_bytes()).hexdigest()[:16]
    assert np.array_equal(bundle.class_masks, given["class_masks"])
    assert bundle.representatives.names == given["representatives"].names
    assert np.array_equal(bundle.representatives.embeddings, given["representatives"].embeddings)
    assert bundle.thresholds == given["thresholds"]
    assert bundle.tolerances == given["tolerances"]
    assert bundle.manifest.fill == SPEC.fill
    assert bundle.manifest.training == given["training"]
    for name, precision in given["graphs"]:
        assert bundle.graph_bytes(name, precision) == given["graphs"][name, precision]
        for got, want in zip(bundle.golden(name), given["golden"][name], strict=True):
            assert got.keys() == want.keys()
            assert all(np.array_equal(got[k], want[k]) and got[k].dtype == want[k].dtype for k in want)


def test_load_arrays_are_read_only(original: Path) -> None:
    bundle = Bundle.load(original)
    arrays = [bundle.class_masks, bundle.representatives.embeddings, *bundle.golden("fused")[1].values()]
    assert not any(a.flags.writeable for a in arrays)


def test_write_equal_arrays_are_stored_once(original: Path) -> None:
    with np.load(original / "golden.npz", allow_pickle=False) as z:
        stored = set(z.files)
    assert "classify.trunk" in stored
    assert "explain.trunk" not in stored


def test_write_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    import datetime

    when = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    a, b = (make_bundle(tmp_path / str(i) / "toy", created=when) for i in range(2))
    assert a.id == b.id
    assert all((a.path / f).read_bytes() == (b.path / f).read_bytes() for f in all_files(a.path))


def test_load_one_flipped_byte_anywhere_names_the_file(folder: Path) -> None:
    rng = np.random.default_rng(3)
    for name in all_files(folder):
        data = (folder / name).read_bytes()
        for at in {0, len(data) - 1, *rng.integers(len(data), size=12).tolist()}:
            for bit in (0, 5):  # 5 turns lower case into upper case: still hexadecimal, still JSON
                broken = bytearray(data)
                broken[at] ^= 1 << bit
                (folder / name).write_bytes(broken)
                with pytest.raises(BundleError, match=name.replace(".", r"\.")) as caught:
                    Bundle.load(folder)
                assert "\n" not in str(caught.value)
        (folder / name).write_bytes(data)
    Bundle.load(folder)


def test_load_each_byte_of_the_manifest_counts(original: Path) -> None:
    from models.manifest import parse_manifest

    raw = (original / "manifest.json").read_bytes()
    parse_manifest(raw)
    for at in range(len(raw)):
        with pytest.raises(BundleError):
            parse_manifest(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])


@pytest.mark.parametrize("name", ["manifest.json", "golden.npz", "graphs/explain.f32.onnx", "report/pages/a.txt"])
def test_load_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=name):
        Bundle.load(folder)


@pytest.mark.parametrize("name", ["extra.bin", "graphs/other.onnx", "report/more.html"])
def test_load_unlisted_file_is_named(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"x")
    with pytest.raises(BundleError, match=name):
        Bundle.load(folder)


def test_load_truncated_or_longer_file_is_named(folder: Path) -> None:
    path = folder / "golden.npz"
    data = path.read_bytes()
    for wrong in (data[:-1], data + b"\0", b""):
        path.write_bytes(wrong)
        with pytest.raises(BundleError, match=r"golden\.npz"):
            Bundle.load(folder)


def test_load_link_is_refused_though_its_target_matches(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.npz"
    (folder / "golden.npz").rename(outside)
    (folder / "golden.npz").symlink_to(outside)
    with pytest.raises(BundleError, match=r"golden\.npz is a link"):
        Bundle.load(folder)


def test_load_pipe_is_refused_without_waiting(folder: Path) -> None:
    os.mkfifo(folder / "report" / "pipe")
    with pytest.raises(BundleError, match="report/pipe is no plain file"):
        Bundle.load(folder)


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "a/../../b", "./a", "a//b", "a\\b", ""])
def test_load_path_that_leaves_the_folder_is_refused(folder: Path, path: str) -> None:
    reseal(folder, lambda m: m["files"].update({path: {"size": 1, "sha256": "0" * 64}}))
    with pytest.raises(BundleError, match="does not lie inside the bundle"):
        Bundle.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(surprise=1), "unknown keys surprise"),
        (lambda m: m.pop("k"), "key 'k' is missing"),
        (lambda m: m.update(k="16"), "k is '16', expected int"),
        (lambda m: m.update(k=True), "k is True, expected int"),
        (lambda m: m.update(k=4096), r"k=4096 is not in 1\.\.3840"),
        (lambda m: m.update(schema_version=3), "this tonald reads 2"),
        (lambda m: m.update(explainer="magic"), "explainer 'magic' is unknown"),
        (lambda m: m["features"].update(hopp=3), "unknown keys .*hopp"),
        (lambda m: m["features"].update(hop=-1), "hop=-1"),
        (lambda m: m["labels"].remove("ambient"), "expected 'ambient'"),
        (lambda m: m["thresholds"]["mix"].pop("low"), "thresholds mix"),
        (lambda m: m["thresholds"].update(nominal="0.5"), "lacks nominal 0.5"),
        (lambda m: m["tolerances"]["classify.f32"].pop("trunk"), "tolerances do not name each output"),
        (lambda m: m["tolerances"].update({"classify.f64": {}}), "classify.f64"),
        (lambda m: m["graphs"].pop(0), "expected classify.f32"),
        (lambda m: m["graphs"][0].update(file="graphs/no.onnx"), "not among the files"),
        (lambda m: m["graphs"][0]["outputs"][0].update(dtype="object"), "dtype='object'"),
        (lambda m: m["graphs"][0]["outputs"][0].update(shape=["batch", 7]), "golden.npz|golden: array"),
        (lambda m: m.update(n_golden=2), "golden.npz"),
        (lambda m: m.update(n_representatives=5), "representatives.npz"),
        (lambda m: m["golden"]["classify"]["outputs"].update(trunk="nothing"), "golden"),
    ],
)
def test_load_manifest_that_does_not_fit_is_refused(folder: Path, change: object, message: str) -> None:
    reseal(folder, change)
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.load(folder)
    assert "\n" not in str(caught.value)


def test_load_pickled_array_is_never_unpickled(folder: Path, tmp_path: Path) -> None:
    witness = tmp_path / "witness"

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (witness,)

    evil = np.empty(1, object)
    evil[0] = Bomb()
    np.savez(folder / "class_masks.npz", masks=evil)
    data = (folder / "class_masks.npz").read_bytes()
    info = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    reseal(folder, lambda m: m["files"].update({"class_masks.npz": info}))
    with pytest.raises(BundleError, match=r"class_masks\.npz"):
        Bundle.load(folder)
    assert not witness.exists()


@pytest.mark.parametrize(("path", "message"), [("none", "no such folder"), ("file", "is no folder")])
def test_load_no_folder_is_said(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "file").write_text("{}")
    with pytest.raises(BundleError, match=message):
        Bundle.load(tmp_path / path)


def test_write_refuses_to_replace_unless_forced(tmp_path: Path) -> None:
    first = make_bundle(tmp_path / "toy")
    with pytest.raises(BundleError, match="exists already"):
        make_bundle(tmp_path / "toy", k=3)
    assert Bundle.load(tmp_path / "toy").id == first.id
    assert make_bundle(tmp_path / "toy", k=3, force=True).k == 3
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]


def test_write_that_fails_leaves_the_old_one_and_no_rubbish(tmp_path: Path) -> None:
    first = make_bundle(tmp_path / "toy")
    with pytest.raises(BundleError, match=r"class_masks\.npz"):
        make_bundle(tmp_path / "toy", class_masks=np.zeros((1, 2, 3), np.float32), force=True)
    assert Bundle.load(tmp_path / "toy").id == first.id
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]


def test_write_without_golden_data_is_refused(tmp_path: Path) -> None:
    given = arguments()
    del given["golden"]["explain"]
    with pytest.raises(BundleError, match="'explain' has no golden data"):
        write_bundle(tmp_path / "toy", **given)


def test_thresholds_unknown_label_or_level_names_those_there_are(original: Path) -> None:
    thresholds = Bundle.load(original).thresholds
    assert thresholds.mix_of("low") == 0.5
    assert thresholds.mix_of("low", "0.99") == 0.6
    with pytest.raises(BundleError, match="knows high, low"):
        thresholds.mix_of("tug")
    with pytest.raises(BundleError, match=r"0\.86, 0\.95, 0\.99"):
        thresholds.mix_of("low", "0.5")
