"""With a trusted key only bundles signed by it are used; each way of being wrong is told apart."""

import datetime
import shutil
import subprocess
from pathlib import Path

import pytest

from daemon.chosen_bundle import chosen_bundle
from daemon.cli import main
from daemon.config import Config
from models.bundle import Bundle
from models.bundle_signature import make_signer, sign, verify
from models.bundle_signing import sign_bundle
from models.errors import BundleError, ConfigError

UTC = datetime.timezone.utc
NOW = datetime.datetime(2026, 11, 23, 12, tzinfo=UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    for name in ("shipyard", "other"):
        assert main(["keygen", "signer", name, "--into", str(tmp_path / "keys")]) == 0
    capsys.readouterr()
    return tmp_path / "keys"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the shipped one."""
    return Path(shutil.copytree(Bundle.shipped(), tmp_path / "bundle"))


def config(bundle: Path, key: Path) -> Config:
    return Config.parse(f"bundle = '{bundle}'\nbundle_key = '{key}'\n")


def test_a_signed_bundle_is_used_and_its_id_stays(bundle: Path, keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", "sign", str(bundle), "--key", str(keys / "shipyard.key"), "--expires", "2126-01-01"]) == 0
    assert main(["bundle", "verify", str(bundle), "--key", str(keys / "shipyard.pub")]) == 0
    assert "expires 2126-01-01T00:00:00+00:00" in capsys.readouterr().out.splitlines()[-1]
    loaded = chosen_bundle(config(bundle, keys / "shipyard.pub"))
    assert loaded.id == Bundle.load(Bundle.shipped()).id
    assert Bundle.load(bundle).id == loaded.id  # a signature that nobody asks for harms nobody


def test_an_unsigned_bundle_is_refused_where_signatures_are_asked_for(bundle: Path, keys: Path) -> None:
    assert chosen_bundle(Config.parse(f"bundle = '{bundle}'\n")).id
    with pytest.raises(BundleError, match="is not signed, and bundle_key asks for it"):
        chosen_bundle(config(bundle, keys / "shipyard.pub"))
    with pytest.raises(BundleError, match="is not signed"):  # the shipped one is no exception
        chosen_bundle(Config.parse(f"bundle_key = '{keys / 'shipyard.pub'}'\n"))


def test_the_program_ends_with_the_exit_code_that_is_not_tried_again(
    bundle: Path, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.toml"
    path.write_text(f"bundle = '{bundle}'\nbundle_key = '{keys / 'shipyard.pub'}'\n")
    assert main(["config", "--check", str(path)]) == 79
    assert main(["run", "--config", str(path), "--once", "--publish", f"ipc://{tmp_path}/out"]) == 79
    assert capsys.readouterr().err.count("is not signed") == 2


def test_a_bundle_signed_by_another_is_refused(bundle: Path, keys: Path) -> None:
    sign_bundle(bundle, (keys / "other.key").read_bytes(), None)
    with pytest.raises(BundleError, match="was not made by the key"):
        chosen_bundle(config(bundle, keys / "shipyard.pub"))


def test_the_signature_of_another_bundle_is_refused(keys: Path) -> None:
    secret, public = (keys / "shipyard.key").read_bytes(), (keys / "shipyard.pub").read_bytes()
    with pytest.raises(BundleError, match="that of another bundle"):
        verify(b"{}", sign(b"{ }", secret, NOW, None), public, NOW)


def test_a_signature_expires(keys: Path) -> None:
    secret, public = (keys / "shipyard.key").read_bytes(), (keys / "shipyard.pub").read_bytes()
    text = sign(b"{}", secret, NOW, NOW + DAY)
    second = datetime.timedelta(seconds=1)
    assert verify(b"{}", text, public, NOW + DAY - second).expires == NOW + DAY
    with pytest.raises(BundleError, match=r"expired on 2026-11-24T12:00:00\+00:00 .*check the clock"):
        verify(b"{}", text, public, NOW + DAY)
    with pytest.raises(BundleError, match="was not made by the key"):  # the date is signed, too
        verify(b"{}", text.replace(b"expires 2026", b"expires 2126"), public, NOW + DAY)
    with pytest.raises(BundleError, match="would be no good"):
        sign(b"{}", secret, NOW, NOW)


def test_an_expired_bundle_is_refused_at_start(bundle: Path, keys: Path) -> None:
    raw = (bundle / "manifest.json").read_bytes()
    past = datetime.datetime.now(UTC) - 2 * DAY
    (bundle / "manifest.sig").write_bytes(sign(raw, (keys / "shipyard.key").read_bytes(), past, past + DAY))
    with pytest.raises(BundleError, match="expired on"):
        chosen_bundle(config(bundle, keys / "shipyard.pub"))


def test_no_byte_of_a_signature_can_change(keys: Path) -> None:
    secret, public = (keys / "shipyard.key").read_bytes(), (keys / "shipyard.pub").read_bytes()
    good = sign(b"{}", secret, NOW, NOW + DAY)
    for n in range(len(good)):
        for bad in (good[:n] + bytes([good[n] ^ 1]) + good[n + 1 :], good[:n], good[:n] + good[n + 1 :]):
            with pytest.raises(BundleError):
                verify(b"{}", bad, public, NOW)
    with pytest.raises(BundleError):
        verify(b"{}", good + b"\n", public, NOW)
    assert verify(b"{}", good, public, NOW).at == NOW


def test_a_changed_file_is_found_though_the_signature_holds(bundle: Path, keys: Path) -> None:
    sign_bundle(bundle, (keys / "shipyard.key").read_bytes(), None)
    masks = bundle / "class_masks.npz"
    data = bytearray(masks.read_bytes())
    data[len(data) // 2] ^= 1
    masks.write_bytes(data)
    with pytest.raises(BundleError, match=r"class_masks\.npz is damaged"):
        chosen_bundle(config(bundle, keys / "shipyard.pub"))


def test_keys_that_are_none_are_named(bundle: Path, keys: Path, tmp_path: Path) -> None:
    sign_bundle(bundle, (keys / "shipyard.key").read_bytes(), None)
    (tmp_path / "rubbish.pub").write_text("rubbish")
    for path, error, says in (
        (tmp_path / "absent.pub", ConfigError, "cannot be read: No such file"),
        (tmp_path / "rubbish.pub", BundleError, "no public key of a signer"),
        (keys / "shipyard.key", BundleError, "no public key of a signer"),
    ):
        with pytest.raises(error, match=says):
            chosen_bundle(config(bundle, path))
    with pytest.raises(BundleError, match="no secret key of a signer"):
        sign_bundle(bundle, (keys / "shipyard.pub").read_bytes(), None)
    (keys / "shipyard.pub").chmod(0o666)
    with pytest.raises(ConfigError, match="may be changed by others"):
        chosen_bundle(config(bundle, keys / "shipyard.pub"))


def test_openssl_agrees_with_our_signature(keys: Path, tmp_path: Path) -> None:
    """Another implementation of Ed25519 over the bytes that docs/security.md says are signed."""
    import base64

    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    head, _, tail = sign(b"{}", (keys / "shipyard.key").read_bytes(), NOW, None).rpartition(b"signature ")
    (tmp_path / "head").write_bytes(head)
    (tmp_path / "raw").write_bytes(base64.b64decode(tail))
    done = subprocess.run(
        ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(keys / "shipyard.pub"), "-rawin",
         "-in", str(tmp_path / "head"), "-sigfile", str(tmp_path / "raw")],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_new_signer_is_new() -> None:
    assert make_signer() != make_signer()
