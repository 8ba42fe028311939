"""Cursors come back as they were given, and pages fit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnats_core import limits
from dagnats_core.errors import Invalid
from dagnats_micro.paging import cursor_of, key_of, page_of


@given(st.integers(), st.text())
def test_a_cursor_gives_its_key_back(number: int, text: str) -> None:
    assert key_of(cursor_of(number, text), tuple[int, str]) == (number, text)


def test_no_cursor_means_the_first_page() -> None:
    assert key_of(None, tuple[int, str]) is None


@given(st.text(max_size=50))
def test_any_other_text_is_refused_by_name(text: str) -> None:
    paths: list[str] = []
    try:
        key_of(text, tuple[int, str])
    except Invalid as error:
        paths = [problem.path for problem in error.problems]
    else:
        paths = ["cursor"]  # by chance one that a page could have given
    assert paths == ["cursor"]


def test_a_cursor_of_another_list_is_refused() -> None:
    with pytest.raises(Invalid):
        key_of(cursor_of("name"), tuple[int, str])


@given(st.lists(st.integers(), max_size=30), st.integers(1, 20))
def test_a_page_is_the_first_items_and_says_whether_there_are_more(items: list[int], limit: int) -> None:
    assert page_of(items, limit) == (items[:limit], len(items) > limit)


def test_a_page_is_bounded_in_bytes_but_never_empty() -> None:
    large = "x" * (limits.PAGE_BYTES_MAX * 2 // 3)
    assert page_of([large, large, large], 10) == ([large], True)
    assert page_of([large * 3], 10) == ([large * 3], False)
