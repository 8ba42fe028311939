"""Every code of the error table as an answer, and every status of the framework as a code of the table."""

from __future__ import annotations

import msgspec
import pytest

from dagnats_gateway.problems import PROBLEM_JSON, ProblemDetails, hidden, of_status, render
from dagnats_micro import ERROR_CLASSES, DagNatsError, Problem


@pytest.mark.parametrize("code", sorted(ERROR_CLASSES))
def test_every_code_is_a_problem(code: str) -> None:
    row = ERROR_CLASSES[code]
    rendered = render(DagNatsError("why", [Problem("a[0]", "type", "no")], code=code))
    assert rendered.status == row.http_status
    assert rendered.headers["content-type"] == PROBLEM_JSON
    assert ("retry-after" in rendered.headers) is (code in ("busy", "unavailable"))
    assert msgspec.json.decode(rendered.body, type=ProblemDetails) == ProblemDetails(
        type=f"urn:dagnats:error:{code}",
        title=row.title,
        status=row.http_status,
        detail="why",
        code=code,
        problems=[Problem("a[0]", "type", "no")],
    )


def test_a_code_that_nobody_knows_is_a_mistake_of_ours() -> None:
    assert render(DagNatsError("?", code="odd")).status == 500


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "invalid"),
        (404, "not_found"),
        (405, "method_not_allowed"),
        (418, "invalid"),
        (500, "internal"),
        (599, "internal"),
    ],
)
def test_a_status_means_a_code(status: int, code: str) -> None:
    error = of_status(status, "")
    assert (error.code, bool(error.message)) == (code, True)


def test_what_we_did_wrong_is_hidden() -> None:
    assert (hidden("x1").code, hidden("x1").message[-2:]) == ("internal", "x1")
