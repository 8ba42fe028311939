"""The one table of settings: a row's name is its key in dagnats.yaml, its variable and its flag. Pure.

A new setting is a row here and a field of `Config`; nothing else knows the list. Values are read from text,
whatever layer they come from, so `nats_port: 4222`, `DAGNATS_NATS_PORT=4222` and `--nats-port 4222` obey
one rule.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec

from dagnats_core import ids, limits
from dagnats_core.errors import Invalid
from dagnats_core.flow.durations import format_duration, parse_duration
from dagnats_core.server.settings import Durability
from dagnats_core.telemetry.logs import LogFormat, LogLevel

_URL_SCHEMES = ("nats", "tls", "ws", "wss")


class Address(NamedTuple):
    """Where to listen. Port 0 takes a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The settings in force. Paths are absolute."""

    config: Path | None
    data_dir: Path
    site: str
    nats_port: int
    durability: Durability
    http_addr: Address
    no_http: bool
    archive_retention: timedelta
    nats_url: str
    creds: Path | None
    log_format: LogFormat
    log_level: LogLevel
    sources: dict[str, str]
    """By field, where its value came from: `default`, `<file>:<line>`, `env NAME` or `flag --name`."""


class Kind(NamedTuple):
    """A type of value: `parse` raises ValueError for text that breaks the `rule`; `text` is its inverse."""

    name: str
    rule: str
    parse: Callable[[str], Any]
    text: Callable[[Any], str] = str


class Field(NamedTuple):
    """One setting. A `default` of None means that there is none, or that the platform gives it (data_dir)."""

    name: str
    kind: Kind
    default: str | None
    help: str
    in_file: bool = True

    @property
    def env(self) -> str:
        return f"DAGNATS_{self.name.upper()}"

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"


def _parse_port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= port <= 65535:
        raise ValueError
    return port


def _parse_address(text: str) -> Address:
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError
    if not (host and colon) or any(character in host for character in " /@[]"):
        raise ValueError
    return Address(host, _parse_port(port))


def _parse_bool(text: str) -> bool:
    return {
        "true": True,
        "yes": True,
        "on": True,
        "1": True,
        "false": False,
        "no": False,
        "off": False,
        "0": False,
    }[text.lower()]


def _parse_site(text: str) -> str:
    if not ids.is_site(text):
        raise ValueError
    return text


def _parse_path(text: str) -> Path:
    if not text or "\x00" in text:
        raise ValueError
    return Path(text)


def _parse_url(text: str) -> str:
    for url in text.split(","):
        parts = urlsplit(url.strip())
        if parts.scheme not in _URL_SCHEMES or not parts.hostname:
            raise ValueError
        parts.port  # noqa: B018 (raises ValueError for a port out of range)
    return text


def _parse_retention(text: str) -> timedelta:
    try:
        ms = parse_duration(text)
    except Invalid as error:
        raise ValueError(error.message) from error
    if ms < limits.HOT_MS_MIN:
        raise ValueError
    return timedelta(milliseconds=ms)


def _choice(name: str, choices: type[StrEnum]) -> Kind:
    return Kind(name, "one of " + ", ".join(choices), choices)


_PORT = Kind("port", "an integer from 0 to 65535; 0 takes a free port", _parse_port)
_ADDRESS = Kind("address", "HOST:PORT, as in 127.0.0.1:8080 or [::1]:8080; port 0 takes a free port", _parse_address)
_SWITCH = Kind("switch", "true or false", _parse_bool, lambda value: "true" if value else "false")
_PATH = Kind("path", "a path", _parse_path)
_SITE = Kind("site", f"a site name: {ids.SITE_PATTERN}", _parse_site)
_URL = Kind("url", "nats://HOST[:PORT], also tls, ws or wss; several are separated by commas", _parse_url)
_RETENTION = Kind(
    "duration",
    f"a duration from {format_duration(limits.HOT_MS_MIN)} to {format_duration(limits.DURATION_MS_MAX)}",
    _parse_retention,
    lambda value: format_duration(value // timedelta(milliseconds=1)),
)

FIELDS: dict[str, Field] = {
    field.name: field
    for field in (
        Field("config", _PATH, None, "Configuration file, instead of the usual places", in_file=False),
        Field("data_dir", _PATH, None, "Where everything is kept; made if missing"),
        Field("site", _SITE, "local", "Name of this deployment"),
        Field("nats_port", _PORT, "4222", "Port of the embedded nats-server"),
        Field("durability", _choice("durability", Durability), "always", "When what is acknowledged is on disk"),
        Field("http_addr", _ADDRESS, "127.0.0.1:8080", "Where the REST API listens"),
        Field("no_http", _SWITCH, "false", "Do without the REST API"),
        Field("archive_retention", _RETENTION, "30d", "How long ended runs are kept"),
        Field("nats_url", _URL, "nats://127.0.0.1:4222", "nats-server to connect to"),
        Field("creds", _PATH, None, "NATS credentials file"),
        Field("log_format", _choice("log_format", LogFormat), "auto", "Form of log lines"),
        Field("log_level", _choice("log_level", LogLevel), "info", "Least level that is logged"),
    )
}
