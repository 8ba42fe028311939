"""The four layers put together: defaults < dagnats.yaml < `DAGNATS_*` < flags; all problems at once."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from dagnats_core.config.fields import FIELDS, Config, Field
from dagnats_core.config.file import read_file, usual_places
from dagnats_core.errors import Invalid, Problem
from dagnats_core.server.settings import LOOPBACK
from dagnats_core.telemetry.redact import redact_text


class ShownValue(NamedTuple):
    """A row of `dagnats config show`; secrets are hidden."""

    name: str
    value: str
    source: str


class _Given(NamedTuple):
    """A value as one layer gives it. Relative paths in it start at `base`."""

    text: str
    source: str
    base: Path


def load_config(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    cwd: Path,
    defaults: Mapping[str, str] | None = None,
) -> Config:
    """The settings in force.

    `flags` holds values by field name; None means that the flag was not given. A variable that is empty
    counts as not set. `defaults` are the program's own where they differ from the table's. Raises Invalid
    with every problem of every layer.
    """
    environ_given = _from_environ(environ, cwd)
    flags_given = _from_flags(flags, cwd)
    problems: list[Problem] = []
    file = _chosen_file(environ_given | flags_given, environ, cwd)
    file_given = {} if file is None else _from_file(file, problems)
    given_defaults = {"data_dir": str(default_data_dir(environ, sys.platform)), **(defaults or {})}
    values: dict[str, Any] = {"config": file}
    sources: dict[str, str] = {}
    for name, field in FIELDS.items():
        default = given_defaults.get(name, field.default)
        values.setdefault(name, None if default is None else _absolute(field.kind.parse(default), cwd, environ))
        sources[name] = "default"
        for layer in (file_given, environ_given, flags_given):
            if name in layer:
                value = _parsed(field, layer[name], problems)
                values[name] = _absolute(value, layer[name].base, environ)
                sources[name] = layer[name].source
    if problems:
        raise Invalid("the configuration is not valid", problems)
    if sources["nats_url"] == "default" and sources["nats_port"] != "default" and values["nats_port"]:
        values["nats_url"] = f"nats://{LOOPBACK}:{values['nats_port']}"
        sources["nats_url"] = sources["nats_port"]
    return Config(**values, sources=sources)


def show_config(config: Config) -> list[ShownValue]:
    """Each setting with its value as text and where it came from."""
    rows = []
    for name, field in FIELDS.items():
        value = getattr(config, name)
        text = "" if value is None else redact_text(field.kind.text(value))
        rows.append(ShownValue(name, text, config.sources[name]))
    return rows


def default_data_dir(environ: Mapping[str, str], platform: str) -> Path:
    """Where this platform keeps an application's data of one user."""
    home = Path(environ.get("HOME", "/"))
    if platform == "darwin":
        return home / "Library" / "Application Support" / "dagnats"
    xdg = environ.get("XDG_DATA_HOME", "")
    return (Path(xdg) if xdg.startswith("/") else home / ".local" / "share") / "dagnats"


def _from_environ(environ: Mapping[str, str], cwd: Path) -> dict[str, _Given]:
    return {
        name: _Given(environ[field.env], f"env {field.env}", cwd)
        for name, field in FIELDS.items()
        if environ.get(field.env)
    }


def _from_flags(flags: Mapping[str, object], cwd: Path) -> dict[str, _Given]:
    return {
        name: _Given(str(value), f"flag {FIELDS[name].flag}", cwd) for name, value in flags.items() if value is not None
    }


def _chosen_file(given: Mapping[str, _Given], environ: Mapping[str, str], cwd: Path) -> Path | None:
    """The file that a flag or a variable names, else the first of the usual ones that exists."""
    if "config" in given:
        return Path(_absolute(Path(given["config"].text), cwd, environ))
    return next((place for place in usual_places(environ, cwd) if _is_there(place)), None)


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except OSError:  # a directory that this user may not look into holds no configuration for it
        return False


def _from_file(file: Path, problems: list[Problem]) -> dict[str, _Given]:
    values, file_problems = read_file(file)
    problems.extend(file_problems)
    known = [name for name, field in FIELDS.items() if field.in_file]
    for key in [key for key in values if key not in known]:
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the keys are: {', '.join(known)}"
        problems.append(Problem(f"{file}:{values[key].line}", "unknown_key", f"{key}: there is no such key; {hint}"))
    return {
        key: _Given(value.text, f"{file}:{value.line}", file.parent) for key, value in values.items() if key in known
    }


def _parsed(field: Field, given: _Given, problems: list[Problem]) -> Any:
    try:
        return field.kind.parse(given.text)
    except (ValueError, KeyError):
        shown = redact_text(repr(given.text[:200]))
        problems.append(
            Problem(
                given.source,
                field.kind.name,
                f"{field.name}: {shown} is not allowed; it must be {field.kind.rule}",
            )
        )
        return None


def _absolute(value: Any, base: Path, environ: Mapping[str, str]) -> Any:
    """A path made absolute, `~` being HOME; anything else unchanged."""
    if not isinstance(value, Path):
        return value
    if value.parts[:1] == ("~",):
        return Path(environ.get("HOME", "/"), *value.parts[1:])
    return base / value
