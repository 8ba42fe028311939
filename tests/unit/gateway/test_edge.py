"""Which requests come from a web page of another origin."""

from __future__ import annotations

import pytest

from dagnats_gateway.edge import is_foreign


@pytest.mark.parametrize(
    ("headers", "foreign"),
    [
        ({}, False),
        ({"host": "a:80"}, False),
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "same-site"}, True),
        ({"sec-fetch-site": "cross-site", "origin": "http://a", "host": "a"}, True),
        ({"origin": "http://a:80", "host": "a:80"}, False),
        ({"origin": "http://b", "host": "a"}, True),
        ({"origin": "null", "host": "a"}, True),
        ({"origin": "http://[", "host": "a"}, True),
    ],
)
def test_foreign_pages_are_known(headers: dict[str, str], foreign: bool) -> None:
    assert is_foreign(headers) is foreign
