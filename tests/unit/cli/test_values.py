"""What people type becomes a value, or an error that says where it is wrong."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from dagnats_cli import values
from dagnats_core import limits
from dagnats_core.errors import Invalid, TooLarge


class _Stdin:
    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5", 1.5), ("30s", 30), ("1h30m", 5400), ("250ms", 0.25), ("1d2h", 93_600)]
)
def test_durations(text: str, seconds: float) -> None:
    assert values.parse_duration_s(text, "--timeout") == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "abc", "s", "1x", "30 s", "1s1m"])
def test_bad_durations_name_the_option(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        values.parse_duration_s(text, "--timeout")
    assert caught.value.problems[0].path == "--timeout"


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"a": }', "line 1 column 7"),
        ('{"a": 1,\n "b" 2}', "line 2 column 6"),
        ("", "line 1 column 1"),
        ("[1] x", "line 1 column 5"),
        ("[" * 200_000, "nested too deeply"),
    ],
)
def test_broken_json_says_where(text: str, where: str) -> None:
    with pytest.raises(Invalid) as caught:
        values.read_json(text, "--input")
    problem = caught.value.problems[0]
    assert problem.path == "--input"
    assert where in problem.message


@pytest.mark.parametrize("text", ["NaN", "'a'", "{a: 1}", "Infinity"])
def test_what_only_looks_like_json_is_refused(text: str) -> None:
    with pytest.raises(Invalid):
        values.read_json(text, "--input")


def test_json_from_option_file_and_stdin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "input.json"
    file.write_text('{"n": 123456789012345678901234567890}')
    assert values.read_json('{"n": null}', "--input") == {"n": None}
    assert values.read_json(f"@{file}", "--input") == {"n": 123456789012345678901234567890}
    monkeypatch.setattr(sys, "stdin", _Stdin(b"[1]"))
    assert values.read_json("-", "--input") == [1]


def test_a_file_that_cannot_be_read_names_argument_and_reason(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"missing\.json") as caught:
        values.read_json(f"@{tmp_path / 'missing.json'}", "--input")
    assert caught.value.problems[0].message == "No such file or directory"
    (tmp_path / "latin").write_bytes(b"caf\xe9")
    with pytest.raises(Invalid) as caught:
        values.read_text(str(tmp_path / "latin"), "FILE")
    assert caught.value.problems[0].message == "not UTF-8 at byte 3"


def test_a_value_above_the_bound_is_refused_and_the_bound_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAYLOAD_BYTES_MAX", 10)
    monkeypatch.setattr(sys, "stdin", _Stdin(b"1" * 11))
    with pytest.raises(TooLarge, match="10 bytes"):
        values.read_json("-", "--input")
    monkeypatch.setattr(sys, "stdin", _Stdin(b"1" * 10))
    assert values.read_json("-", "--input") == 1111111111


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"a": 1}, 2]', [{"a": 1}, 2]),
        ('{"a": 1}\n\n2\n', [{"a": 1}, 2]),
        ("[1]\n[2]\n", [[1], [2]]),
        ("", []),
    ],
)
def test_many_values_are_an_array_or_lines(tmp_path: Path, content: str, expected: list[object]) -> None:
    file = tmp_path / "inputs"
    file.write_text(content)
    assert values.read_json_list(str(file), "--inputs") == expected


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "inputs"
    file.write_text('{"a": 1}\n{"a": }\n')
    with pytest.raises(Invalid) as caught:
        values.read_json_list(str(file), "--inputs")
    assert caught.value.problems[0].path == "--inputs (line 2)"


def test_tags_have_values_only_if_all_have() -> None:
    assert values.parse_tags(["a", "k=v"]) == ["a", "k=v"]
    assert values.parse_tags(["env=prod", "k=v=w"]) == {"env": "prod", "k": "v=w"}
    assert values.parse_tags(["=v"]) == ["=v"]
