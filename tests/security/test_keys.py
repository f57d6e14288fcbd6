"""Key files: made closed, refused where others could read or change them, and readable by other ZeroMQ programs."""

import stat
from pathlib import Path

import pytest
import zmq.auth
from zmq.utils import z85

from daemon.allow_list import read_allow_list
from daemon.cli import main
from daemon.config import Config
from daemon.curve import ClientKeys, CurveServer
from daemon.key_files import make_pair, read_pair, read_public, to_text
from models.errors import ConfigError
from tests.keyed_vessel import Vessel


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secret_keys_are_for_their_owner_alone(vessel: Vessel) -> None:
    vessel.client("bridge")
    vessel.keygen("signer", "shipyard")
    for name in ("server", "bridge", "shipyard"):
        assert mode(vessel.folder / f"{name}.key") == 0o600
        assert mode(vessel.folder / f"{name}.pub") == 0o644
        assert b"SECRET" not in (vessel.folder / f"{name}.pub").read_bytes().upper().replace(b"SECRET-KEY", b"SECRET")


def test_keygen_never_writes_over_a_key(vessel: Vessel, capsys: pytest.CaptureFixture[str]) -> None:
    before = (vessel.folder / "server.key").read_bytes()
    assert main(["keygen", "server", "--into", str(vessel.folder)]) == 66
    assert "exists already" in capsys.readouterr().err
    (vessel.folder / "server.key").unlink()
    assert main(["keygen", "server", "--into", str(vessel.folder)]) == 66  # the public half is still there
    assert not (vessel.folder / "server.key").exists()
    assert before


@pytest.mark.parametrize("name", ["", "../bridge", ".hidden", "a/b", "x" * 65, "a b"])
def test_a_name_that_could_lead_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    assert main(["keygen", "client", name, "--into", str(tmp_path / "k")]) in (64, 78)
    assert not (tmp_path / "k").exists()


def test_other_zeromq_programs_read_our_files(vessel: Vessel) -> None:
    """By pyzmq's own reader of the ZeroMQ certificate format."""
    public, secret = zmq.auth.load_certificate(str(vessel.folder / "server.key"))
    ours = vessel.curve().keys
    assert (z85.decode(public), z85.decode(secret or b"")) == (ours.public.raw, ours.secret)
    assert zmq.auth.load_certificate(str(vessel.folder / "server.pub")) == (public, None)


def test_we_read_what_pyzmq_writes(tmp_path: Path) -> None:
    public, secret = zmq.auth.create_certificates(str(tmp_path), "bridge", metadata={"name": "bridge"})
    with pytest.raises(ConfigError, match="may be read by others"):  # it leaves the secret key open to all
        read_pair(Path(secret), "--client-key")
    Path(secret).chmod(0o600)
    assert read_pair(Path(secret), "--client-key").public == read_public(Path(public), "x")


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660, 0o644, 0o620])
def test_a_secret_key_that_others_may_touch_is_refused_with_the_cure(vessel: Vessel, bits: int) -> None:
    path = vessel.folder / "server.key"
    path.chmod(bits)
    with pytest.raises(ConfigError, match=rf"may be read by others \(mode {bits:04o}\): chmod 600 {path}"):
        read_pair(path, "publish.server_key")


def test_a_public_key_or_list_that_others_may_change_is_refused(vessel: Vessel) -> None:
    vessel.client("bridge")
    (vessel.allowed / "bridge.pub").chmod(0o664)
    with pytest.raises(ConfigError, match=r"may be changed by others .*chmod go-w"):
        read_allow_list(vessel.allowed)
    (vessel.allowed / "bridge.pub").chmod(0o644)
    vessel.allowed.chmod(0o777)
    with pytest.raises(ConfigError, match=r"folder .* may be changed by others .*chmod go-w"):
        read_allow_list(vessel.allowed)
    vessel.allowed.chmod(0o755)
    assert [k.name for k in read_allow_list(vessel.allowed).values()] == ["bridge"]


def test_a_secret_key_among_the_clients_is_refused(vessel: Vessel) -> None:
    vessel.client("bridge")
    (vessel.allowed / "wrong.pub").write_bytes((vessel.folder / "bridge.key").read_bytes())
    with pytest.raises(ConfigError, match=r"holds a secret key"):
        read_allow_list(vessel.allowed)


def test_the_list_may_be_one_file(tmp_path: Path, vessel: Vessel) -> None:
    bridge, lab = make_pair("bridge"), make_pair("lab")
    path = tmp_path / "clients.toml"
    path.write_text(f'bridge = "{bridge.public.text}"\nlab = "{lab.public.text}"\n')
    assert {k.name for k in read_allow_list(path).values()} == {"bridge", "lab"}
    for text, says in (
        (f'bridge = "{bridge.public.text}"\nlab = "{bridge.public.text}"\n', "the same key"),
        ('bridge = "short"\n', "40 characters"),
        (f'bridge = "{"é" * 40}"\n', "40 characters"),
        (f'bridge = "{"#" * 40}"\n', "no program wrote"),
        ("bridge = 1\n", "is no key"),
        ("bridge\n", "bridge = "),
        (f'"a/b" = "{bridge.public.text}"\n', "name 'a/b'"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=says):
            read_allow_list(path)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_allow_list(tmp_path / "absent.toml")


def test_halves_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.key"
    path.write_text(to_text(make_pair("x").public, make_pair("x").secret))
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="do not belong together"):
        read_pair(path, "publish.server_key")


@pytest.mark.parametrize(
    ("text", "says"),
    [("", "holds no public key"), ("rubbish\n", ":1: no line of a key file"), ("x" * 70_000, "longer than")],
)
def test_what_is_no_key_file_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "x.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=says):
        read_pair(path, "publish.server_key")


def test_a_public_key_in_place_of_a_secret_one_is_named(vessel: Vessel) -> None:
    (vessel.folder / "server.pub").chmod(0o600)
    with pytest.raises(ConfigError, match=r"holds no secret key: name the file that ends in \.key"):
        read_pair(vessel.folder / "server.pub", "publish.server_key")
    vessel.client("bridge")
    with pytest.raises(ConfigError, match="holds a secret key"):
        ClientKeys.load(vessel.folder / "server.key", vessel.folder / "bridge.key")


def test_secrets_are_not_shown(vessel: Vessel) -> None:
    curve = vessel.curve()
    assert z85.encode(curve.keys.secret).decode() not in repr(curve)
    assert repr(curve.keys.secret) not in repr(curve)


def test_a_credential_of_the_service_manager_is_found(vessel: Vessel, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd shows what it gave one user alone as readable by the group: that is no fault of the operator's."""
    settings = Config.parse(
        f"[publish]\nserver_key = 'credential:server.key'\nallowed_keys = '{vessel.allowed}'\n"
    ).publish
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    with pytest.raises(ConfigError, match="no service manager handed over"):
        CurveServer.of(settings)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(vessel.folder))
    (vessel.folder / "server.key").chmod(0o440)
    assert CurveServer.of(settings) == vessel.curve()
    (vessel.folder / "server.key").chmod(0o444)
    with pytest.raises(ConfigError, match="may be read by others"):
        CurveServer.of(settings)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("server_key = 'x'", "needs publish.allowed_keys"),
        ("allowed_keys = 'x'", "needs publish.server_key"),
        ("curve_local = true", "needs publish.server_key"),
    ],
)
def test_settings_that_would_leave_a_door_open_are_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Config.parse(f"[publish]\n{text}\n")
