"""The program `dagnats`: builds the command line, runs one command, turns its end into an exit code. Nothing else.

What a command needs is imported when it runs: `dagnats --help` and one request must not wait for a server's modules.
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from io import TextIOWrapper
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter

from dagnats_cli.commands import noun_groups
from dagnats_cli.exits import EPILOGUE, EXIT_INTERRUPTED, UsageError, report
from dagnats_cli.help import HelpPage
from dagnats_cli.options import Options
from dagnats_core import __version__
from dagnats_core.errors import EXIT_OK, DagNatsError

SUMMARY = "Durable DAG workflows on NATS JetStream"
GLOBAL_OPTIONS = "And the options for all commands (--site --nats-url --json …): dagnats --help"


def main() -> None:
    sys.exit(run(sys.argv[1:]))


def run(tokens: Sequence[str]) -> int:
    """Run one command line; its exit code."""
    as_json = "--json" in tokens
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character must not end the command
    try:
        app = build_app(tokens).meta
        code: int = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
        return code or EXIT_OK
    except CycloptsError as error:
        return report(UsageError(str(error)), as_json=as_json)
    except DagNatsError as error:
        return report(error, as_json=as_json)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK


def build_app(tokens: Sequence[str]) -> App:
    """The whole command line. The options for all commands are listed where no command is named, not on every page."""
    named = any(not token.startswith("-") for token in tokens)
    app = App(
        name="dagnats",
        help=SUMMARY,
        version=__version__,
        help_epilogue=GLOBAL_OPTIONS if named else EPILOGUE,
        help_format="plaintext",
        help_formatter=HelpPage(),
        group_parameters="Options",
    )
    for group in (groups := noun_groups()).values():
        app.command(group)
    groups["run"].command("dagnats_cli.watch:watch_command", name="watch", help="Show a run's steps as they happen")
    config = App(
        name="config", help="Settings of `serve`: what holds, and where it comes from", version_flags=[], sort_key=2
    )
    config.command("dagnats_cli.settings:show", name="show", help="Print each setting and where it comes from")
    app.command(
        "dagnats_cli.serve:serve",
        name="serve",
        help="Start everything on this machine",
        sort_key=0,
        help_epilogue=EPILOGUE,
    )
    app.command("dagnats_cli.status:status", name="status", help="Show the site on one screen", sort_key=0)
    app.command(config)
    app.command(
        "dagnats_cli.completion:completion", name="completion", help="Print a shell's completion script", sort_key=2
    )
    app.meta.default(_launcher(app, Group("Options for all commands", show=not named)))
    return app


def _launcher(app: App, group: Group) -> Callable[..., int]:
    """What cyclopts calls first: it takes the options of all commands out of the line, wherever they stand."""
    rest_about = Annotated[str, Parameter(show=False, allow_leading_hyphen=True)]
    options_about = Annotated[Options | None, Parameter(name="*", group=group)]

    def launch(*rest: str, options: Options | None = None) -> int:
        command, bound, injected = app.parse_args(rest, exit_on_error=False, print_error=False)
        if "options" in injected:
            bound.arguments["options"] = options or Options()
        elif options is not None:
            raise UsageError(f"`dagnats {rest[0]}` talks to no site: it takes none of the options for all commands")
        result = command(*bound.args, **bound.kwargs)
        code = _run(result) if inspect.iscoroutine(result) else result
        return code if isinstance(code, int) else EXIT_OK

    launch.__annotations__ = {"rest": rest_about, "options": options_about}
    return launch


def _run(command: Coroutine[Any, Any, int]) -> int:
    import asyncio

    return asyncio.run(command)


if __name__ == "__main__":
    main()
