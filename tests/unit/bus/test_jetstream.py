"""What reply subjects and error bodies of JetStream mean."""

from __future__ import annotations

import pytest

from dagnats_core.bus.errors import (
    ApiError,
    ApiErrorBody,
    BatchRefused,
    Duplicate,
    StoreFull,
    WrongSequence,
    error_of,
)
from dagnats_core.bus.jetstream import Delivery, delivery_of
from dagnats_core.errors import DagNatsError, NotFound, TooLarge

EXPECTED = Delivery("con", 2, 30, 4, 1795437503203, 6)


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.str.con.2.30.4.1795437503203535692.6",
        "$JS.ACK.dom.hash.str.con.2.30.4.1795437503203535692.6",
        "$JS.ACK._.hash.str.con.2.30.4.1795437503203535692.6.random",
    ],
)
def test_a_delivery_with_and_without_domain(reply: str) -> None:
    assert delivery_of(reply) == EXPECTED


@pytest.mark.parametrize("reply", ["", "_INBOX.a.b", "$JS.ACK.a.b.c", "$JS.ACK.str.con.2.x.4.5.6"])
def test_anything_else_is_refused(reply: str) -> None:
    with pytest.raises(ValueError, match=r"not a JetStream delivery|invalid literal"):
        delivery_of(reply)


@pytest.mark.parametrize(
    ("code", "err_code", "kind"),
    [
        (400, 10071, WrongSequence),
        (400, 10164, WrongSequence),
        (400, 10199, BatchRefused),
        (400, 10176, BatchRefused),
        (400, 10201, Duplicate),
        (503, 10077, StoreFull),
        (500, 10047, StoreFull),
        (400, 10054, TooLarge),
        (404, 10059, NotFound),
        (404, 10014, NotFound),
        (400, 10188, ApiError),
    ],
)
def test_codes_are_exceptions(code: int, err_code: int, kind: type[DagNatsError]) -> None:
    error = error_of(ApiErrorBody(code, err_code, "some words"), "a.b")
    assert type(error) is kind
    assert "a.b" in error.message
    assert str(err_code) in error.message


def test_a_wrong_sequence_tells_the_one_that_stands() -> None:
    told = error_of(ApiErrorBody(400, 10071, "wrong last sequence: 17"), "a.b")
    untold = error_of(ApiErrorBody(400, 10164, "wrong last sequence"), "a.b")
    assert isinstance(told, WrongSequence)
    assert told.stored_seq == 17
    assert isinstance(untold, WrongSequence)
    assert untold.stored_seq is None
