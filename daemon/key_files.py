"""CURVE keys in files: made, read, and refused where others could read or change them.

A file holds one key pair (``NAME.key``, secret, mode 0600) or its public half (``NAME.pub``), in the form that other
ZeroMQ programs read, too::

    metadata
        name = "bridge"
    curve
        public-key = "forty characters of Z85"
        secret-key = "forty more, in NAME.key only"
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
from dataclasses import dataclass, field
from pathlib import Path

import zmq
from zmq.utils import z85

from models.errors import ConfigError, InputError

__all__ = [
    "KeyPair",
    "PublicKey",
    "key_path",
    "make_pair",
    "read_guarded",
    "read_pair",
    "read_private",
    "read_public",
    "to_text",
    "write_new",
]

CREDENTIAL = "credential:"
"""Of a path: a file that the service manager hands over (systemd's LoadCredential)."""
MAX_FILE = 1 << 16
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_KEY = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_LINE = re.compile(r"\s*([A-Za-z0-9-]+)\s*=\s*(?:\"([^\"]*)\"|([^\"\s]+))\s*")


@dataclass(frozen=True, slots=True)
class PublicKey:
    """Whom a key stands for."""

    name: str
    raw: bytes
    """32 bytes."""

    @classmethod
    def parse(cls, name: str, text: str, where: str) -> PublicKey:
        """From 40 characters of Z85; ``where`` stands for the place in messages.

        Raises
        ------
        ConfigError
            If name or key cannot be one.
        """
        check_name(name, where)
        return cls(name, _decode(text, where))

    @property
    def text(self) -> str:
        """40 characters of Z85."""
        return z85.encode(self.raw).decode("ascii")

    @property
    def fingerprint(self) -> str:
        """16 hex digits, for logs and for comparing by telephone."""
        return hashlib.sha256(self.raw).hexdigest()[:16]

    def __str__(self) -> str:
        return f"{self.name} ({self.fingerprint})"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """Both halves; the secret one is never shown."""

    public: PublicKey
    secret: bytes = field(repr=False)
    """32 bytes."""


def check_name(name: str, where: str) -> None:
    """Refuse what is no name of a client, of a file, or of a credential.

    Raises
    ------
    ConfigError
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{where}: name {name!r}: use 1 to 64 letters, digits, '_', '.' or '-', and begin with no '.'"
        )


def make_pair(name: str) -> KeyPair:
    """A new pair.

    Raises
    ------
    ConfigError
        If ``name`` cannot be one.
    """
    public, secret = zmq.curve_keypair()
    return KeyPair(PublicKey.parse(name, public.decode("ascii"), "new key"), z85.decode(secret))


def to_text(key: PublicKey, secret: bytes | None = None) -> str:
    """Content of a key file."""
    head = "# CURVE key of tonald, public: give it to the other side"
    last = ""
    if secret is not None:
        head = "# CURVE key of tonald, SECRET: it stays on the machine that uses it"
        last = f'    secret-key = "{z85.encode(secret).decode("ascii")}"\n'
    return f'{head}\nmetadata\n    name = "{key.name}"\ncurve\n    public-key = "{key.text}"\n{last}'


def write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that nobody else could read for an instant; never over one that exists.

    Raises
    ------
    InputError
        If it exists or cannot be written.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(fd)
            os.fchmod(fd, mode)
    except FileExistsError:
        raise InputError(
            f"{path} exists already: choose another name or folder; who uses that key would be shut out"
        ) from None
    except OSError as e:
        raise InputError(f"{path}: cannot be written: {e.strerror}") from e


def key_path(text: str, what: str) -> Path:
    """Where a key lies; ``credential:NAME`` is what the service manager handed over.

    Raises
    ------
    ConfigError
        If it handed over nothing.
    """
    if not text.startswith(CREDENTIAL):
        return Path(text)
    folder, name = os.environ.get("CREDENTIALS_DIRECTORY"), text.removeprefix(CREDENTIAL)
    if not folder:
        raise ConfigError(f"{what} = {text!r}, but no service manager handed over credentials: give a path instead")
    check_name(name, what)
    return Path(folder) / name


def read_pair(path: Path, what: str) -> KeyPair:
    """Read a secret key.

    Raises
    ------
    ConfigError
        If it is no key pair, its halves do not fit, or others than its owner may read it.
    """
    found = _fields(read_private(path, what).decode("utf-8", "replace"), f"{what}: {path}")
    if "secret-key" not in found:
        raise ConfigError(f"{what}: {path} holds no secret key: name the file that ends in .key")
    public = PublicKey.parse(found.get("name", path.stem), found["public-key"], f"{what}: {path}")
    secret = _decode(found["secret-key"], f"{what}: {path}")
    if z85.decode(zmq.curve_public(z85.encode(secret))) != public.raw:
        raise ConfigError(f"{what}: {path}: secret and public key do not belong together: make a new pair")
    return KeyPair(public, secret)


def read_public(path: Path, what: str) -> PublicKey:
    """Read a public key.

    Raises
    ------
    ConfigError
        If it is none, holds a secret key, or others than its owner may change it.
    """
    text = read_guarded(path, what, stat.S_IWGRP | stat.S_IWOTH, "go-w").decode("utf-8", "replace")
    found = _fields(text, f"{what}: {path}")
    if "secret-key" in found:
        raise ConfigError(f"{what}: {path} holds a secret key, which does not belong here: give the .pub file")
    return PublicKey.parse(found.get("name", path.stem), found["public-key"], f"{what}: {path}")


def read_private(path: Path, what: str) -> bytes:
    """Content of a file that only its owner may read.

    Raises
    ------
    ConfigError
        If others may read or change it, or it cannot be read; says what to do.
    """
    return read_guarded(path, what, stat.S_IRWXG | stat.S_IRWXO, "600")


def read_guarded(path: Path, what: str, forbidden: int, cure: str) -> bytes:
    """Content of a file none of whose ``forbidden`` mode bits is set."""
    try:
        with path.open("rb") as f:
            mode = os.fstat(f.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise ConfigError(f"{what}: {path} is no plain file")
            if _by_service_manager(path):  # it shows what it gave this user alone as readable by the group
                forbidden &= ~(stat.S_IRGRP | stat.S_IXGRP)
            if mode & forbidden:
                raise ConfigError(
                    f"{what}: {path} may be {'read' if forbidden & stat.S_IROTH else 'changed'} by others "
                    f"(mode {stat.S_IMODE(mode):04o}): chmod {cure} {path}, and make a new key if it lay open"
                )
            data = f.read(MAX_FILE + 1)
    except OSError as e:
        raise ConfigError(f"{what}: {path} cannot be read: {e.strerror}") from e
    if len(data) > MAX_FILE:
        raise ConfigError(f"{what}: {path} is longer than {MAX_FILE} bytes, so it is no key file")
    return data


def _by_service_manager(path: Path) -> bool:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and path.parent == Path(str(folder))


def _fields(text: str, where: str) -> dict[str, str]:
    """``name``, ``public-key``, ``secret-key`` as far as they are there; the public key is."""
    found: dict[str, str] = {}
    for n, line in enumerate(text.splitlines(), 1):
        if m := _LINE.fullmatch(line):
            if m[1] in found:
                raise ConfigError(f"{where}:{n}: a second {m[1]}")
            found[m[1]] = m[2] if m[3] is None else m[3]
        elif line.strip() not in ("", "metadata", "curve") and not line.lstrip().startswith("#"):
            raise ConfigError(f"{where}:{n}: no line of a key file; 'tonald keygen' makes one")
    if "public-key" not in found:
        raise ConfigError(f"{where}: holds no public key; 'tonald keygen' makes one")
    return found


def _decode(text: str, where: str) -> bytes:
    if not _KEY.fullmatch(text):
        raise ConfigError(f"{where}: a key is 40 characters of Z85; this has {len(text)}, or some that Z85 has not")
    try:
        return z85.decode(text.encode("ascii"))
    except struct.error as e:  # five characters that stand for more than 32 bits
        raise ConfigError(f"{where}: a key that no program wrote: copy it again") from e
