"""From an HTTP request to the request struct of its endpoint. Pure: no IO, no rule that the struct does not
have.

Every value becomes JSON text first (a query parameter that is a number or boolean is JSON already, any other
is a JSON string) and is then decoded by the type of its field: so path, query and body obey one set of rules,
and all problems are found at once. A field that takes any JSON is not decoded: its text goes on as it came,
so numbers keep their digits and a large input costs no objects.
"""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import msgspec
from msgspec import inspect

from dagnats_gateway.media import EVENT_STREAM, JSON, YAML
from dagnats_micro import Invalid, Problem, limits
from dagnats_micro.endpoint import Endpoint
from dagnats_micro.errors import TEXT_CHARS_MAX, missing_or, refusal_of
from dagnats_micro.schemas.common import Request
from dagnats_micro.schemas.run import EventList

BODY = "body"
"""The path of a problem with the body as a whole."""
QUERY_FIELDS_MAX = 100
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY = msgspec.json.Decoder(msgspec.Raw)


class Field(NamedTuple):
    """One field of a request. `decoder` is None if it takes any JSON; `literal`: its text is JSON already."""

    name: str
    type: Any
    required: bool
    decoder: msgspec.json.Decoder[Any] | None
    literal: bool


class Received(NamedTuple):
    """What came over HTTP, in the pieces that hold values. `media`: the type of a body that is not empty."""

    path: Mapping[str, str]
    query: bytes = b""
    body: bytes = b""
    media: str = JSON
    idempotency_key: str | None = None


class Binding(NamedTuple):
    """Where the fields of a request come from: path, query, a JSON object, or the body as a whole."""

    endpoint: Endpoint[Any, Any]
    in_path: tuple[Field, ...]
    in_query: tuple[Field, ...]
    in_body: tuple[Field, ...]
    whole_body: Field | None

    @property
    def takes_body(self) -> bool:
        return self.endpoint.http.method in ("POST", "PUT")

    @property
    def body_types(self) -> tuple[str, ...]:
        """Media types that the body may have."""
        return (JSON, YAML) if self.whole_body else (JSON,)

    @property
    def answer_types(self) -> tuple[str, ...]:
        """Media types that the answer may have, the usual one first."""
        return (JSON, EVENT_STREAM) if self.streams else (JSON,)

    @property
    def body_bytes_max(self) -> int:
        """A value that may go to the payload store may be large; everything else must fit one message."""
        large = any(field.name == "input_ref" for field in self.in_body)
        return limits.HTTP_BODY_BYTES_MAX if large else limits.MESSAGE_BYTES_MAX

    @property
    def streams(self) -> bool:
        """Events can also be answered as a stream."""
        return self.endpoint.reply is EventList

    @property
    def may_exist_already(self) -> bool:
        """It makes something, and its reply says whether that was there before (then the status is 200)."""
        return self.endpoint.http.status == 201 and "created" in self.endpoint.reply.__struct_fields__

    @property
    def all_fields(self) -> tuple[Field, ...]:
        return (
            *self.in_path,
            *self.in_query,
            *self.in_body,
            *((self.whole_body,) if self.whole_body else ()),
        )


def bind(endpoint: Endpoint[Any, Any]) -> Binding:
    """The binding that an endpoint's row states."""
    http = endpoint.http
    names_in_path = re.findall(r"\{(\w+)\}", http.path)
    by_name = {field.name: field for field in msgspec.structs.fields(endpoint.request)}
    whole = _field(by_name[http.body]) if http.body else None
    rest = [info for name, info in by_name.items() if name not in names_in_path and name != http.body]
    rest_in_body = http.method in ("POST", "PUT") and whole is None
    return Binding(
        endpoint,
        in_path=tuple(_field(by_name[name], as_text=True) for name in names_in_path),
        in_query=() if rest_in_body else tuple(_field(info, as_text=True) for info in rest),
        in_body=tuple(_field(info) for info in rest) if rest_in_body else (),
        whole_body=whole,
    )


def _field(info: msgspec.structs.FieldInfo, *, as_text: bool = False) -> Field:
    """`as_text`: the value comes from path or query, where there is no null."""
    kind = info.type
    if as_text and type(None) in typing.get_args(kind):
        kind = typing.Union[tuple(arm for arm in typing.get_args(kind) if arm is not type(None))]  # noqa: UP007
    described = inspect.type_info(kind)
    while isinstance(described, inspect.Metadata):
        described = described.type
    literal = isinstance(described, (inspect.IntType, inspect.FloatType, inspect.BoolType))
    decoder = None if isinstance(described, inspect.AnyType) else msgspec.json.Decoder(kind)
    return Field(info.name, kind, info.required, decoder, literal)


