"""Text to data: what is read, what is refused and with which line, and that hostile text is refused quickly."""

from __future__ import annotations

import contextlib
import time

import pytest

from dagnats_core import limits
from dagnats_core.errors import Invalid, TooLarge
from dagnats_core.flow.parse import Format, parse_text


def refusal(text: bytes, format: Format = "auto") -> Invalid:
    with pytest.raises(Invalid) as caught:
        parse_text(text, format)
    assert caught.value.problems
    return caught.value


def test_yaml_and_json_give_the_same_data() -> None:
    data = {"name": "w", "steps": [{"id": "a", "retries": 2, "x": None, "y": True, "z": 1.5}]}
    assert parse_text(b'{"name":"w","steps":[{"id":"a","retries":2,"x":null,"y":true,"z":1.5}]}') == data
    assert parse_text(b"name: w\nsteps:\n- id: a\n  retries: 2\n  x:\n  y: true\n  z: 1.5\n") == data


def test_yaml_is_of_version_1_2() -> None:
    text = b"on: yes\na: off\nb: 1:30\nc: 2026-11-23\nd: 0o17\ne: 0x1F\nf: 010\ng: '1'\nh: ~\ni: .5\nj: 1e3"
    assert parse_text(text) == {
        "on": "yes", "a": "off", "b": "1:30", "c": "2026-11-23", "d": 15, "e": 31, "f": 10, "g": "1", "h": None,
        "i": 0.5, "j": 1000.0,
    }  # fmt: skip


def test_an_anchor_stands_for_its_value() -> None:
    assert parse_text(b"a: &x {q: 1}\nb: *x\nc: [*x]") == {"a": {"q": 1}, "b": {"q": 1}, "c": [{"q": 1}]}


def test_the_format_can_be_given() -> None:
    assert parse_text(b"{a: 1}", "yaml") == {"a": 1}
    assert "line 1" in refusal(b"{a: 1}").message


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    assert parse_text(b'\xef\xbb\xbf{"a":1}') == {"a": 1}
    assert parse_text(b"\xef\xbb\xbfa: 1") == {"a": 1}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"a: 1\nb: 2\na: 3", 3),
        (b"a:\n  b: c: d", 2),
        (b"a: *nothing", 1),
        (b"a: &x\n- *x", 2),
        (b"a: 1\n---\nb: 2", 2),
        (b"a: !!python/object:os.system x", 1),
        (b"a: !!int '3'", 1),
        (b"a: 1\n2: 3", 2),
        (b"a: 1\n? [x]\n: 3", 2),
        (b"a: 1\nb: .nan", 2),
        (b"a: 1\nb: 1e999", 2),
        (b"a: 1\nb: \x01", 2),
        (b'a: "\\ud800"', 1),
        (b'{"a": 1,\n"b": }', 2),
        (b'{"a": 1,\n"b": "\xff"}', 2),
    ],
)
def test_what_is_malformed_is_refused_with_its_line(text: bytes, line: int) -> None:
    assert f"line {line}:" in refusal(text).message


def test_a_key_twice_in_json_is_named_with_its_path() -> None:
    problem = refusal(b'{"steps":[{"id":"a"},{"id":"b","task":"x","task":"y"}]}').problems[0]
    assert (problem.path, problem.rule) == ("steps[1].task", "duplicate")


@pytest.mark.parametrize("text", [b"", b"# nothing", b"\n\n"])
def test_nothing_is_no_definition(text: bytes) -> None:
    assert "nothing" in refusal(text).message


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"1e999", b"1" * 5000])
def test_numbers_that_are_not_json_are_refused(number: bytes) -> None:
    refusal(b'{"a": ' + number + b"}")


@pytest.mark.parametrize("depth", [limits.JSON_DEPTH_MAX, limits.JSON_DEPTH_MAX + 1])
def test_depth_is_a_bound(depth: int) -> None:
    for text, format in ((b"[" * depth + b"]" * depth, "json"), (b"- " * depth + b"x", "yaml")):
        if depth <= limits.JSON_DEPTH_MAX:
            assert isinstance(parse_text(text, format), list)  # type: ignore[arg-type]
        else:
            assert refusal(text, format).problems[0].rule == "depth"  # type: ignore[arg-type]


def test_size_is_a_bound() -> None:
    assert parse_text(b"a: " + b"x" * (limits.DEFINITION_BYTES_MAX - 3))
    with pytest.raises(TooLarge, match=str(limits.DEFINITION_BYTES_MAX)):
        parse_text(b"a: " + b"x" * limits.DEFINITION_BYTES_MAX)


BILLION_LAUGHS = b"a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (i + 1, i + 1, b",".join([b"*a%d" % i] * 9)) for i in range(30)
)


def test_aliases_count_as_what_they_stand_for() -> None:
    assert refusal(BILLION_LAUGHS).problems[0].rule == "size"


SIZE = limits.DEFINITION_BYTES_MAX - 10


@pytest.mark.parametrize(
    "text",
    [
        b"[" * SIZE,
        b"{" * SIZE,
        b"- " * (SIZE // 2),
        b"? " * (SIZE // 2),
        b"[" + b"a," * (SIZE // 2) + b"]",
        b"a: " * (SIZE // 3),
        b"&a " * (SIZE // 3),
        b"a" * SIZE + b": 1",
        b"'" * SIZE,
        b'"' + b"\\" * SIZE,
        b"#\n" * (SIZE // 2),
        b"%X\n" * (SIZE // 3),
        b"".join(b" " * i + b"a:\n" for i in range(900)),
        b'{"a":' * (SIZE // 5),
        b'{"a":[' * (SIZE // 6),
    ],
    ids=lambda text: text[:8],
)
def test_hostile_text_is_refused_quickly(text: bytes) -> None:
    began = time.process_time()
    with contextlib.suppress(Invalid):
        parse_text(text)
    assert time.process_time() - began < 3
