"""No secret leaves the machine: key files are never opened for the archive, and what looks like a key is masked."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["MASK", "Redactor"]

MASK = "[REMOVED]"
_Z85 = r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]"
_PATTERNS = (
    re.compile(r"-----BEGIN [^-]*PRIVATE KEY-----.*?(-----END [^-]*PRIVATE KEY-----|\Z)", re.DOTALL),
    re.compile(r"(?i)(?<=secret)([-_ ]?key)?([\"']?\s*[=:]\s*)(\"[^\"\n]*\"|'[^'\n]*'|\S+)"),
    re.compile(r"(?i)(?<=passw)(ord|d)([\"']?\s*[=:]\s*)(\"[^\"\n]*\"|'[^'\n]*'|\S+)"),
    re.compile(r"(?i)(?<=token)()([\"']?\s*[=:]\s*)(\"[^\"\n]*\"|'[^'\n]*'|\S+)"),
)
"""Private keys in PEM; what follows 'secret', 'password' or 'token'."""
_MAY_BE_KEY = re.compile(rf"(?<![^\s\"'=,:({{\[]){_Z85}{{40}}(?![^\s\"',)}}\]])")
"""40 characters of Z85 that stand alone."""
_PATH = re.compile(r"(/[\w.@-]+)+")


class Redactor:
    """Masks in every text that goes into the archive.

    Parameters
    ----------
    secrets : iterable of str
        Known ones, masked wherever they stand.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets = [s for s in secrets if s]
        self.n = 0
        """Places masked."""

    def __call__(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._secrets:
            self.n += text.count(secret)
            text = text.replace(secret, MASK)
        for pattern in _PATTERNS:
            text, n = pattern.subn(self._mask, text)
            self.n += n
        return _MAY_BE_KEY.sub(self._key, text)

    def _key(self, found: re.Match[str]) -> str:
        """Hashes are of one case, paths have no other signs; a key is neither."""
        token = found[0]
        if token in (token.lower(), token.upper()) or _PATH.fullmatch(token):
            return token
        self.n += 1
        return MASK

    @staticmethod
    def _mask(found: re.Match[str]) -> str:
        groups = found.groups()
        return f"{groups[0] or ''}{groups[1]}{MASK}" if len(groups) == 3 else MASK
