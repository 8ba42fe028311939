"""Settings in, text out. That the server takes the text is shown in tests/integration/test_embedded_server.py."""

from __future__ import annotations

import base64
import binascii
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnats_core.server.settings import LOOPBACK_USER, Durability, ServerSettings, render

SETTINGS = ServerSettings(
    server_name="local-1",
    port=4222,
    store_dir="/d",
    ports_dir="/d/ports",
    durability=Durability.ALWAYS,
    domain="local",
    store_bytes_max=1_000,
)


def test_the_whole_file() -> None:
    assert render(SETTINGS) == (
        f"""\
# Written by dagnats at each start: what is edited here is lost.
server_name: "local-1"
listen: "127.0.0.1:4222"
http: "127.0.0.1:-1"
ports_file_dir: "/d/ports"
logtime: false
max_payload: 1048576
jetstream {{
  store_dir: "/d"
  domain: "local"
  max_file_store: 1000
  sync_interval: "always"
}}
accounts {{
  DAGNATS {{ jetstream: enabled, users: [ {{ nkey: {LOOPBACK_USER} }} ] }}
  SYS {{}}
}}
system_account: SYS
no_auth_user: {LOOPBACK_USER}
"""
    )


@pytest.mark.parametrize(
    ("durability", "line"),
    [
        (Durability.ALWAYS, 'sync_interval: "always"'),
        (Durability.ONE_SECOND, 'sync_interval: "1s"'),
        (Durability.OS, ""),
    ],
)
def test_durability_is_the_sync_interval(durability: Durability, line: str) -> None:
    text = render(msgspec.structs.replace(SETTINGS, durability=durability))
    assert line in text
    assert ("sync_interval" in text) == bool(line)


def test_without_a_domain_there_is_none() -> None:
    assert "domain" not in render(msgspec.structs.replace(SETTINGS, domain=None))


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]) | st.sampled_from('"\\\n\r')))
def test_a_quoted_text_is_one_token_on_one_line(path: str) -> None:
    text = render(msgspec.structs.replace(SETTINGS, store_dir=path))
    line = next(line for line in text.split("\n") if "store_dir" in line)
    assert json.loads(line.removeprefix("  store_dir: ")) == path


def test_the_loopback_user_is_a_well_formed_public_key() -> None:
    decoded = base64.b32decode(LOOPBACK_USER)
    assert LOOPBACK_USER.startswith("U")
    assert binascii.crc_hqx(decoded[:-2], 0) == int.from_bytes(decoded[-2:], "little")
