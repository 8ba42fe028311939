"""How a function becomes a handler: what it takes, how its input is decoded, where it runs, how it is called.

A handler takes the context, or the context and the input: `async def f(ctx)`, `def f(ctx, part: Part) ->
Count`. The annotation of the input says what the JSON must be (msgspec structs, dataclasses, TypedDicts,
plain types); without one it is plain JSON (dict, list, str …). No IO.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import msgspec
import structlog

from dagnats.worker.context import Context
from dagnats.worker.outcomes import (
    Fail,
    Failed,
    Outcome,
    Retry,
    failed,
    outcome_of_exception,
    outcome_of_result,
)

Function = Callable[..., Any]

log = structlog.get_logger(__name__)


class Handler(NamedTuple):
    """A function that does a task: on the event loop or in a thread.

    `decode` makes its input; None = it takes none.
    """

    function: Function
    where: Literal["loop", "thread"]
    decode: Callable[[bytes | msgspec.Raw], Any] | None


def handler_of(function: Function, task: str) -> Handler:
    """Read a function's signature once. Raises TypeError, naming `task`, if it can be no handler."""
    parameters = _filled_parameters(function, task)
    decode = None
    if len(parameters) == 2:
        annotation = _annotations(function, task).get(parameters[1].name, Any)
        try:
            decode = msgspec.json.Decoder(annotation).decode
        except TypeError as error:
            raise TypeError(f"task {task!r}: its input cannot be read as {annotation!r}: {error}") from error
    target = _target(function)
    return Handler(function, "loop" if inspect.iscoroutinefunction(target) else "thread", decode)


def argument_of(handler: Handler, body: bytes | msgspec.Raw) -> Any:
    """The input that `body` is for this handler; a Failed outcome if it does not fit."""
    if handler.decode is None:
        return None
    try:
        return handler.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return failed("invalid_input", f"the input does not fit the handler: {error}", retryable=False)


async def call_on_loop(handler: Handler, context: Context, argument: Any) -> Outcome:
    """Call an async handler; how it ended. Passes on a cancellation that came from outside."""
    try:
        return outcome_of_result(await _call(handler, context, argument))
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return _outcome(error, context)
    except (GeneratorExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        return _outcome(error, context)


def call_in_thread(handler: Handler, context: Context, argument: Any) -> Outcome:
    """Call a handler that is not async; how it ended. Never raises."""
    try:
        return outcome_of_result(_call(handler, context, argument))
    except BaseException as error:
        return _outcome(error, context)


def _call(handler: Handler, context: Context, argument: Any) -> Any:
    if handler.decode is None:
        return handler.function(context)
    return handler.function(context, argument)


def _outcome(error: BaseException, context: Context) -> Failed:
    outcome = outcome_of_exception(error)
    if not context.cancelled:
        unexpected = not isinstance(error, Fail | Retry)
        context.log.warning(
            "worker.attempt_failed",
            code=outcome.error.code,
            error=outcome.error.message,
            exc_info=error if unexpected else None,
        )
    return outcome


def _filled_parameters(function: Function, task: str) -> list[inspect.Parameter]:
    """The parameters that the worker fills: one or two. Others must have defaults."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise TypeError(f"task {task!r}: {function!r} has no readable signature") from error
    positional, required_elsewhere = [], False
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            positional.append(parameter)
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            required_elsewhere = True
    filled = [parameter for parameter in positional if parameter.default is parameter.empty]
    if required_elsewhere or not 1 <= len(filled) <= 2:
        raise TypeError(f"task {task!r}: a handler takes (ctx) or (ctx, input), not {signature}")
    return filled


def _annotations(function: Function, task: str) -> dict[str, Any]:
    try:
        return typing.get_type_hints(_target(function), include_extras=True)
    except NameError as error:
        raise TypeError(f"task {task!r}: {error}; the types of a handler must be names of its module") from error


def _target(function: Function) -> Function:
    """The function behind a partial, a bound method or a callable object."""
    while isinstance(function, functools.partial):
        function = function.func
    return function if inspect.isroutine(function) else type(function).__call__
