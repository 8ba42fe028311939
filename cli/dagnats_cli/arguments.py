"""From the fields of a request struct to the parameters of a command, and from what was typed back to the request.

Every field becomes a positional or an option by its type alone, so a new endpoint needs nothing here. Pure but for the
files that a value names.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
from cyclopts import Parameter

from dagnats_cli import values
from dagnats_core.errors import Invalid, Problem
from dagnats_micro.endpoint import Endpoint
from dagnats_micro.schemas import common

HIDDEN = frozenset({"by", "input_ref"})
"""Fields that no person fills in: a worker's own mark, and what the client sets for a large input."""
_METAVARS = {str: "TEXT", int: "N", float: "N"}
RUN_ID_HELP = "Run id, or a prefix of it that no other run has"

Req = TypeVar("Req", bound=common.Request)


class Argument(NamedTuple):
    """One parameter of a command: the field it fills, its name for people, and how its text becomes the value.

    `resolves` marks a run id: a unique prefix will do.
    """

    field: str
    label: str
    parameter: inspect.Parameter
    read: Callable[[Any, str], Any] | None = None
    resolves: bool = False

    @property
    def positional(self) -> bool:
        return self.parameter.kind is inspect.Parameter.POSITIONAL_ONLY


class _Hint(NamedTuple):
    """A field's annotation taken apart: without `None`, without its bounds, and with its description."""

    whole: Any
    base: Any
    description: str


def arguments_of(endpoint: Endpoint[Any, Any]) -> tuple[Argument, ...]:
    """The parameters of an endpoint's command: positionals in the row's order, then options in the struct's."""
    assert endpoint.cli is not None
    fields = {field.name: field for field in msgspec.structs.fields(endpoint.request) if field.name not in HIDDEN}
    positionals = [_positional(fields.pop(name)) for name in endpoint.cli.positional]
    return (*positionals, *(_option(field) for field in fields.values()))


def build_request(endpoint: Endpoint[Req, Any], given: Mapping[str, Any]) -> Req:
    """The request of these field values. Raises Invalid that names the option and the bound it breaks."""
    try:
        return msgspec.convert(given, endpoint.request)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$.")
        field = path.partition("[")[0].rstrip("`")
        labels = {argument.field: argument.label for argument in arguments_of(endpoint)}
        problem = Problem(labels.get(field, field), "schema", text.replace("`", ""))
        raise Invalid("a value is out of bounds", [problem]) from error


def read_values(arguments: tuple[Argument, ...], typed: Mapping[str, Any]) -> dict[str, Any]:
    """The field values of what was typed; what was left out stays out, so that the struct's default counts."""
    given = {}
    for argument in arguments:
        value = typed.get(argument.field)
        if value is not None:
            given[argument.field] = argument.read(value, argument.label) if argument.read else value
    return given


def _positional(field: msgspec.structs.FieldInfo) -> Argument:
    hint = _hint(field.type)
    label = field.name.upper()
    if hint.base is Any:
        help = "File with it, YAML or JSON; `-` reads stdin"
        return Argument(field.name, "FILE", _parameter(field, str, label, help, metavar="FILE"), values.read_text)
    if hint.whole == common.RunId:
        parameter = _parameter(field, str | None, label, RUN_ID_HELP, None)
        return Argument(field.name, label, parameter, resolves=True)
    return Argument(field.name, label, _parameter(field, hint.base, label, hint.description))


def _option(field: msgspec.structs.FieldInfo) -> Argument:
    hint = _hint(field.type)
    label = f"--{field.name.replace('_', '-')}"
    default = inspect.Parameter.empty if field.required else None
    if field.type == common.Tags:
        help = "A tag, plain or `name=value`; may be given many times"
        return Argument(field.name, "--tag", _parameter(field, list[str], "--tag", help, (), "TAG"), _read_tags)
    if hint.base == list[Any]:
        help = "File with one JSON value a line, or one JSON array; `-` reads stdin"
        return Argument(field.name, label, _parameter(field, str, label, help, default, "FILE"), values.read_json_list)
    if get_origin(hint.base) is Literal or hint.base in (str, int, float):
        resolves = hint.whole == common.RunId
        help = RUN_ID_HELP if resolves else _described(field, hint)
        parameter = _parameter(field, hint.base | None, label, help, default, _METAVARS.get(hint.base))
        return Argument(field.name, label, parameter, resolves=resolves)
    if hint.base is bool:
        return Argument(field.name, label, _parameter(field, bool, label, hint.description, field.default))
    help = "JSON text, `@FILE`, or `-` for stdin"
    return Argument(field.name, label, _parameter(field, str | None, label, help, default, "JSON"), values.read_json)


def _read_tags(texts: list[str], _: str) -> Any:
    return values.parse_tags(texts) if texts else None


def _parameter(
    field: msgspec.structs.FieldInfo,
    annotation: Any,
    label: str,
    help: str,
    default: Any = inspect.Parameter.empty,
    metavar: str | None = None,
) -> inspect.Parameter:
    """What cyclopts reads: a positional if `label` is no option's name."""
    is_option = label.startswith("--")
    about = Parameter(
        name=label,
        help=help,
        metavar=metavar,
        negative=None if default is True else (),
        show_default=False,
        allow_leading_hyphen=is_option and annotation in (str, str | None),
    )
    kind = inspect.Parameter.KEYWORD_ONLY if is_option else inspect.Parameter.POSITIONAL_ONLY
    return inspect.Parameter(field.name, kind, default=default, annotation=Annotated[annotation, about])


def _hint(annotation: Any) -> _Hint:
    """Take `Annotated[str, Meta(…)] | None` apart."""
    whole = annotation
    if get_origin(annotation) in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        whole = members[0] if len(members) == 1 else annotation
    if get_origin(whole) is not Annotated:
        return _Hint(whole, whole, "")
    base, *metas = get_args(whole)
    described = [meta.description for meta in metas if getattr(meta, "description", None)]
    description = described[-1] if described else ""
    return _Hint(whole, base, description[:1].upper() + description[1:])


def _described(field: msgspec.structs.FieldInfo, hint: _Hint) -> str:
    default = field.default
    shown = f"[default: {default}]" if isinstance(default, int | float) else ""
    return f"{hint.description} {shown}".strip()
