"""What nobody may read in a log line or a listing: secrets in URLs, seeds, values of telling names. Pure.

It guards against accidents. It is no licence to log secrets: a secret under an innocent name passes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

HIDDEN = "***"

_SECRET_WORDS = frozenset({"password", "passwd", "token", "secret", "seed", "creds", "credentials", "authorization"})
_WORD = re.compile(r"[a-z]+")
_USER_INFO = re.compile(r"([a-z][a-z0-9+.-]*://)([^\s/@:\"']*)(:[^\s/@\"']*)?@", re.IGNORECASE)
_SEED = re.compile(r"\bS[UAOCNX][A-Z2-7]{56}\b")


def is_secret_name(name: str) -> bool:
    """Whether the value of a field of this name is never shown, as in `nats_password` or `token`."""
    return not _SECRET_WORDS.isdisjoint(_WORD.findall(name.lower()))


def redact_text(text: str) -> str:
    """`text` without seeds and without secrets in URLs: what stands before the @, but for a user's name."""
    if "://" in text:
        text = _USER_INFO.sub(lambda m: f"{m[1]}{m[2]}:{HIDDEN}@" if m[3] else f"{m[1]}{HIDDEN}@", text)
    return _SEED.sub(HIDDEN, text)


def redact(name: str, value: object) -> object:
    """`value` of the field `name`, safe to show. Containers are gone through; numbers and such are kept."""
    if is_secret_name(name):
        return HIDDEN if value is not None else None
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, Mapping):
        return {key: redact(str(key), item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact(name, item) for item in value]
    return value
