"""The archive holds what helps, and never a secret."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from daemon.cli import main
from daemon.config import ForensicConfig
from daemon.forensic.ring import ForensicRing
from daemon.frames import AudioBlock, ClockState, StreamStart
from daemon.key_files import make_pair, to_text
from daemon.publisher import Publisher
from daemon.support.redact import MASK, Redactor
from daemon.takes.side_car import Stamp
from daemon.wire import Identity
from tests.keyed_vessel import Vessel


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        assert all(m.isfile() and m.mode == 0o600 and m.name.startswith("tonald-support/") for m in members)
        return {m.name.removeprefix("tonald-support/"): archive.extractfile(m).read() for m in members}  # type: ignore[union-attr]


def test_archive_holds_what_helps_and_its_listing_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    state, run = tmp_path / "state", tmp_path / "run"
    for folder in (state, run):
        folder.mkdir()
    (run / "status.json").write_text('{"state": "listening"}')
    (state / "plan.bin").write_bytes(b"x" * 77)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(run))
    path = tmp_path / "tonald.toml"
    path.write_text(f'node = "tug-7"\nstate_dir = "{state}"\n[publish]\nendpoints = ["ipc://{tmp_path}/out"]\n')
    with Publisher(Identity.new("tug-7", None), [f"ipc://{tmp_path}/out"], heartbeat_s=0.1):
        assert main(["support", "--config", str(path), "--out", str(tmp_path / "a.tar.gz")]) == 0
    found = contents(tmp_path / "a.tar.gz")
    assert set(found) >= {
        "versions.txt", "machine.txt", "config.toml", "config-in-force.json", "doctor.txt", "unit.txt", "log.txt",
        "heard.jsonl", "bundle-manifest.json", "status/status.json", "state-files.txt",
    }  # fmt: skip
    printed = capsys.readouterr().out
    assert all(name in printed for name in found)
    assert json.loads(found["config-in-force.json"])["node"] == "tug-7"
    assert b"golden outputs within" in found["doctor.txt"]
    assert b"numpy" in found["versions.txt"]
    assert json.loads(found["heard.jsonl"].splitlines()[0])["node"] == "tug-7"
    assert b" 77 " in found["state-files.txt"]
    assert (tmp_path / "a.tar.gz").stat().st_mode & 0o077 == 0
    assert main(["support", "--out", str(tmp_path / "a.tar.gz")]) == 66  # never over another


def test_no_key_enters_wherever_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state, run = tmp_path / "state", tmp_path / "run"
    for folder in (state, run):
        folder.mkdir()
    vessel = Vessel(tmp_path / "keys")
    vessel.client("bridge")
    secrets = [
        line.split('"')[1] for key in (tmp_path / "keys").glob("*.key") for line in key.read_text().splitlines()
        if "secret-key" in line
    ]  # fmt: skip
    assert len(secrets) == 2
    (state / "server.key").write_bytes((tmp_path / "keys" / "server.key").read_bytes())
    (run / "status.json").write_text(json.dumps({"secret": secrets[0], "key": secrets[1], "password": "hunter2"}))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(run))
    path = tmp_path / "tonald.toml"
    path.write_text(
        f'# secret-key = "{secrets[0]}"\n# {secrets[1]}\nstate_dir = "{state}"\n[publish]\n'
        f'server_key = "{tmp_path}/keys/server.key"\nallowed_keys = "{vessel.allowed}"\n'
        f'endpoints = ["ipc://{tmp_path}/out"]\n'
    )
    unit = tmp_path / "tonald.service"
    unit.write_text(f"[Service]\nExecStart=/bin/true\nEnvironment=KEY={secrets[0]}\n")
    assert main(["support", "--config", str(path), "--unit", str(unit), "--out", str(tmp_path / "a.tgz")]) == 0
    found = contents(tmp_path / "a.tgz")
    whole = b"\n".join(found.values())
    for secret in (*secrets, "hunter2"):
        assert secret.encode() not in whole
    assert MASK.encode() in found["config.toml"]
    assert b"server.key" in found["state-files.txt"]  # its name is no secret
    assert b"bridge" in found["doctor.txt"]


@pytest.mark.parametrize("frame", ["{}", 'key = "{}"', "KEY={}", '{{"k": "{}"}}', "a {} b", "'{}',", "({})"])
def test_curve_keys_are_masked_in_any_frame(frame: str) -> None:
    for _ in range(200):
        key = read_key()
        assert key not in Redactor()(frame.format(key))


def read_key() -> str:
    pair = make_pair("a")
    return next(line.split('"')[1] for line in to_text(pair.public, pair.secret).splitlines() if "secret-key" in line)


def test_private_keys_in_pem_go_and_plain_words_stay() -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----"
    assert Redactor()(f"a\n{pem}\nb") == f"a\n{MASK}\nb"
    plain = (
        "2026-11-23 INFO engine onnxruntime (f32) on CPU, golden outputs within 4.3e-06; /var/lib/tonald/site.json\n"
    )
    plain += "sha256 0123456789abcdef0123456789abcdef01234567 tcp://127.0.0.1:5565 [publish] endpoints = []\n"
    assert Redactor()(plain) == plain


def test_audio_goes_in_only_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile = pytest.importorskip("soundfile", reason="the audio extra is not installed")
    path, fs = tmp_path / "tonald.toml", 4000
    path.write_text(
        f'state_dir = "{tmp_path}"\n[publish]\nendpoints = ["ipc://{tmp_path}/out"]\n'
        "[forensic]\nmax_mb = 100\nreserve_mb = 0\n"
    )
    ring = ForensicRing(tmp_path / "forensic", ForensicConfig(max_mb=100, reserve_mb=0), Stamp("n", "s" * 16, "v"))
    assert main(["support", "--config", str(path), "--audio", "--out", str(tmp_path / "none.tgz")]) == 66
    assert not (tmp_path / "none.tgz").exists()
    ring.start()
    x = (np.random.default_rng(0).integers(0, 2**23, (1, 60 * fs)) / 2**23).astype(np.float32)
    ring.offer(StreamStart("c", 0, fs, ("ch0",), "", 1_795_456_730_000_000_000, ClockState("system")), wait=True)
    ring.offer(AudioBlock("c", 0, 0, fs, x), wait=True)
    ring.close(60.0)
    for words, n in ((["--audio", "15"], 2), ([], 0)):
        out = tmp_path / f"{n}.tgz"
        assert main(["support", "--config", str(path), *words, "--out", str(out)]) == 0
        sounds = {k: v for k, v in contents(out).items() if k.endswith(".flac")}
        assert len(sounds) == n
    got = [
        soundfile.read(io.BytesIO(v), dtype="float32")[0]
        for _, v in sorted(contents(tmp_path / "2.tgz").items())
        if _.endswith(".flac")
    ]
    np.testing.assert_array_equal(np.concatenate(got), x[0, 40 * fs :])
    assert "audio/" in capsys.readouterr().out
    assert main(["support", "--audio", "0", "--out", str(tmp_path / "x.tgz")]) == 64


def test_settings_that_are_wrong_do_not_keep_help_away(tmp_path: Path) -> None:
    path = tmp_path / "tonald.toml"
    path.write_text("nod = 3\n")
    assert main(["support", "--config", str(path), "--out", str(tmp_path / "a.tgz")]) == 0
    found = contents(tmp_path / "a.tgz")
    assert b"unknown key 'nod'" in found["config-problem.txt"]
    assert b"unknown key 'nod'" in found["doctor.txt"]
