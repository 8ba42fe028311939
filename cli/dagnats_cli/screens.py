"""What people see of a reply, and the exit code that it means. Most replies need no screen of their own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from dagnats_cli import render
from dagnats_cli.exits import EXIT_UNREACHABLE, exit_code_of, report
from dagnats_core.errors import EXIT_OK, DagNatsError, Invalid
from dagnats_micro.endpoint import Endpoint
from dagnats_micro.schemas import common, dlq, run, system, wf

if TYPE_CHECKING:
    from rich.console import Console

_STEP_TITLES = ("step", "task", "status", "attempt", "took", "worker")
_STEP_RIGID = (False, False, True, True, True, False)


def exit_code_of_reply(reply: common.Reply) -> int:
    """The exit code of a reply that is no error: not 0 where it says that something is wrong."""
    match reply:
        case wf.ValidateReply(valid=False):
            return exit_code_of(Invalid(""))
        case run.StartManyReply():
            refused = next((item.error for item in reply.items if item.error is not None), None)
            return EXIT_OK if refused is None else exit_code_of(DagNatsError("", code=refused.code))
        case system.Health(status="failing"):
            return EXIT_UNREACHABLE
        case _:
            return EXIT_OK


def show_json(reply: common.Reply) -> None:
    """Print exactly the reply."""
    print(render.json_line(reply))


def show(endpoint: Endpoint[Any, Any], reply: common.Reply) -> None:
    """Print a reply for people."""
    out = render.console()
    screen = _SCREENS.get(type(reply))
    items = getattr(reply, "items", None)
    if screen is not None:
        screen(reply, out)
    elif items is None or endpoint.cli is None:
        render.struct_fields(reply, out)
    elif not items:
        render.note("none")
    else:
        render.table(items, endpoint.cli.columns, out)
        _show_more(reply)


def _show_more(reply: Any) -> None:
    if getattr(reply, "index_age_ms", 0):
        age = render.duration(reply.index_age_ms / 1000)
        render.note(f"this list is {age} old: the index is catching up")
    if reply.next_cursor is not None:
        render.note(f"there are more: --cursor {reply.next_cursor}")


def show_run(view: run.Run, out: Console) -> None:
    """A run: what it is, what came in and out, its steps, and why it failed."""
    now = datetime.now(UTC)
    room = max(20, min(out.width, 200) - 12)
    pairs = [
        ("run", view.run_id),
        ("workflow", f"{render.clean(view.workflow)} v{view.version}"),
        ("status", view.status),
        ("created", render.age(view.created_at, now)),
        ("took", render.took(view.created_at, view.ended_at)),
        ("tags", render.cell("tags", view.tags, now)),
        ("request id", render.clean(view.request_id or "")),
        ("retry of", view.retry_of or ""),
        ("input", render.preview(view.input, view.input_ref, room) if view.input is not None or view.input_ref else ""),
        ("output", render.preview(view.output, view.output_ref, room) if view.status == "completed" else ""),
        ("error", render.error_text(view.error) if view.error is not None else ""),
    ]
    render.fields([(name, text) for name, text in pairs if text not in ("", "-")], out)
    out.print()
    lines = [_step_line(step) for step in view.steps]
    render.grid(
        _STEP_TITLES,
        lines,
        _STEP_RIGID,
        [render.error_text(step.error, step.id) if step.error else "" for step in view.steps],
        out,
    )


def _step_line(step: run.Step) -> list[str]:
    took = render.took(step.started_at, step.ended_at) or "-"
    attempt = str(step.attempt) if step.attempt else "-"
    return [
        render.clean(step.id),
        render.clean(step.task),
        step.status,
        attempt,
        took,
        render.clean(step.worker_id or "-"),
    ]


def _show_events(reply: run.EventList, out: Console) -> None:
    width = max((len(event.step or "") for event in reply.items), default=0)
    for event in reply.items:
        out.print(render.event_line(event, width), markup=False)
    if not reply.ended:
        render.note(f"the run is {reply.status}; what follows: --after {reply.after}, or dagnats run watch")


def _show_workflow(reply: wf.Workflow, out: Console) -> None:
    pairs = [
        ("workflow", f"{render.clean(reply.name)} v{reply.version}{'' if reply.current else ' (not current)'}"),
        ("label", render.clean(reply.label)),
        ("hash", reply.hash),
        ("created", render.age(reply.created_at, datetime.now(UTC))),
    ]
    render.fields([pair for pair in pairs if pair[1]], out)
    out.print()
    out.print(render.json_for(out, reply.definition), markup=False, soft_wrap=True)


def _show_registered(reply: wf.RegisterReply, out: Console) -> None:
    done = "registered" if reply.created else "known already"
    current = "the current version" if reply.current else "not the current version"
    out.print(f"{reply.name} v{reply.version} {done}; it is {current}", markup=False)
    _show_warnings(reply.warnings)


def _show_validated(reply: wf.ValidateReply, out: Console) -> None:
    if reply.valid:
        out.print("valid")
    else:
        count = len(reply.problems)
        report(Invalid(f"{count} problem{'s' if count > 1 else ''} found", reply.problems), as_json=False)
    _show_warnings(reply.warnings)


def _show_warnings(warnings: list[wf.Warning]) -> None:
    for warning in warnings:
        render.note(f"warning: {render.clean(f'{warning.path}: {warning.message} ({warning.code})')}")


def _show_deleted(reply: wf.DeleteReply, out: Console) -> None:
    out.print(f"{reply.name} {'deleted' if reply.deleted else 'was deleted before'}", markup=False)


def _show_started(reply: wf.StartReply, out: Console) -> None:
    done = "started" if reply.created else f"was started before, {reply.status}"
    out.print(f"{reply.run_id}  {reply.workflow} v{reply.version} {done}", markup=False)


def _show_again(reply: run.RetryReply | dlq.ReplayReply, out: Console) -> None:
    done = "started" if reply.created else "was started before"
    out.print(f"{reply.run_id}  {done}, retry of {reply.retry_of}", markup=False)


def _show_cancelled(reply: run.CancelReply, out: Console) -> None:
    out.print(f"{reply.run_id}  {reply.status}", markup=False)


def _show_health(reply: system.Health, out: Console) -> None:
    render.table(reply.components, ("name", "status", "cause"), out)


_SCREENS: dict[type[common.Reply], Callable[[Any, Console], None]] = {
    run.Run: show_run,
    run.EventList: _show_events,
    run.RetryReply: _show_again,
    run.CancelReply: _show_cancelled,
    dlq.ReplayReply: _show_again,
    wf.Workflow: _show_workflow,
    wf.RegisterReply: _show_registered,
    wf.ValidateReply: _show_validated,
    wf.DeleteReply: _show_deleted,
    wf.StartReply: _show_started,
    system.Health: _show_health,
}
