"""How a command ends: its exit code, and what an error looks like. One line per problem, on stderr; nothing else.

The codes are those of `dagnats_core.errors` (docs/cli.md lists them); this file adds only what a terminal needs.
"""

from __future__ import annotations

import sys

import msgspec

from dagnats_core.errors import ERROR_CLASSES, EXIT_USAGE, DagNatsError

EXIT_UNREACHABLE = ERROR_CLASSES["unavailable"].exit_code
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""

EPILOGUE = """\
Exit codes: 0 ok, 1 unexpected, 2 usage, 3 not found, 4 invalid, 5 conflict,
6 unreachable or busy, 7 run failed or cancelled, 8 timeout, 9 credentials,
70 forced stop of `serve`, 130 interrupted"""


class UsageError(DagNatsError):
    """The command line does not say what to do."""

    code = "usage"


def exit_code_of(error: DagNatsError) -> int:
    """The exit code that an error's class means."""
    return EXIT_USAGE if isinstance(error, UsageError) else error.error_class.exit_code


def lines_of(error: DagNatsError) -> list[str]:
    """`error: message`, then a line for each problem."""
    problems = [f"  {problem.path}: {problem.message}" for problem in error.problems]
    return [f"error: {error.message}", *problems]


def report(error: DagNatsError, *, as_json: bool) -> int:
    """Print an error on stderr, as an ErrorReply if `as_json`; returns the exit code."""
    if as_json:
        body = {"code": error.code, "message": error.message, "problems": error.problems}
        print(msgspec.json.encode(body).decode(), file=sys.stderr)
    else:
        print("\n".join(lines_of(error)), file=sys.stderr)
    return exit_code_of(error)
