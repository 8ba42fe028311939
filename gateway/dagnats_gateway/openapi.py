"""The OpenAPI 3.1 document, made from the endpoint table. Pure and deterministic: no rule stands here that a
row, a struct or the table of errors does not state. `python -m dagnats_gateway.openapi >
openapi/openapi.json` writes it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from dagnats_gateway.health import Probe
from dagnats_gateway.media import EVENT_STREAM, JSON
from dagnats_gateway.problems import PROBLEM_JSON, ProblemDetails
from dagnats_gateway.translate import Binding, Field, bind
from dagnats_micro import ERROR_CLASSES, __version__
from dagnats_micro.endpoint import Endpoint
from dagnats_micro.schemas.common import NO_LAST_NEWLINE
from dagnats_micro.table import ENDPOINTS

JsonObject = dict[str, Any]
REF = "#/components/schemas/{name}"
ERRORS_OF_ALL = ("invalid", "forbidden", "not_acceptable", "busy", "internal", "unavailable", "timeout")
ERRORS_OF_BODIES = ("too_large", "unsupported_media_type")
DESCRIPTION = """\
Durable workflows on NATS JetStream. Every operation here is an endpoint of the micro service `dagnats` and a
command of the command line, with the same fields.

Lists are pages: `items`, and `next_cursor` for the next page (null on the last one). Errors are
[problem details](https://www.rfc-editor.org/rfc/rfc9457) with a stable `code`, and `problems` that name every
field that is wrong. An operation that takes a `request_id` may be sent again with the same one (or the same
`Idempotency-Key` header): it is done once.
"""
EXAMPLES: dict[str, Any] = {
    "wf-register": {"name": "greet", "steps": [{"id": "hello", "task": "text.hello"}]},
    "wf-validate": {"name": "greet", "steps": [{"id": "hello", "task": "text.hello"}]},
    "wf-start": {"workflow": "greet", "input": {"name": "Ada"}},
    "run-start-many": {"workflow": "greet", "inputs": [{"name": "Ada"}, {"name": "Grace"}]},
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The request id, if the request has none of its own",
    "schema": {"type": "string", "minLength": 1, "maxLength": 256},
}
_LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "Go on after this event; browsers send it when they reconnect",
    "schema": {"type": "integer", "minimum": 0},
}


def document(endpoints: Sequence[Endpoint[Any, Any]] = ENDPOINTS) -> JsonObject:
    """The document of these endpoints."""
    bindings = [bind(endpoint) for endpoint in endpoints]
    structs = [kind for row in endpoints for kind in (row.request, row.reply)] + [ProblemDetails, Probe]
    schemas = _tidy(msgspec.json.schema_components(structs, ref_template=REF)[1])
    paths: dict[str, JsonObject] = {}
    for binding in bindings:
        http = binding.endpoint.http
        paths.setdefault(http.path, {})[http.method.lower()] = _operation(binding, schemas)
    paths["/health"] = {"get": _probe("health", "Say whether NATS is connected and JetStream answers")}
    paths["/ready"] = {"get": _probe("ready", "Say whether all components have started and none is stopping")}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "DagNats",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(_tag(row) for row in endpoints)] + [{"name": "probes"}],
        "paths": paths,
        "components": {
            "schemas": _used(paths, schemas),
            "responses": {code: _error_response(code) for code in sorted(_codes(paths))},
        },
    }


def encode(openapi: JsonObject) -> bytes:
    """The document as it is committed and served."""
    return msgspec.json.format(msgspec.json.encode(openapi), indent=2) + b"\n"


def _tag(endpoint: Endpoint[Any, Any]) -> str:
    return endpoint.http.path.split("/")[1]


def _operation(binding: Binding, schemas: JsonObject) -> JsonObject:
    endpoint = binding.endpoint
    operation: JsonObject = {
        "operationId": endpoint.name.replace("-", "_"),
        "summary": endpoint.summary,
        "tags": [_tag(endpoint)],
    }
    own = schemas[endpoint.request.__name__]
    if "description" in own:
        operation["description"] = own["description"]
    operation["x-dagnats"] = {
        "endpoint": endpoint.name,
        "cli": f"dagnats {endpoint.noun} {endpoint.verb}" if endpoint.cli else None,
        "role": endpoint.role,
        "mutating": endpoint.mutating,
    }
    parameters = [_parameter(field, "path", own) for field in binding.in_path]
    parameters += [_parameter(field, "query", own) for field in binding.in_query]
    parameters += [_IDEMPOTENCY_KEY] if any(field.name == "request_id" for field in binding.all_fields) else []
    parameters += [_LAST_EVENT_ID] if binding.streams else []
    if parameters:
        operation["parameters"] = parameters
    if binding.takes_body:
        operation["requestBody"] = _body(binding, own)
    operation["responses"] = _responses(binding)
    return operation


def _parameter(field: Field, place: str, own: JsonObject) -> JsonObject:
    schema = {key: value for key, value in own["properties"][field.name].items() if key != "default"}
    if "anyOf" in schema:  # there is no null in a path or query
        (schema,) = (arm for arm in schema["anyOf"] if arm != {"type": "null"})
    description = schema.get("description")
    default = own["properties"][field.name].get("default")
    return {
        "name": field.name,
        "in": place,
        "required": place == "path" or field.required,
        **({"description": description} if description else {}),
        "schema": {
            **{key: value for key, value in schema.items() if key != "description"},
            **({"default": default} if default is not None else {}),
        },
    }


def _body(binding: Binding, own: JsonObject) -> JsonObject:
    endpoint = binding.endpoint
    example = {"example": EXAMPLES[endpoint.name]} if endpoint.name in EXAMPLES else {}
    if binding.whole_body is not None:
        whole = {"schema": own["properties"][binding.whole_body.name], **example}
        return {"required": binding.whole_body.required, "content": dict.fromkeys(binding.body_types, whole)}
    names = [field.name for field in binding.in_body]
    required = [field.name for field in binding.in_body if field.required]
    schema = {
        "type": "object",
        "properties": {name: own["properties"][name] for name in names},
        "required": required,
        "additionalProperties": False,
    }
    return {"required": bool(required), "content": {JSON: {"schema": schema, **example}}}


def _responses(binding: Binding) -> JsonObject:
    endpoint = binding.endpoint
    success: JsonObject = {JSON: {"schema": {"$ref": REF.format(name=endpoint.reply.__name__)}}}
    if binding.streams:
        success[EVENT_STREAM] = {"schema": {"type": "string"}}
    responses = {str(endpoint.http.status): {"description": endpoint.summary, "content": success}}
    if binding.may_exist_already:
        responses["200"] = {
            "description": "It had been done already; nothing was changed",
            "content": success,
        }
    codes = {*ERRORS_OF_ALL, *endpoint.errors, *(ERRORS_OF_BODIES if binding.takes_body else ())}
    for code in codes:
        responses[str(ERROR_CLASSES[code].http_status)] = {"$ref": f"#/components/responses/{code}"}
    return dict(sorted(responses.items()))


def _error_response(code: str) -> JsonObject:
    schema = {"$ref": REF.format(name=ProblemDetails.__name__)}
    return {"description": ERROR_CLASSES[code].title, "content": {PROBLEM_JSON: {"schema": schema}}}


def _probe(name: str, summary: str) -> JsonObject:
    content = {JSON: {"schema": {"$ref": REF.format(name=Probe.__name__)}}}
    return {
        "operationId": name,
        "summary": summary,
        "tags": ["probes"],
        "responses": {
            "200": {"description": "Yes", "content": content},
            "503": {"description": "No, and why", "content": content},
        },
    }


def _used(paths: JsonObject, schemas: JsonObject) -> JsonObject:
    """The schemas that the paths refer to, directly or through others, by name."""
    found: set[str] = {ProblemDetails.__name__}
    open_names = {*found, *_references(paths)}
    while open_names:
        found |= open_names
        open_names = {name for known in open_names for name in _references(schemas[known])} - found
    return {name: schemas[name] for name in sorted(found)}


def _references(value: Any) -> Iterable[str]:
    if isinstance(value, dict):
        target = value.get("$ref", "")
        if isinstance(target, str) and target.startswith("#/components/schemas/"):
            yield target.rpartition("/")[2]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _references(item)


def _codes(paths: JsonObject) -> set[str]:
    text = msgspec.json.encode(paths).decode()
    return {code for code in ERROR_CLASSES if f'"#/components/responses/{code}"' in text}


def _tidy(value: Any) -> Any:
    """Descriptions without the indentation of our source, and patterns as JSON Schema reads them."""
    if isinstance(value, dict):
        return {key: _tidy(item) for key, item in value.items() if not (key == "title" and isinstance(item, str))}
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if isinstance(value, str):
        return inspect.cleandoc(value).replace(NO_LAST_NEWLINE, "")
    return value


if __name__ == "__main__":
    sys.stdout.buffer.write(encode(document()))
