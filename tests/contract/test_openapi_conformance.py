"""Requests made up from openapi.json, good and bad ones, against the whole running system: no server error, and every
answer is one that the document names, of the type and shape that it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.checks import CHECKS, load_all_checks

from dagnats_gateway.openapi import EXAMPLES, document
from tests.support.serve import FREE_PORTS, Program, script

load_all_checks()
EXCLUDED = ("positive_data_acceptance", "allow_header_conformance")
"""Whether a definition is valid no schema can say; and `/workflows/validate` is also the path of a workflow."""
SCHEMA = schemathesis.openapi.from_dict(document())


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a `dagnats serve` that knows the workflow of the examples."""
    data_dir = str(tmp_path_factory.mktemp("serve") / "data")
    serve = Program([script("dagnats"), "serve", "--data-dir", data_dir, "--log-format", "json", *FREE_PORTS])
    try:
        url = str(serve.ready()["http_url"])
        httpx.post(f"{url}/workflows", json=EXAMPLES["wf-register"]).raise_for_status()
        yield url
        assert httpx.get(f"{url}/health").status_code == 200
        internal = [event for event in serve.events if event.get("event") in ("api.internal", "http.internal")]
        assert internal == []
        assert serve.stop() == 0
    finally:
        serve.close()


@SCHEMA.parametrize()
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_every_operation_keeps_its_word(case: Case, system: str) -> None:
    case.call_and_validate(base_url=system, excluded_checks=CHECKS.get_by_names(EXCLUDED), timeout=60)


@pytest.mark.parametrize("size", [2, 1024**2 - 1, 1024**2, 1024**2 + 1, 10 * 1024**2])
def test_an_input_of_any_size_is_a_run(system: str, tmp_path: Path, size: int) -> None:
    value = "x" * (size - 2)
    started = httpx.post(f"{system}/runs", json={"workflow": "greet", "input": value}, timeout=60)
    assert started.status_code == 201, started.text
    run = httpx.get(f"{system}{started.headers['location']}").json()
    assert run["input"] == value or run["input_ref"]["size"] == size


def test_a_body_of_100_mib_is_answered(system: str) -> None:
    body = b'{"workflow":"greet","input":"' + b"x" * (100 * 1024**2) + b'"}'
    response = httpx.post(f"{system}/runs", content=body, headers={"content-type": "application/json"}, timeout=60)
    assert (response.status_code, response.json()["code"]) == (413, "too_large")


def test_a_stream_of_events_ends_with_its_run(system: str) -> None:
    run = httpx.post(f"{system}/runs", json={"workflow": "greet"}).headers["location"]
    types: list[str] = []
    headers = {"accept": "text/event-stream"}
    with httpx.stream("GET", f"{system}{run}/events", headers=headers, timeout=30) as response:
        for line in response.iter_lines():
            name, _, value = line.partition(": ")
            if name == "event":
                assert value == "end"
            elif name == "data" and "type" in (event := msgspec.json.decode(value)):
                types.append(event["type"])
                if event["type"] == "step_queued":
                    assert httpx.post(f"{system}{run}/cancel").status_code == 200
            elif name == "data":
                assert event["status"] == "cancelled"
    assert types[0] == "run_created"
    assert types[-1] == "run_ended"
    assert httpx.get(f"{system}{run}").json()["status"] == "cancelled"
