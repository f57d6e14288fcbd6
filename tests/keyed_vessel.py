"""A daemon's keys in a folder, made by the program itself."""

from __future__ import annotations

from pathlib import Path

from daemon.allow_list import read_allow_list
from daemon.cli import main
from daemon.curve import ClientKeys, CurveServer
from daemon.key_files import read_pair


class Vessel:
    """``server`` and clients, of whom those in ``clients/`` may listen."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.allowed = folder, folder / "clients"
        self.allowed.mkdir(parents=True, mode=0o755)
        self.keygen("server")

    def keygen(self, kind: str, *name: str) -> None:
        assert main(["keygen", kind, *name, "--into", str(self.folder)]) == 0

    def client(self, name: str, *, allowed: bool = True) -> ClientKeys:
        self.keygen("client", name)
        if allowed:
            (self.allowed / f"{name}.pub").write_bytes((self.folder / f"{name}.pub").read_bytes())
        return ClientKeys.load(self.folder / "server.pub", self.folder / f"{name}.key")

    def curve(self, *, local: bool = False) -> CurveServer:
        pair = read_pair(self.folder / "server.key", "server key")
        return CurveServer(pair, read_allow_list(self.allowed), local)
