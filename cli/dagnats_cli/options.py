"""The options that every command takes: which site, how to reach it, how to answer. Values only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

DEFAULT_URL = "nats://127.0.0.1:4222"


def _text(metavar: str, help: str) -> Parameter:
    return Parameter(metavar=metavar, help=help)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What was typed; connect.py puts context and environment below it."""

    site: Annotated[
        str | None, _text("SITE", "Site to talk to [env: DAGNATS_SITE] [default: the one that answers]")
    ] = None
    nats_url: Annotated[str | None, _text("URL", f"NATS servers [env: DAGNATS_NATS_URL] [default: {DEFAULT_URL}]")] = (
        None
    )
    creds: Annotated[str | None, _text("FILE", "Credentials file [env: DAGNATS_CREDS]")] = None
    nkey: Annotated[str | None, _text("FILE", "File with an nkey seed [env: DAGNATS_NKEY]")] = None
    user: Annotated[str | None, _text("NAME", "User name [env: DAGNATS_USER]")] = None
    password: Annotated[str | None, _text("TEXT", "Password [env: DAGNATS_PASSWORD]")] = None
    token: Annotated[str | None, _text("TEXT", "Token [env: DAGNATS_TOKEN]")] = None
    context: Annotated[str | None, _text("NAME", "Context of the nats CLI, or `selected` [env: DAGNATS_CONTEXT]")] = (
        None
    )
    timeout: Annotated[str | None, _text("TIME", "Give up after this long in all, e.g. 30s; exit code 8")] = None
    json: Annotated[bool, Parameter(help="Print the reply itself, as JSON", negative=(), show_default=False)] = False


CREDENTIAL_FIELDS = ("creds", "nkey", "user", "password", "token")


def environment(name: str) -> str | None:
    """`DAGNATS_<NAME>`, None if unset or empty."""
    return os.environ.get(f"DAGNATS_{name.upper()}") or None
