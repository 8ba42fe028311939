"""Contexts of the `nats` CLI are found where it puts them, and give a connection what it needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dagnats_cli import connect, contexts
from dagnats_cli.options import Options
from dagnats_core.errors import Invalid, NotFound

SEED = "SUACH75SWCM5D2JMJM6EKLR2WDARVGZT4QC6LX3AGHSWOMVAKERABBBRWM"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Write a context file."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("NATS_URL", "SITE", "CREDS", "CONTEXT", "USER", "PASSWORD", "TOKEN", "NKEY"):
        monkeypatch.delenv(f"DAGNATS_{name}", raising=False)
    folder = tmp_path / "nats" / "context"
    folder.mkdir(parents=True)

    def write(name: str, **fields: str) -> Path:
        file = folder / f"{name}.json"
        file.write_text(json.dumps({"description": "", "color_scheme": "", **fields}))
        return file

    return write


def test_a_context_gives_url_login_and_inbox(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write("prod", url="nats://a:1, nats://b:2", user="ann", password="secret", inbox_prefix="_IN.ann")
    options = connect.connect_options(Options(context="prod"))
    assert options.urls == ("nats://a:1", "nats://b:2")
    assert (options.user, options.password, options.inbox_prefix) == ("ann", "secret", "_IN.ann")


def test_what_is_typed_wins_over_the_context_and_that_over_the_environment(write, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    write("prod", url="nats://context:1", token="context-token")
    monkeypatch.setenv("DAGNATS_NATS_URL", "nats://environment:1")
    monkeypatch.setenv("DAGNATS_TOKEN", "environment-token")
    assert connect.connect_options(Options()).urls == ("nats://environment:1",)
    assert connect.connect_options(Options()).token == "environment-token"
    by_context = connect.connect_options(Options(context="prod"))
    assert (by_context.urls, by_context.token) == (("nats://context:1",), "context-token")
    typed = connect.connect_options(Options(context="prod", nats_url="nats://typed:1", user="u", password="p"))
    assert (typed.urls, typed.user, typed.token) == (("nats://typed:1",), "u", None)
    monkeypatch.setenv("DAGNATS_CONTEXT", "prod")
    assert connect.connect_options(Options()).urls == ("nats://context:1",)
    assert connect.connect_options(Options(nats_url="nats://typed:1")).urls == ("nats://typed:1",)


def test_nothing_given_is_localhost(write) -> None:  # type: ignore[no-untyped-def]
    assert connect.connect_options(Options()).urls == ("nats://127.0.0.1:4222",)


def test_nkey_and_creds_files_are_read(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    nkey, creds = tmp_path / "user.nk", tmp_path / "user.creds"
    nkey.write_text(f"{SEED}\nUDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4\n")
    creds.write_text("-----BEGIN NATS USER JWT-----\n")
    write("a", nkey=str(nkey), jetstream_domain="hub")
    write("b", creds=str(creds))
    by_key = connect.connect_options(Options(context="a"))
    assert (by_key.nkey_seed, by_key.domain) == (SEED, "hub")
    assert connect.connect_options(Options(context="b")).creds_file == str(creds)
    with pytest.raises(Invalid, match="cannot read"):
        connect.connect_options(Options(creds=str(tmp_path / "missing")))
    nkey.write_text("nothing")
    with pytest.raises(Invalid, match="holds no nkey"):
        connect.connect_options(Options(nkey=str(nkey)))


def test_the_selected_context_is_used_only_by_name(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write("prod", url="nats://prod:1")
    with pytest.raises(NotFound, match="no context is selected"):
        contexts.read_context("selected")
    (tmp_path / "nats" / "context.txt").write_text("prod\n")
    assert contexts.read_context("selected").url == "nats://prod:1"
    assert connect.connect_options(Options()).urls == ("nats://127.0.0.1:4222",)


def test_what_cannot_be_used_is_refused_by_name(write) -> None:  # type: ignore[no-untyped-def]
    write("known", url="nats://x:1")
    with pytest.raises(NotFound, match="there are: known"):
        contexts.read_context("unknown")
    for name in ("../known", "", ".hidden"):
        with pytest.raises(Invalid):
            contexts.read_context(name)
    write("jwt", url="nats://x:1", user_jwt="eyJ")
    with pytest.raises(Invalid) as caught:
        contexts.read_context("jwt")
    assert "user_jwt" in caught.value.problems[0].path
    write("broken").write_text("{")
    with pytest.raises(Invalid, match="cannot read"):
        contexts.read_context("broken")


def test_certificates_that_cannot_be_used_are_named(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    write("tls", url="tls://x:1", ca=str(tmp_path / "missing.pem"))
    with pytest.raises(Invalid, match="certificates"):
        connect.connect_options(Options(context="tls"))
