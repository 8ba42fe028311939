"""Every endpoint has its command, every field its parameter; a wrong line is told what is wrong, with exit code 2."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dagnats_cli import arguments, main
from dagnats_cli.commands import command_of
from dagnats_cli.exits import EPILOGUE
from dagnats_core.errors import ERROR_CLASSES, Invalid
from dagnats_micro.endpoint import Endpoint
from dagnats_micro.schemas import run, wf
from dagnats_micro.table import ENDPOINTS, RUN_LIST, RUN_RETRY, RUN_START_MANY, WF_START

WITH_COMMAND = [endpoint for endpoint in ENDPOINTS if endpoint.cli is not None]


@pytest.mark.parametrize("endpoint", WITH_COMMAND, ids=lambda endpoint: endpoint.name)
def test_every_field_has_a_parameter_with_help(endpoint: Endpoint[Any, Any]) -> None:
    fields = {field.name for field in msgspec.structs.fields(endpoint.request)} - arguments.HIDDEN
    made = arguments.arguments_of(endpoint)
    assert {argument.field for argument in made} == fields
    for argument in made:
        assert argument.parameter.annotation.__metadata__[0].help, f"{argument.label} says nothing of itself"


@pytest.mark.parametrize("endpoint", WITH_COMMAND, ids=lambda endpoint: endpoint.name)
def test_help_page(endpoint: Endpoint[Any, Any], capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main.run([endpoint.noun, endpoint.verb, "--help"]) == 0
    page = capsys.readouterr().out
    assert endpoint.summary.split()[0] in page
    assert max(len(line) for line in page.splitlines()) <= 80


def test_the_first_page_lists_nouns_options_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--help"]) == 0
    page = capsys.readouterr().out
    for word in ("serve", "wf", "run", "dlq", "worker", "system", "status", "config", "completion"):
        assert f"\n  {word} " in page
    for word in ("--site", "--nats-url", "--creds", "--context", "--json", "--timeout", "Exit codes"):
        assert word in page
    assert main.run(["wf", "--help"]) == 0
    assert "--nats-url URL" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("wf strat", 'Did you mean "start"?'),
        ("worfklow list", "Unknown command"),
        ("wf start", "WORKFLOW"),
        ("wf start x --inptu 1", "Did you mean --input?"),
        ("run list --limit many", "--limit"),
        ("run list --status done", "--status"),
        ("run list extra", "extra"),
        ("run get", "RUN_ID or --last is needed"),
        ("run get abc --last", "not both"),
        ("serve --json", "takes none of the options for all commands"),
        ("completion tcsh", "bash"),
    ],
)
def test_usage_errors(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(line.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ") or "--json" in line
    assert message in captured.err


def test_an_error_is_a_reply_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["wf", "start", "x", "--input", "{", "--json"]) == 4
    reply = json.loads(capsys.readouterr().err)
    assert reply["code"] == "invalid"
    assert reply["problems"][0]["path"] == "--input"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["completion", shell]) == 0
    script = capsys.readouterr().out
    for word in ("dagnats", "start-many", "request-id", "nats-url"):
        assert word in script


def test_what_was_left_out_stays_out() -> None:
    made = arguments.arguments_of(WF_START)
    given = arguments.read_values(made, {"workflow": "w", "input": "null", "tags": ["a=b"], "version": None})
    assert given == {"workflow": "w", "input": None, "tags": {"a": "b"}}
    assert arguments.build_request(WF_START, given) == wf.StartRequest(workflow="w", tags={"a": "b"})


def test_a_switch_that_is_on_can_be_turned_off(capsys: pytest.CaptureFixture[str]) -> None:
    assert arguments.build_request(RUN_RETRY, {"run_id": "0" * 28, "reuse": False}).reuse is False
    main.run(["run", "retry", "--help"])
    assert "--no-reuse" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("endpoint", "given", "label"),
    [
        (RUN_LIST, {"limit": 5000}, "--limit"),
        (RUN_LIST, {"prefix": "A-B"}, "--prefix"),
        (WF_START, {"workflow": "no spaces please"}, "WORKFLOW"),
        (WF_START, {"workflow": "w", "tags": [""]}, "--tag"),
        (RUN_START_MANY, {"workflow": "w", "inputs": []}, "--inputs"),
    ],
)
def test_a_value_out_of_bounds_is_named_as_it_was_typed(endpoint: Any, given: dict[str, Any], label: str) -> None:
    with pytest.raises(Invalid) as caught:
        arguments.build_request(endpoint, given)
    assert caught.value.problems[0].path == label


def test_a_new_endpoint_needs_nothing_here() -> None:
    class Strange(run.RunRequest):
        colour: wf.Json = None
        ratio: float = 0.5

    made = command_of(RUN_LIST._replace(noun="new", request=Strange, cli=RUN_RETRY.cli))
    names = list(made.__signature__.parameters)  # type: ignore[attr-defined]
    assert names == ["run_id", "colour", "ratio", "last", "options"]


def test_the_page_and_the_first_help_page_list_every_exit_code() -> None:
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
    for code in {row.exit_code for row in ERROR_CLASSES.values()} | {0, 2, 70, 130}:
        assert f"\n| {code} |" in page
        assert re.search(rf"\b{code} ", EPILOGUE)
