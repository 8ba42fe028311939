"""Where a worker or client connects to: what it was given, else the environment, else the local server."""

from __future__ import annotations

import os
from pathlib import Path

from dagnats_core.bus.connection import ConnectOptions
from dagnats_core.errors import Invalid, Problem

DEFAULT_URL = "nats://127.0.0.1:4222"


def connect_options(nats_url: str | None, creds: str | None, name: str) -> ConnectOptions:
    """`nats_url` may hold several servers, comma-separated. Environment: DAGNATS_NATS_URL, DAGNATS_CREDS.

    Raises Invalid if the credentials file is not there.
    """
    urls = nats_url or os.environ.get("DAGNATS_NATS_URL") or DEFAULT_URL
    creds_file = creds or os.environ.get("DAGNATS_CREDS") or None
    if creds_file is not None:
        path = Path(creds_file).expanduser()
        if not path.is_file():
            raise Invalid(f"cannot read {creds_file}", [Problem("creds", "readable", "no such file")])
        creds_file = str(path)
    return ConnectOptions(
        urls=tuple(url.strip() for url in urls.split(",") if url.strip()), name=name, creds_file=creds_file
    )


def wanted_site(site: str | None) -> str | None:
    """The site that was asked for, by argument or DAGNATS_SITE; None = find it."""
    return site or os.environ.get("DAGNATS_SITE") or None
