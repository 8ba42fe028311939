"""The commands of the endpoint table: noun → sub-command group, verb → command, fields → parameters, reply → screen.

A new endpoint needs nothing here. What a person expects beyond one request and one reply (waiting for a run, ids by
prefix, the newest by `--last`) is added by type: by what a request asks for and by what a reply is.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

from cyclopts import App, Parameter

from dagnats_cli.arguments import Argument, arguments_of, build_request, read_values
from dagnats_cli.exits import UsageError
from dagnats_cli.options import Options
from dagnats_micro.endpoint import Endpoint
from dagnats_micro.schemas import dlq, run, wf
from dagnats_micro.table import ENDPOINTS

NOUNS: dict[str, str] = {
    "wf": "Workflows: register them, look at them, start runs",
    "run": "Runs: look at them, watch, cancel, retry",
    "dlq": "Dead letters: what failed for good, and run it again",
    "worker": "Workers: who works on what",
    "system": "The site: what it is and how it is",
}
"""What each noun's group says of itself."""

STARTS_A_RUN = (wf.StartReply, run.RetryReply, dlq.ReplayReply)
"""Replies that name a new run, for which a person may want to wait."""

LAST_HELP = "The newest one, instead of an id"
OUTPUT_HELP = "Wait for the end; print the run's output alone, as JSON"

Command = Callable[..., Awaitable[int]]


def noun_groups() -> dict[str, App]:
    """One group of commands for each noun of the table."""
    groups: dict[str, App] = {}
    for endpoint in ENDPOINTS:
        if endpoint.cli is not None:
            noun = endpoint.noun
            about = NOUNS.get(noun, noun)
            group = groups.setdefault(
                noun, App(name=noun, help=about, version_flags=[], sort_key=1, group_parameters="Options")
            )
            group.command(command_of(endpoint), name=endpoint.verb, help=endpoint.summary)
    return groups


def command_of(endpoint: Endpoint[Any, Any]) -> Command:
    """The command of one endpoint: a coroutine function with a signature that cyclopts reads."""
    arguments = arguments_of(endpoint)
    parameters = [argument.parameter for argument in arguments]
    if any(argument.resolves and argument.positional for argument in arguments):
        parameters.append(flag("last", LAST_HELP))
    if endpoint.reply in STARTS_A_RUN:
        parameters.append(flag("watch", "Show the steps as they happen; the exit code is the run's"))
        parameters.append(flag("output", OUTPUT_HELP))
    injected = Annotated[Options, Parameter(parse=False)]
    parameters.append(inspect.Parameter("options", inspect.Parameter.KEYWORD_ONLY, annotation=injected))
    signature = inspect.Signature(parameters)

    async def command(*args: Any, **kwargs: Any) -> int:
        return await perform(endpoint, arguments, signature.bind(*args, **kwargs).arguments)

    command.__signature__ = signature  # type: ignore[attr-defined]
    return command


def flag(name: str, help: str) -> inspect.Parameter:
    """An option that is there or not."""
    about = Parameter(name=f"--{name}", help=help, negative=(), show_default=False)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, about])


async def perform(endpoint: Endpoint[Any, Any], arguments: tuple[Argument, ...], typed: Mapping[str, Any]) -> int:
    """Ask the endpoint what was typed, and show the reply, or the run that it started; the exit code."""
    from dagnats_cli import screens
    from dagnats_cli.connect import open_session
    from dagnats_cli.runids import chosen_id
    from dagnats_cli.watch import follow, show_output

    options: Options = typed["options"]
    watch, output = typed.get("watch", False), typed.get("output", False)
    given = read_values(arguments, typed)
    for argument in arguments:
        if argument.resolves and argument.positional:
            check_subject(given.get(argument.field), last=typed.get("last", False))
    async with open_session(options) as session:
        for argument in arguments:
            if argument.resolves and (argument.positional or argument.field in given):
                given[argument.field] = await chosen_id(session, endpoint.noun, given.get(argument.field))
        request = build_request(endpoint, given)
        reply = await session.call(endpoint, request)
        if watch or output:
            return await follow(session, reply.run_id, options, watch=watch, output=output, started=reply)
        if options.json:
            screens.show_json(reply)
        elif isinstance(reply, run.Output):
            return await show_output(session, request, reply)
        else:
            screens.show(endpoint, reply)
        return screens.exit_code_of_reply(reply)


def check_subject(run_id: str | None, *, last: bool) -> None:
    """A run is named either by its id or as the last one. Raises UsageError."""
    if (run_id is not None) is last:
        raise UsageError("RUN_ID or --last: not both" if last else "RUN_ID or --last is needed")
