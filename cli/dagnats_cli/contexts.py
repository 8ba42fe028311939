"""The `nats` CLI's own contexts: where they are, and what a connection takes from one. Reads files; connects nowhere.

A context is `$XDG_CONFIG_HOME/nats/context/NAME.json` (`~/.config` by default); `nats context select` writes the name
of the selected one to `nats/context.txt`.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from dagnats_core.errors import Invalid, NotFound, Problem

SELECTED = "selected"
"""`--context selected` is the one that `nats context select` chose, unless a context has that very name."""


class Context(msgspec.Struct, frozen=True):
    """What we take from a context. Empty text means: not set."""

    url: str = ""
    user: str = ""
    password: str = ""
    token: str = ""
    creds: str = ""
    nkey: str = ""
    cert: str = ""
    key: str = ""
    ca: str = ""
    inbox_prefix: str = ""
    jetstream_domain: str = ""
    nsc: str = ""
    user_jwt: str = ""
    socks_proxy: str = ""


_FILES = ("creds", "nkey", "cert", "key", "ca")
_UNSUPPORTED = ("nsc", "user_jwt", "socks_proxy")


def contexts_dir() -> Path:
    return _nats_dir() / "context"


def _nats_dir() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "nats"


def selected_context() -> str | None:
    """The name that `nats context select` chose, if any."""
    try:
        return (_nats_dir() / "context.txt").read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def read_context(name: str) -> Context:
    """Read one context. Raises NotFound that lists those there are, Invalid for a file that is none."""
    if not name or "/" in name or name.startswith("."):
        raise Invalid("bad context name", [Problem("--context", "name", f"{name!r} cannot be a context's name")])
    path = contexts_dir() / f"{name}.json"
    if name == SELECTED and not path.exists():
        chosen = selected_context()
        if chosen is None:
            raise NotFound("no context is selected: `nats context select NAME` chooses one")
        return read_context(chosen)
    try:
        context = msgspec.json.decode(path.read_bytes(), type=Context)
    except FileNotFoundError:
        known = sorted(file.stem for file in contexts_dir().glob("*.json"))
        there_are = f"; there are: {', '.join(known)}" if known else ""
        raise NotFound(f"no context {name!r} in {contexts_dir()}{there_are}") from None
    except (OSError, msgspec.DecodeError) as error:
        raise Invalid(f"cannot read the context {name!r}", [Problem(str(path), "context", str(error))]) from error
    problems = [
        Problem(f"{path}: {field}", "supported", "not supported here")
        for field in _UNSUPPORTED
        if getattr(context, field)
    ]
    if problems:
        raise Invalid(f"the context {name!r} needs what dagnats does not do", problems)
    found = {field: str(Path(getattr(context, field)).expanduser()) for field in _FILES if getattr(context, field)}
    return msgspec.structs.replace(context, **found)
