"""The settings of `serve`, `dagnats-engine` and `dagnats-api` as flags, and `config show`. The table stands in core."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
from cyclopts import Parameter

from dagnats_cli import render
from dagnats_cli.exits import EPILOGUE, UsageError, report
from dagnats_cli.help import HelpPage
from dagnats_cli.options import Options
from dagnats_core import __version__
from dagnats_core.config import FIELDS, Config, Field, load_config, show_config
from dagnats_core.errors import EXIT_OK, DagNatsError

_COMMON = ("config", "log_format", "log_level")
SERVE = ("data_dir", "site", "nats_port", "http_addr", "no_http", "durability", "archive_retention", *_COMMON)
ENGINE = API = ("nats_url", "site", "creds", "http_addr", "no_http", "durability", "archive_retention", *_COMMON)
ENGINE_DEFAULTS = {"http_addr": "127.0.0.1:8082", "durability": "os"}
API_DEFAULTS = {"durability": "os"}
"""Nobody can ask a nats-server how often it syncs: where it is not ours, the least is assumed unless it is told."""


def with_flags(names: tuple[str, ...], defaults: Mapping[str, str] | None = None) -> Callable[[Any], Any]:
    """Give a function that takes `**flags` the flags of these settings. `defaults`: where the program has its own."""
    parameters = [_parameter(FIELDS[name], (defaults or {}).get(name, FIELDS[name].default)) for name in names]

    def decorate(function: Any) -> Any:
        function.__signature__ = inspect.Signature(parameters)
        return function

    return decorate


def load(flags: Mapping[str, Any], defaults: Mapping[str, str] | None = None) -> Config:
    """The settings in force. Raises Invalid with all that is wrong, each with its file, line and rule."""
    return load_config(flags, os.environ, Path.cwd(), defaults)


def _parameter(field: Field, default: str | None) -> inspect.Parameter:
    switch = field.kind.name == "switch"
    shown = f" [default: {default}]" if default is not None and not switch else ""
    about = Parameter(
        name=field.flag,
        help=f"{field.help} [env: {field.env}]{shown}",
        metavar=None if switch else _metavar(field),
        negative=(),
        show_default=False,
    )
    value: Any = bool if switch else str
    annotation = Annotated[value | None, about]
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _metavar(field: Field) -> str:
    choices = field.kind.parse
    if isinstance(choices, type) and issubclass(choices, StrEnum):
        return "|".join(choice.value for choice in choices)
    return field.kind.name.upper()


def run_alone(name: str, summary: str, program: Callable[..., int]) -> NoReturn:
    """Be a console script that has no sub-commands; ends the process with its exit code."""
    from cyclopts import App, CycloptsError

    app = App(
        name=name, help=summary, version=__version__, help_format="plaintext", help_formatter=HelpPage(),
        help_epilogue=EPILOGUE, group_parameters="Options", default_command=program,
    )  # fmt: skip
    try:
        code = app(sys.argv[1:], exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        code = report(UsageError(str(error)), as_json=False)
    except DagNatsError as error:
        code = report(error, as_json=False)
    sys.exit(code or EXIT_OK)


class Setting(msgspec.Struct):
    """A line of `config show`."""

    name: str
    value: str
    source: str


def show(
    *,
    config: Annotated[
        str | None, Parameter(help="The file to read instead of those in the usual places", metavar="FILE")
    ] = None,
    options: Annotated[Options, Parameter(parse=False)],
) -> int:
    """Print each setting with its value and where it comes from."""
    items = [Setting(*row) for row in show_config(load({"config": config}))]
    if options.json:
        print(render.json_line({"items": items, "next_cursor": None}))
    else:
        render.table(items, ("name", "value", "source"), render.console())
    return EXIT_OK
