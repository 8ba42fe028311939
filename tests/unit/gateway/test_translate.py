"""Requests over HTTP become request structs; whatever is wrong is named. Only Invalid and NotFound are raised."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagnats_gateway.media import JSON, YAML
from dagnats_gateway.translate import Binding, Received, bind, to_request
from dagnats_micro import Invalid, NotFound, Problem, limits
from dagnats_micro.schemas import payload, run, wf, worker
from dagnats_micro.table import BY_NAME, ENDPOINTS

RUN_ID = "0" * 28
BINDINGS = [bind(endpoint) for endpoint in ENDPOINTS]


def translated(name: str, **received: Any) -> Any:
    return to_request(bind(BY_NAME[name]), Received(**{"path": {}, **received}))


def problems(name: str, **received: Any) -> list[tuple[str, str]]:
    with pytest.raises(Invalid) as caught:
        translated(name, **received)
    return [(problem.path, problem.rule) for problem in caught.value.problems]


def test_values_of_the_query_are_typed_by_their_field() -> None:
    request = translated("dlq-list", query=b"replayed=true&limit=7&workflow=null&cursor=a%2Bb+c")
    assert (request.replayed, request.limit, request.workflow, request.cursor) == (True, 7, "null", "a+b c")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"limit=x", [("limit", "json")]),
        (b"limit=07", [("limit", "json")]),
        (b"limit=", [("limit", "json")]),
        (b"limit=1e400", [("limit", "range")]),
        (b"limit=99999999999999999999999999", [("limit", "range")]),
        (b"limit=null", [("limit", "type")]),
        (b"limit=[1]", [("limit", "type")]),
        (b"limit=" + b"[" * 5000, [("limit", "type")]),
        (b"limit=0", [("limit", "range")]),
        (b"replayed=1", [("replayed", "type")]),
        (b"replayed=True", [("replayed", "json")]),
        (b"workflow=", [("workflow", "pattern")]),
        (b"workflow=a%0A", [("workflow", "pattern")]),
        (b"limit=1&limit=1", [("limit", "duplicate")]),
        (b"Limit=1", [("Limit", "unknown_field")]),
        (b"workflow=%ff", [("query", "utf8")]),
        (b"&".join(b"a=1" for _ in range(101)), [("query", "length")]),
    ],
)
def test_a_bad_query_is_named(query: bytes, expected: list[tuple[str, str]]) -> None:
    assert problems("dlq-list", query=query) == expected


def test_the_path_is_checked_like_everything_else() -> None:
    request = translated("payload-put", path={"id": "a" * 26, "index": "3"}, body=b'{"data":"AAE=","last":true}')
    assert request == payload.PutRequest(id="a" * 26, index=3, data=b"\0\1", last=True)
    path = {"id": "A" * 26, "index": "-1"}
    assert problems("payload-put", path=path, body=b'{"data":"!"}') == [
        ("id", "pattern"),
        ("index", "range"),
        ("data", "value"),
    ]


@pytest.mark.parametrize("run_id", [RUN_ID + "\n", "nope", "", "%", "é" * 28])
def test_an_id_that_no_run_can_have_names_no_run(run_id: str) -> None:
    with pytest.raises(NotFound) as caught:
        translated("run-get", path={"run_id": run_id})
    assert [(problem.path, problem.rule) for problem in caught.value.problems] == [("run_id", "pattern")]
    assert problems("run-get", path={"run_id": run_id}, query=b"a=1") == [
        ("run_id", "pattern"),
        ("a", "unknown_field"),
    ]


def test_what_stands_in_the_path_stands_nowhere_else() -> None:
    body = msgspec.json.encode({"run_id": RUN_ID})
    assert problems("run-cancel", path={"run_id": RUN_ID}, body=body) == [("run_id", "unknown_field")]
    assert problems("run-get", path={"run_id": RUN_ID}, query=b"run_id=" + RUN_ID.encode()) == [
        ("run_id", "unknown_field")
    ]


def test_problems_within_values_have_whole_paths() -> None:
    body = b'{"worker_id":"w","tasks":[{"task":"a"},{},{"task":"a","grup":"b"}]}'
    assert problems("worker-connect", body=body) == [("tasks[1].task", "required")]
    body = msgspec.json.encode({"workflow": "a", "input_ref": {"id": "a" * 26, "size": "1"}})
    assert problems("wf-start", body=body) == [("input_ref.size", "type")]
    assert problems("wf-start", body=b'{"workflow":"a","tags":["a",1]}') == [("tags[1]", "type")]


def test_everything_that_is_wrong_is_said_at_once_and_bounded() -> None:
    body = msgspec.json.encode({f"field{i}": i for i in range(300)})
    found = problems("wf-start", query=b"a=1", body=body, idempotency_key="")
    assert len(found) == limits.PROBLEMS_MAX
    assert found[0] == ("a", "unknown_field")


def test_any_json_goes_on_as_it_came() -> None:
    text = b'{ "n": 1.0, "big": 123456789012345678901234567890, "n": 2 }'
    request = translated("wf-start", body=b'{"workflow":"a","input":' + text + b"}")
    assert bytes(request.input) == text
    assert msgspec.json.encode(request) == b'{"workflow":"a","input":' + text + b"}"


def test_a_definition_is_the_body_itself() -> None:
    assert bytes(translated("wf-validate", body=b' {"name": "a"}\n').definition) == b'{"name": "a"}'
    request = translated("wf-validate", body="name: ä\n".encode(), media=YAML)
    assert msgspec.json.decode(request.definition) == "name: ä\n"
    assert problems("wf-validate") == [("definition", "required")]
    assert problems("wf-validate", body=b"\xff", media=YAML) == [("body", "utf8")]
    assert problems("wf-validate", body=b"{", media=JSON) == [("body", "json")]


def test_the_idempotency_key_is_the_request_id() -> None:
    assert translated("wf-start", body=b'{"workflow":"a"}', idempotency_key='"a b"').request_id == "a b"
    assert translated("wf-delete", path={"name": "a"}, idempotency_key="k") == wf.DeleteRequest(
        name="a", request_id="k"
    )
    assert translated("run-get", path={"run_id": RUN_ID}, idempotency_key="k") == run.RunRequest(run_id=RUN_ID)
    assert problems("wf-start", body=b'{"workflow":"a"}', idempotency_key="k" * 257) == [("Idempotency-Key", "length")]


def test_large_bodies_are_for_values_that_the_payload_store_takes() -> None:
    large = {binding.endpoint.name for binding in BINDINGS if binding.body_bytes_max > limits.MESSAGE_BYTES_MAX}
    assert large == {"wf-start"}


@pytest.mark.parametrize("binding", BINDINGS, ids=[endpoint.name for endpoint in ENDPOINTS])
def test_every_field_of_every_row_comes_from_one_place(binding: Binding) -> None:
    names = [field.name for field in binding.all_fields]
    assert sorted(names) == sorted(binding.endpoint.request.__struct_fields__)
    assert all(field.decoder is not None for field in (*binding.in_path, *binding.in_query))


names = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")
cursors = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(
    st.builds(
        run.RunListRequest,
        workflow=st.none() | names,
        status=st.sampled_from([None, "failed", "running"]),
        tag=st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
        limit=st.integers(1, limits.PAGE_ITEMS_MAX),
        cursor=st.none() | cursors,
    )
)
def test_a_query_says_what_the_struct_says(request: run.RunListRequest) -> None:
    values = {key: value for key, value in msgspec.structs.asdict(request).items() if value is not None}
    assert translated("run-list", query=urlencode(values).encode()) == request


@given(
    st.builds(
        worker.BeatRequest,
        worker_id=names,
        tasks=st.lists(st.builds(worker.TaskType, task=names, group=st.none() | names), max_size=3),
        running=st.integers(0, 2**40),
        hostname=cursors,
        stopping=st.booleans(),
    )
)
def test_a_body_says_what_the_struct_says(request: worker.BeatRequest) -> None:
    body = msgspec.to_builtins(request)
    path = {"worker_id": body.pop("worker_id")}
    assert translated("worker-beat", path=path, body=msgspec.json.encode(body)) == request


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | cursors,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(cursors, inner, max_size=3),
    max_leaves=8,
)


@given(
    binding=st.sampled_from(BINDINGS),
    query=st.binary(max_size=40).map(lambda text: bytes(b & 127 for b in text)),
    body=st.binary(max_size=40) | json_values.map(msgspec.json.encode),
    media=st.sampled_from([JSON, YAML]),
    text=cursors,
)
def test_nothing_but_a_refusal_is_raised(binding: Binding, query: bytes, body: bytes, media: str, text: str) -> None:
    path = {field.name: text for field in binding.in_path}
    found: tuple[Problem, ...] = ()
    try:
        request = to_request(binding, Received(path, query, body, media, text))
    except (Invalid, NotFound) as refusal:
        found = refusal.problems
    else:
        assert isinstance(request, binding.endpoint.request)
        assert msgspec.json.decode(msgspec.json.encode(request)) is not None
    assert all(problem.rule and problem.message for problem in found)
