"""Errors survive the wire in both directions, and say no more than they should."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnats_core import limits
from dagnats_core.bus.message import FastMessage
from dagnats_core.errors import ERROR_CLASSES, Conflict, DagNatsError, Invalid, NotFound, Problem
from dagnats_micro import errors
from dagnats_micro.schemas.wf import StartRequest

texts = st.text(max_size=500)


def sent(error: DagNatsError) -> FastMessage:
    headers, body = errors.encode_error(error)
    return FastMessage("inbox", "", body, b"NATS/1.0\r\n" + headers + b"\r\n")


@given(st.sampled_from(sorted(ERROR_CLASSES)), texts, st.lists(st.tuples(texts, texts), max_size=5))
def test_every_error_comes_back_with_its_code_text_and_problems(
    code: str, text: str, problems: list[tuple[str, str]]
) -> None:
    error = DagNatsError(text, [Problem(path, "rule", message) for path, message in problems], code=code)
    back = errors.error_in(sent(error))
    assert back is not None
    assert (back.code, back.message, back.problems) == (code, text, error.problems)


@pytest.mark.parametrize("cls", [Invalid, NotFound, Conflict])
def test_an_error_comes_back_as_its_own_class(cls: type[DagNatsError]) -> None:
    assert type(errors.error_in(sent(cls("no")))) is cls


@given(texts)
def test_the_header_is_one_line_whatever_the_message_holds(text: str) -> None:
    headers, _ = errors.encode_error(Invalid(text))
    lines = headers.decode().split("\r\n")
    assert [line.partition(": ")[0] for line in lines] == [errors.ERROR_HEADER, errors.CODE_HEADER, ""]
    assert "\n" not in lines[0]
    assert lines[1].endswith(": 400")


def test_an_error_fits_a_message_however_much_went_wrong() -> None:
    problems = [Problem("p" * 10_000, "rule", "m" * 10_000)] * 1000
    _, body = errors.encode_error(Invalid("x" * 100_000, problems))
    assert len(body) < limits.MESSAGE_BYTES_MAX
    assert len(msgspec.json.decode(body)["problems"]) == limits.PROBLEMS_MAX


def test_an_answer_without_error_headers_is_no_error() -> None:
    assert errors.error_in(FastMessage("inbox", "", b"{}")) is None
    assert errors.error_in(FastMessage("inbox", "", b"{}", b"NATS/1.0\r\nA: b\r\n\r\n")) is None


def test_an_error_of_a_stock_service_is_understood_by_its_headers_alone() -> None:
    headers = b"NATS/1.0\r\nNats-Service-Error: gone\r\nNats-Service-Error-Code: 404\r\n\r\n"
    error = errors.error_in(FastMessage("inbox", "", b"", headers))
    assert isinstance(error, NotFound)
    assert error.message == "gone"


def test_a_code_of_a_newer_server_becomes_internal() -> None:
    headers = b"NATS/1.0\r\nNats-Service-Error: x\r\nNats-Service-Error-Code: 418\r\n\r\n"
    error = errors.error_in(FastMessage("inbox", "", b'{"code":"teapot","message":"short"}', headers))
    assert error is not None
    assert (error.code, error.message) == ("internal", "short")


@pytest.mark.parametrize(
    ("body", "path", "rule"),
    [
        (b"\xff\xfe", "", "json"),
        (b'{"workflow":"a","request_id":"\xff"}', "", "utf8"),
        (b"", "", "json"),
        (b"[]", "", "type"),
        (b"{}", "workflow", "required"),
        (b'{"workflow":"a","wrokflow":1}', "wrokflow", "unknown_field"),
        (b'{"workflow":1}', "workflow", "type"),
        (b'{"workflow":"a b"}', "workflow", "pattern"),
        (b'{"workflow":"a","version":0}', "version", "range"),
        (b'{"workflow":"a","tags":[""]}', "tags[0]", "length"),
        (b'{"workflow":"a","request_id":"' + b"x" * 300 + b'"}', "request_id", "length"),
        (b'{"workflow":"a","input":1e999}', "input", "range"),
        (b'{"workflow":"a","input":' + b"[" * 50_000 + b"]" * 50_000 + b"}", "", "depth"),
        (b'{"workflow":"a"} and more', "", "json"),
        (b'{"workflow":"a","input_ref":{"id":"' + b"a" * 26 + b'"}}', "input_ref.size", "required"),
    ],
)
def test_a_refusal_names_path_and_rule(body: bytes, path: str, rule: str) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the decoder raises several kinds
        msgspec.json.decode(body, type=StartRequest)
    refusal = errors.refusal_of(caught.value)
    assert refusal.code == "invalid"
    assert [(problem.path, problem.rule) for problem in refusal.problems] == [(path, rule)]


@given(st.binary(max_size=200))
def test_no_body_makes_the_refusal_itself_fail(body: bytes) -> None:
    refusal = None
    try:
        msgspec.json.decode(body, type=StartRequest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        refusal = errors.refusal_of(error)
    assert refusal is None or refusal.problems
