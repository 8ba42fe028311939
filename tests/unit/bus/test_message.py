"""Header blocks, and what a received message tells."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnats_core.bus.message import FastMessage, find_header, header_block, time_ms_of
from dagnats_core.errors import Invalid

names = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1, max_size=20)
values = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=40)


@given(st.dictionaries(names, values, max_size=6))
def test_what_is_sent_is_read_back(headers: dict[str, str]) -> None:
    block = b"NATS/1.0\r\n" + header_block(headers) + b"\r\n"
    for name, value in headers.items():
        assert find_header(block, name) == value.encode().strip().decode("utf-8", "replace")
    assert find_header(block, "Not-There") is None


def test_blocks_add_up() -> None:
    block = b"NATS/1.0\r\n" + header_block({"A": "1"}) + header_block({"B": "2"}) + b"\r\n"
    assert (find_header(block, "A"), find_header(block, b"B")) == ("1", "2")


@pytest.mark.parametrize(
    "headers", [{"": "x"}, {"a b": "x"}, {"a:": "x"}, {"é": "x"}, {"A": "x\r\nB: y"}, {"A": "x\n"}]
)
def test_nothing_breaks_out_of_its_line(headers: dict[str, str]) -> None:
    with pytest.raises(Invalid) as caught:
        header_block(headers)
    assert caught.value.problems


def test_status_and_description() -> None:
    plain = FastMessage("s", "", b"", b"NATS/1.0\r\nA: 1\r\n\r\n")
    assert (plain.status, plain.description, plain.header("A")) == (0, "", "1")
    timeout = FastMessage("s", "", b"", b"NATS/1.0 408 Request Timeout\r\nNats-Pending-Messages: 3\r\n\r\n")
    assert (timeout.status, timeout.description) == (408, "Request Timeout")
    assert timeout.header("Nats-Pending-Messages") == "3"
    assert (FastMessage("s", "", b"", b"NATS/1.0 503\r\n\r\n").status, FastMessage("s", "", b"x").status) == (503, 0)


def test_a_value_that_looks_like_a_header_is_none() -> None:
    assert find_header(b"NATS/1.0\r\nX: Nats-Sequence: 9\r\n\r\n", "Nats-Sequence") is None


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-23T12:38:23.203535692Z", 1795437503203),
        ("2026-11-23T12:38:23.2Z", 1795437503200),
        ("2026-11-23T12:38:23Z", 1795437503000),
    ],
)
def test_times_of_the_server(text: str, ms: int) -> None:
    assert time_ms_of(text) == ms
