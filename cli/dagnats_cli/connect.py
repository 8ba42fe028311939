"""From options to a site: which server, as whom, which site, and one client that keeps the command's deadline."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dagnats_cli import contexts, values
from dagnats_cli.options import CREDENTIAL_FIELDS, DEFAULT_URL, Options, environment
from dagnats_core.errors import Invalid, Problem, TimedOut, Unavailable
from dagnats_micro.endpoint import Endpoint, Rep, Req

if TYPE_CHECKING:
    from ssl import SSLContext

    from dagnats_core.bus.connection import ConnectOptions
    from dagnats_micro.client import MicroClient

CONNECT_TIMEOUT_S = 2.0


def connect_options(options: Options) -> ConnectOptions:
    """Where and as whom: what was typed, then the context named, then the environment, then the default.

    Raises NotFound and Invalid for a context or an nkey file that cannot be read.
    """
    from dagnats_core.bus.connection import ConnectOptions

    typed_url = options.nats_url
    name = options.context or (None if typed_url else environment("context"))
    context = contexts.read_context(name) if name else contexts.Context()
    url = typed_url or context.url or environment("nats_url") or DEFAULT_URL
    login = {field: getattr(options, field) for field in CREDENTIAL_FIELDS}
    if not any(login.values()):
        login = {field: getattr(context, field) or None for field in CREDENTIAL_FIELDS}
    if not any(login.values()):
        login = {field: environment(field) for field in CREDENTIAL_FIELDS}
    return ConnectOptions(
        urls=tuple(part.strip() for part in url.split(",") if part.strip()),
        name="dagnats-cli",
        inbox_prefix=context.inbox_prefix or "_INBOX",
        connect_timeout_s=CONNECT_TIMEOUT_S,
        creds_file=_existing(login["creds"], "--creds"),
        nkey_seed=_seed(login["nkey"]),
        user=login["user"],
        password=login["password"],
        token=login["token"],
        tls=_tls(context),
        domain=context.jetstream_domain or None,
    )


def _existing(name: str | None, about: str) -> str | None:
    if name is not None and not Path(name).expanduser().is_file():
        raise Invalid(f"cannot read {name}", [Problem(about, "readable", "no such file")])
    return str(Path(name).expanduser()) if name else None


def _seed(file: str | None) -> str | None:
    """The seed in an nkey file: its one line that begins with `SU`."""
    if file is None:
        return None
    lines = values.read_text(str(Path(file).expanduser()), "--nkey").splitlines()
    seeds = [line.strip() for line in lines if line.strip().startswith("SU")]
    if len(seeds) != 1:
        raise Invalid(
            f"{file} holds no nkey", [Problem("--nkey", "nkey", "one line with a user's seed (SU…) is expected")]
        )
    return seeds[0]


def _tls(context: contexts.Context) -> SSLContext | None:
    if not (context.cert or context.key or context.ca):
        return None
    import ssl

    try:
        tls = ssl.create_default_context(cafile=context.ca or None)
        if context.cert:
            tls.load_cert_chain(context.cert, context.key or None)
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            "the context's certificates cannot be used", [Problem("cert, key, ca", "tls", str(error))]
        ) from error
    return tls


class Session:
    """A site, reached. Every call ends by the command's deadline (`--timeout`), or after a request's usual time."""

    def __init__(self, client: MicroClient, deadline_s: float | None) -> None:
        self.client = client
        self._deadline_s = deadline_s

    def remaining_s(self) -> float | None:
        """Seconds until the deadline, None if there is none. Raises TimedOut once it has passed."""
        if self._deadline_s is None:
            return None
        remaining_s = self._deadline_s - time.monotonic()
        if remaining_s <= 0:
            raise TimedOut("it took longer than --timeout")
        return remaining_s

    async def call(self, endpoint: Endpoint[Req, Rep], request: Req, *, timeout_s: float | None = None) -> Rep:
        """One request, one reply; raises the DagNatsError that the reply means.

        `timeout_s` bounds this request alone, the deadline bounds all; without either the client's own bound counts.
        """
        remaining_s = self.remaining_s()
        if remaining_s is not None:
            timeout_s = min(timeout_s or remaining_s, remaining_s)
        return await self.client.call(endpoint, request, timeout_s)


@asynccontextmanager
async def open_session(options: Options) -> AsyncIterator[Session]:
    """Connect and find the site. Raises Unavailable with what to do about it."""
    from dagnats_core.bus.connection import connect
    from dagnats_micro.client import MicroClient, resolve_site

    _silence_logs()
    deadline_s = None
    if options.timeout is not None:
        deadline_s = time.monotonic() + values.parse_duration_s(options.timeout, "--timeout")
    wanted = options.site or environment("site")
    target = connect_options(options)
    try:
        connection = await connect(target)
    except Unavailable as error:
        raise Unavailable(error.message + _hint(target)) from error
    try:
        site = await resolve_site(connection, wanted)
        yield Session(MicroClient(connection, site), deadline_s)
    finally:
        await connection.close()


def _silence_logs() -> None:
    """What goes wrong is said by the errors that commands raise; a log line would only tear the screen."""
    import logging

    import structlog

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.getLogger().setLevel(logging.CRITICAL)


def _hint(target: ConnectOptions) -> str:
    if target.urls != (DEFAULT_URL,):
        return ""
    chosen = contexts.selected_context()
    return "; is `dagnats serve` running?" + (
        f" (the nats CLI's context is {chosen!r}: --context {chosen})" if chosen else ""
    )
