"""What the embedded nats-server is told: typed settings in, the text of its configuration file out. Pure.

All state lives in the account `DAGNATS` from the first start, because streams made in the default account
are invisible to an account that is added later. On loopback nobody logs in: every client is taken as one
fixed user of that account.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from enum import StrEnum

import msgspec

from dagnats_core import limits

ACCOUNT = "DAGNATS"
SYSTEM_ACCOUNT = "SYS"
LOOPBACK = "127.0.0.1"


class Durability(StrEnum):
    """When an acknowledged message reaches the disk: before the ack, within 1 s, or within 2 min."""

    ALWAYS = "always"
    ONE_SECOND = "1s"
    OS = "os"


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One nats-server on loopback. `port` is a real port (1..65535); paths are absolute."""

    server_name: str
    port: int
    store_dir: str
    ports_dir: str
    """Where the server writes `nats-server_<pid>.ports` once it listens."""
    durability: Durability
    store_bytes_max: int | None = None
    """None leaves it to the server: three quarters of what is free when it starts, even on a disk just then full."""
    domain: str | None = None
    """JetStream domain; None for a server that never meets another one."""


def _loopback_user() -> str:
    """The public nkey of the user that clients on loopback are taken for.

    It is the hash of a sentence and not made from a seed, so nobody can log in with it anywhere else; a user
    with an empty password would do too, but makes the server warn about plaintext passwords at each start.
    """
    key = bytes([20 << 3]) + hashlib.sha256(b"dagnats: the user without a seed").digest()
    checksum = binascii.crc_hqx(key, 0).to_bytes(2, "little")
    return base64.b32encode(key + checksum).decode()


LOOPBACK_USER = _loopback_user()


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
    return f'"{escaped}"'


def _jetstream(settings: ServerSettings) -> str:
    lines = [f"  store_dir: {_quote(settings.store_dir)}"]
    if settings.domain is not None:
        lines.append(f"  domain: {_quote(settings.domain)}")
    if settings.store_bytes_max is not None:
        lines.append(f"  max_file_store: {settings.store_bytes_max}")
    if settings.durability is not Durability.OS:
        lines.append(f"  sync_interval: {_quote(settings.durability.value)}")
    return "\n".join(lines)


def render(settings: ServerSettings) -> str:
    """The configuration file of `settings`."""
    return f"""\
# Written by dagnats at each start: what is edited here is lost.
server_name: {_quote(settings.server_name)}
listen: "{LOOPBACK}:{settings.port}"
http: "{LOOPBACK}:-1"
ports_file_dir: {_quote(settings.ports_dir)}
logtime: false
max_payload: {limits.SERVER_PAYLOAD_BYTES_MAX}
jetstream {{
{_jetstream(settings)}
}}
accounts {{
  {ACCOUNT} {{ jetstream: enabled, users: [ {{ nkey: {LOOPBACK_USER} }} ] }}
  {SYSTEM_ACCOUNT} {{}}
}}
system_account: {SYSTEM_ACCOUNT}
no_auth_user: {LOOPBACK_USER}
"""
