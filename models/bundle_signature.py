"""Who vouches for a bundle: an Ed25519 signature over its manifest, in ``manifest.sig`` beside it.

The manifest names the hash of every file, so its signature covers the bundle. The file is text that a person can read;
what is signed is all of it before the last line::

    tonald bundle signature 1
    manifest sha256 5f2c…
    signed 2026-11-23T16:00:00+00:00
    expires 2027-11-23T00:00:00+00:00        (or: expires never)
    signature <base64>
"""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.errors import BundleError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

__all__ = ["SIGNATURE", "Signed", "make_signer", "sign", "verify"]

SIGNATURE = "manifest.sig"
MAX_SIGNATURE = 4096
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"
_FORM = re.compile(
    rf"(?P<signed>tonald bundle signature 1\nmanifest sha256 (?P<sha256>[0-9a-f]{{64}})\n"
    rf"signed (?P<at>{_TIME})\nexpires (?P<expires>{_TIME}|never)\n)signature (?P<signature>[A-Za-z0-9+/=]{{88}})\n"
)


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature says."""

    at: datetime.datetime
    """UTC, by the clock of whoever signed."""
    expires: datetime.datetime | None
    """UTC; None: never."""


def make_signer() -> tuple[bytes, bytes]:
    """A new pair: secret key (PKCS 8) and public key, both PEM."""
    _require()
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    return (
        key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()),
        key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo),
    )


def sign(manifest: bytes, secret_pem: bytes, at: datetime.datetime, expires: datetime.datetime | None) -> bytes:
    """Content of ``manifest.sig``.

    Parameters
    ----------
    manifest : bytes
        ``manifest.json`` as it stands in the bundle.
    secret_pem : bytes
        An Ed25519 secret key.
    at, expires : datetime
        With time zone; None: never.

    Raises
    ------
    BundleError
        If the key is none, or the signature would have expired when it is made.
    """
    if expires is not None and expires <= at:
        raise BundleError(f"a signature that expires on {_utc(expires)} would be no good on {_utc(at)}")
    until = "never" if expires is None else _utc(expires)
    text = (
        f"tonald bundle signature 1\nmanifest sha256 {hashlib.sha256(manifest).hexdigest()}\n"
        f"signed {_utc(at)}\nexpires {until}\n"
    ).encode("ascii")
    return text + b"signature " + base64.b64encode(_secret(secret_pem).sign(text)) + b"\n"


def verify(manifest: bytes, signature: bytes | None, public_pem: bytes, now: datetime.datetime) -> Signed:
    """Check a signature.

    Parameters
    ----------
    manifest : bytes
    signature : bytes or None
        Content of ``manifest.sig``, if there is one.
    public_pem : bytes
        The key that is trusted.
    now : datetime
        With time zone.

    Raises
    ------
    BundleError
        If it is missing, malformed, made by another key, of another bundle, or expired.
    """
    public = _public(public_pem)
    if signature is None:
        raise BundleError("is not signed, and bundle_key asks for it: fetch the signed one, or 'tonald bundle sign'")
    m = _FORM.fullmatch(signature.decode("ascii", "replace"))
    if m is None:
        raise BundleError(f"{SIGNATURE} is no signature of a bundle: fetch the bundle again")
    try:
        raw = base64.b64decode(m["signature"], validate=True)
    except binascii.Error as e:
        raise BundleError(f"{SIGNATURE} is damaged: fetch the bundle again") from e
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(raw, m["signed"].encode("ascii"))
    except InvalidSignature:
        raise BundleError(
            f"{SIGNATURE} was not made by the key that bundle_key names, or was changed: ask who gave you the bundle"
        ) from None
    if m["sha256"] != hashlib.sha256(manifest).hexdigest():
        raise BundleError(f"{SIGNATURE} is that of another bundle, or the manifest was changed: fetch the bundle again")
    try:
        at = datetime.datetime.fromisoformat(m["at"])
        expires = None if m["expires"] == "never" else datetime.datetime.fromisoformat(m["expires"])
    except ValueError as e:
        raise BundleError(f"{SIGNATURE}: {e}") from e
    if expires is not None and now >= expires:
        raise BundleError(
            f"its signature expired on {_utc(expires)} (now {_utc(now)}): fetch a newer bundle, or check the clock"
        )
    return Signed(at, expires)


def _utc(t: datetime.datetime) -> str:
    return t.astimezone(datetime.timezone.utc).isoformat(timespec="seconds")


def _require() -> None:
    try:
        import cryptography  # noqa: F401  (only whether it is there)
    except ModuleNotFoundError as e:
        raise BundleError("signatures need the package 'cryptography': pip install 'tonald[signed]'") from e


def _secret(pem: bytes) -> Ed25519PrivateKey:
    _require()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise BundleError(f"no secret key of a signer ('tonald keygen signer NAME' makes one): {e}") from e
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError("the secret key is not an Ed25519 key: 'tonald keygen signer NAME' makes one")
    return key


def _public(pem: bytes) -> Ed25519PublicKey:
    _require()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as e:
        raise BundleError(f"no public key of a signer (a file ending in .pub): {e}") from e
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError("the public key is not an Ed25519 key: 'tonald keygen signer NAME' makes one")
    return key