def to_request(binding: Binding, received: Received) -> Request:
    """The request struct. Raises Invalid with every problem found, each with its path and rule; NotFound if all that
    is wrong is an id or a name in the path that nothing can have.
    """
    reading = _Reading()
    for field in binding.in_path:
        reading.take_text(field, field.name, received.path[field.name])
    reading.take_query(binding.in_query, received.query)
    if binding.whole_body is not None:
        reading.take_whole(binding.whole_body, received)
    elif binding.takes_body:
        reading.take_object(binding, received.body)
    reading.take_idempotency_key(binding, received.idempotency_key)
    reading.require(binding.all_fields)
    if reading.problems:
        refusal = Invalid("The request is not valid", reading.problems[: limits.PROBLEMS_MAX])
        raise missing_or(refusal, binding.endpoint.naming)
    request: Request = binding.endpoint.request(**reading.values)
    return request


def path_fits(binding: Binding, path: Mapping[str, str]) -> bool:
    """Whether these parameters of a path can be values of their fields."""
    reading = _Reading()
    for field in binding.in_path:
        reading.take_text(field, field.name, path[field.name])
    return not reading.problems


class _Reading:
    """The values read so far, and the problems met."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.problems: list[Problem] = []
        self.seen: set[str] = set()

    def refuse(self, path: str, rule: str, message: str) -> None:
        self.problems.append(Problem(path[:TEXT_CHARS_MAX], rule, message))

    def take_text(self, field: Field, path: str, text: str) -> None:
        self.take_raw(field, path, msgspec.Raw(text.encode() if field.literal else msgspec.json.encode(text)))

    def take_raw(self, field: Field, path: str, raw: msgspec.Raw) -> None:
        self.seen.add(field.name)
        if field.decoder is None:
            self.values[field.name] = raw
            return
        try:
            self.values[field.name] = field.decoder.decode(raw)
        except (msgspec.DecodeError, RecursionError) as error:
            self.problems.append(_problem(path, error))

    def take_query(self, fields: tuple[Field, ...], query: bytes) -> None:
        by_name = {field.name: field for field in fields}
        seen: set[str] = set()
        for name, text in _pairs(query):
            if name not in by_name:
                self.refuse(
                    name,
                    "unknown_field",
                    f"there is no such query parameter; known: {', '.join(by_name) or 'none'}",
                )
            elif name in seen:
                self.refuse(name, "duplicate", "given more than once")
            else:
                self.take_text(by_name[name], name, text)
            seen.add(name)

    def take_whole(self, field: Field, received: Received) -> None:
        if not received.body:
            return
        text = _utf8(received.body)
        raw = _decode(_ANY, received.body) if received.media == JSON else msgspec.Raw(msgspec.json.encode(text))
        self.take_raw(field, field.name, raw)

    def take_object(self, binding: Binding, body: bytes) -> None:
        if not body:
            return
        if not body.isascii():
            _utf8(body)
        by_name = {field.name: field for field in binding.in_body}
        in_path = {field.name for field in binding.in_path}
        for name, raw in _decode(_OBJECT, body).items():
            if name in by_name:
                self.take_raw(by_name[name], name, raw)
            elif name in in_path:
                self.refuse(name, "unknown_field", "this stands in the path, and nowhere else")
            else:
                self.refuse(name, "unknown_field", f"there is no such field; known: {', '.join(by_name) or 'none'}")

    def take_idempotency_key(self, binding: Binding, key: str | None) -> None:
        field = next((field for field in binding.all_fields if field.name == "request_id"), None)
        if key is None or field is None:
            return
        own = self.values.get("request_id")
        self.take_text(field, "Idempotency-Key", key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key)
        if own is not None:
            self.values["request_id"] = own

    def require(self, fields: tuple[Field, ...]) -> None:
        for field in fields:
            if field.required and field.name not in self.seen:
                self.refuse(field.name, "required", "missing")


def _pairs(query: bytes) -> Iterator[tuple[str, str]]:
    try:
        yield from parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX
        )
    except UnicodeDecodeError as error:
        raise Invalid("The query is not UTF-8", [_problem("query", error)]) from None
    except ValueError:
        message = f"more than {QUERY_FIELDS_MAX} parameters"
        raise Invalid("The query has too many parameters", [Problem("query", "length", message)]) from None


def _utf8(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise Invalid("The body is not UTF-8", [_problem(BODY, error)]) from None


def _decode(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid("The body cannot be read", [_problem(BODY, error)]) from None


def _problem(path: str, error: Exception) -> Problem:
    """What a decoder said of the value at `path`."""
    found = refusal_of(error).problems[0]
    joint = "" if not found.path or found.path.startswith("[") else "."
    return Problem(f"{path}{joint}{found.path}"[:TEXT_CHARS_MAX], found.rule, found.message[:TEXT_CHARS_MAX])
