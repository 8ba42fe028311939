"""What an endpoint is: one row of data. Service, client, routes, OpenAPI, commands and roles come from it."""

from __future__ import annotations

import re
from typing import Generic, Literal, NamedTuple, TypeVar

from dagnats_micro.schemas.common import Reply, Request

Req = TypeVar("Req", bound=Request)
Rep = TypeVar("Rep", bound=Reply)
Role = Literal["viewer", "operator", "worker", "admin"]


class Http(NamedTuple):
    """How REST says it. Fields named in the path come from there, others from the query (GET, DELETE) or the JSON body.

    `body`: the one request field that is the whole body (a definition, for instance); else the body is the request.
    """

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    status: int = 200
    body: str | None = None


class Cli(NamedTuple):
    """How the command line says it: which fields are positional, and which reply fields make the table's columns."""

    positional: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


class Endpoint(NamedTuple, Generic[Req, Rep]):
    """`errors`: the codes it may answer with beyond those of every endpoint (invalid, busy, unavailable, internal)."""

    noun: str
    verb: str
    summary: str
    request: type[Req]
    reply: type[Rep]
    http: Http
    cli: Cli | None = Cli()
    errors: tuple[str, ...] = ()
    mutating: bool = False
    role: Role = "viewer"

    @property
    def name(self) -> str:
        """The name in the micro service: `run-get`."""
        return f"{self.noun}-{self.verb}"

    @property
    def dotted(self) -> str:
        """The name in prose and in code: `run.get`."""
        return f"{self.noun}.{self.verb}"

    @property
    def naming(self) -> frozenset[str]:
        """The fields that say which thing is meant, if it may be missing: those in the path."""
        return frozenset(re.findall(r"\{(\w+)\}", self.http.path)) if "not_found" in self.errors else frozenset()
