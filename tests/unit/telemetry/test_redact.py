"""What is hidden, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnats_core.telemetry.redact import HIDDEN, is_secret_name, redact, redact_text


@pytest.mark.parametrize("name", ["password", "nats_password", "TOKEN", "bridge-token", "seed", "creds", "secret_key"])
def test_telling_names(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["tokens_used", "seeded", "path", "nats_url", ""])
def test_innocent_names(name: str) -> None:
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("nats://user:pw@host:1/x", "nats://user:***@host:1/x"),
        ("nats://token@host", "nats://***@host"),
        ("nats://a:1,tls://u:p@b:2", "nats://a:1,tls://u:***@b:2"),
        ("ask a@b.org about http://host/x@y", "ask a@b.org about http://host/x@y"),
        ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
    ],
)
def test_urls(text: str, shown: str) -> None:
    assert redact_text(text) == shown


def test_a_missing_secret_is_shown_as_missing() -> None:
    assert redact("token", None) is None
    assert redact("token", "x") == HIDDEN


@given(secret=st.from_regex(r"[a-z0-9]{8,20}", fullmatch=True), user=st.from_regex(r"[A-Z]{0,5}", fullmatch=True))
def test_a_password_in_a_url_never_passes(secret: str, user: str) -> None:
    assert secret not in redact_text(f"cannot reach tls://{user}:{secret}@host:1 or nats://h")
