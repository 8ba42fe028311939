"""Which dagnats.yaml is read, and what stands in which line. Types and rules of values are not known here.

A file is one flat mapping of keys to plain values; PyYAML's `compose` gives each with its line and runs
nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import yaml

from dagnats_core import limits
from dagnats_core.errors import Problem

FILE_NAME = "dagnats.yaml"
_NULL_TAG = "tag:yaml.org,2002:null"


class FileValue(NamedTuple):
    """A value as text, and the line (from 1) of its key."""

    text: str
    line: int


def usual_places(environ: Mapping[str, str], cwd: Path) -> list[Path]:
    """Where a configuration file is looked for; the first that exists is used, alone."""
    xdg = environ.get("XDG_CONFIG_HOME", "")
    config_home = Path(xdg) if xdg.startswith("/") else Path(environ.get("HOME", "/")) / ".config"
    return [cwd / FILE_NAME, config_home / "dagnats" / FILE_NAME, Path("/etc/dagnats") / FILE_NAME]


def read_file(file: Path) -> tuple[dict[str, FileValue], list[Problem]]:
    """The values of `file` by key, and everything that is wrong with its form. Keys are not checked."""
    try:
        with file.open("rb") as stream:
            content = stream.read(limits.CONFIG_BYTES_MAX + 1)
    except OSError as error:
        return {}, [Problem(str(file), "file", f"cannot be read: {error.strerror}")]
    if len(content) > limits.CONFIG_BYTES_MAX:
        return {}, [Problem(str(file), "size", f"larger than {limits.CONFIG_BYTES_MAX} bytes")]
    try:
        root = yaml.compose(content.decode(), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        return {}, [Problem(where, "yaml", " ".join(filter(None, (error.context, error.problem))))]
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        return {}, [Problem(str(file), "yaml", str(error))]
    except RecursionError:
        return {}, [Problem(str(file), "yaml", "nested too deeply")]
    if root is None or root.tag == _NULL_TAG:
        return {}, []
    if not isinstance(root, yaml.MappingNode):
        return {}, [Problem(f"{file}:{root.start_mark.line + 1}", "mapping", "the file must be lines of `key: value`")]
    return _read_mapping(file, root)


def _read_mapping(file: Path, root: yaml.MappingNode) -> tuple[dict[str, FileValue], list[Problem]]:
    values: dict[str, FileValue] = {}
    problems: list[Problem] = []
    for key_node, value_node in root.value:
        line = key_node.start_mark.line + 1
        where = f"{file}:{line}"
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(Problem(where, "key", "a key must be a plain word"))
        elif key_node.value in values:
            first = values[key_node.value].line
            problems.append(Problem(where, "duplicate_key", f"{key_node.value}: stands in line {first} already"))
        elif not isinstance(value_node, yaml.ScalarNode) or value_node.tag == _NULL_TAG:
            problems.append(Problem(where, "value", f"{key_node.value}: must have one plain value"))
        else:
            values[key_node.value] = FileValue(value_node.value, line)
    return values, problems
