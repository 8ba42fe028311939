"""What may be sent and what is answered, by the headers that say so."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnats_gateway.media import EVENT_STREAM, JSON, YAML, body_type, negotiate
from dagnats_micro import DagNatsError


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("text/event-stream", EVENT_STREAM),
        ("TEXT/Event-Stream", EVENT_STREAM),
        ("text/*", EVENT_STREAM),
        ("application/json;q=0.5, text/event-stream", EVENT_STREAM),
        ("text/event-stream;q=0.4, */*;q=0.3", EVENT_STREAM),
        ("text/event-stream;q=0, */*", JSON),
        ("text/html, application/xhtml+xml, */*;q=0.8", JSON),
    ],
)
def test_the_client_s_favourite_is_answered(accept: str, expected: str) -> None:
    assert negotiate(accept, (JSON, EVENT_STREAM)) == expected


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "application/json;q=x", ",", ";;", "*"])
def test_what_the_client_does_not_take_is_refused(accept: str) -> None:
    with pytest.raises(DagNatsError) as caught:
        negotiate(accept, (JSON,))
    assert caught.value.code == "not_acceptable"


@pytest.mark.parametrize(
    "header", [JSON, "Application/JSON", 'application/json; charset="UTF-8"', "application/json;x=y"]
)
def test_json_is_understood(header: str) -> None:
    assert body_type(header, "identity", (JSON, YAML)) == JSON


@pytest.mark.parametrize(
    ("header", "encoding"),
    [("", ""), ("text/json", ""), ("application/json, text/plain", ""), (f"{JSON};charset=utf-16", ""), (JSON, "br")],
)
def test_anything_else_is_not(header: str, encoding: str) -> None:
    with pytest.raises(DagNatsError) as caught:
        body_type(header, encoding, (JSON,))
    assert caught.value.code == "unsupported_media_type"


@given(st.text(max_size=60))
def test_no_header_breaks_the_reading(text: str) -> None:
    found = {code_or(negotiate, text, (JSON,)), code_or(body_type, text, text, (JSON,))}
    assert found <= {JSON, "not_acceptable", "unsupported_media_type"}


def code_or(read: Callable[..., str], *arguments: object) -> str:
    try:
        return read(*arguments)
    except DagNatsError as error:
        return error.code
