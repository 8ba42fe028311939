"""What a watcher sees: a live table on a terminal, elsewhere a line an event, JSON lines, or nothing. Draws only."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from dagnats_cli import render
from dagnats_cli.progress import Progress, StepLine
from dagnats_micro.schemas import run

if TYPE_CHECKING:
    from rich.console import Console, Group
    from rich.text import Text

_MARKS = {
    "completed": "✔",
    "failed": "✘",
    "cancelled": "✘",
    "running": "●",
    "queued": "◌",
    "waiting": "↻",
    "skipped": "–",
    "pending": "·",
}
_ASCII_MARKS = str.maketrans("✔✘●◌↻–·", "+x>.~- ")
"""For terminals that cannot show the marks."""
_TITLES = ("", "step", "task", "status", "attempt", "time")
_RIGID = (True, False, False, True, True, True)
_FRAME_LINES = 6
"""Lines of the live screen that are no steps."""


class View(Protocol):
    """A watcher's screen. `begin` comes first, `end` last, also after an error."""

    def begin(self, progress: Progress) -> None: ...

    def event(self, event: run.RunEvent) -> None: ...

    def tick(self) -> None:
        """Some time has passed."""

    def trouble(self, text: str) -> None:
        """The site cannot be reached now (`text`), or can again (empty)."""

    def end(self, final: run.Run | None) -> None:
        """The run has ended (`final`), or the watching has."""


class Silent:
    """Shows nothing: for who wants the result alone."""

    def begin(self, progress: Progress) -> None: ...

    def event(self, event: run.RunEvent) -> None: ...

    def tick(self) -> None: ...

    def trouble(self, text: str) -> None: ...

    def end(self, final: run.Run | None) -> None: ...


class JsonLines(Silent):
    """Each event as it came, and the run at its end: one JSON value a line."""

    def event(self, event: run.RunEvent) -> None:
        print(render.json_line(event), flush=True)

    def end(self, final: run.Run | None) -> None:
        if final is not None:
            print(render.json_line(final), flush=True)


class Lines(Silent):
    """One line for each event, and one for the end."""

    def __init__(self, out: Console) -> None:
        self._out = out
        self._width = 0

    def begin(self, progress: Progress) -> None:
        self._progress = progress
        self._width = max((len(step) for step in progress.steps), default=0)

    def event(self, event: run.RunEvent) -> None:
        self._print(render.event_line(event, self._width))

    def trouble(self, text: str) -> None:
        self._print(f"waiting: {text}" if text else "connected again")

    def end(self, final: run.Run | None) -> None:
        if final is not None:
            self._print(ending(final))

    def _print(self, text: str) -> None:
        self._out.print(text, markup=False, highlight=False)


class LiveTable(Silent):
    """The steps, with what they are doing now; stays on the screen at the end."""

    def __init__(self, out: Console) -> None:
        from rich.live import Live

        self._out = out
        self._live = Live(console=out, auto_refresh=False, transient=False)
        self._trouble = ""
        self._progress: Progress | None = None
        self._is_utf = out.encoding.lower().startswith("utf")

    def begin(self, progress: Progress) -> None:
        self._progress = progress
        self._live.start()
        self.tick()

    def event(self, event: run.RunEvent) -> None:
        self.tick()

    def trouble(self, text: str) -> None:
        self._trouble = text
        self.tick()

    def tick(self) -> None:
        if self._progress is not None:
            self._live.update(self.screen(self._progress, time.time()), refresh=True)

    def end(self, final: run.Run | None) -> None:
        self._trouble = ""
        self.tick()
        self._live.stop()

    def show_output(self, final: run.Run) -> None:
        """Below the table of a completed run: the start of what came out."""
        text = render.preview(final.output, final.output_ref, self._out.width - len("output  "))
        render.fields([("output", text)], self._out)

    def screen(self, progress: Progress, now: float) -> Group:
        from rich.console import Group
        from rich.text import Text

        room = max(1, self._out.height - _FRAME_LINES)
        steps = progress.shown(max(1, room - min(progress.errors(), room // 3)))
        errors_room = room - len(steps)
        lines = [self._line(step, now) for step in steps]
        widths = render.fit([_TITLES, *lines], _RIGID, self._out.width)
        body: list[Text] = [self._head(progress, now), Text(), render.line_of(_TITLES, widths, ["bold"] * len(_TITLES))]
        for step, cells in zip(steps, lines, strict=True):
            style = render.STYLES.get(step.status, "")
            body.append(render.line_of(cells, widths, [style, "", "dim", style, "", ""]))
            if step.error is not None and errors_room > 0:
                errors_room -= 1
                why = Text(
                    f"   {render.error_text(step.error, step.id)}", style="red", no_wrap=True, overflow="ellipsis"
                )
                body.append(why)
        hidden = len(progress.steps) - len(steps)
        if hidden:
            body.append(Text(f"  and {hidden} more steps", style="dim"))
        if self._trouble:
            body.append(Text(render.clean(self._trouble), style="yellow", no_wrap=True, overflow="ellipsis"))
        return Group(*body)

    def _head(self, progress: Progress, now: float) -> Text:
        from rich.text import Text

        took = render.duration((progress.ended or now) - progress.created)
        done = sum(count for status, count in progress.counts().items() if status in ("completed", "skipped"))
        head = Text(no_wrap=True, overflow="ellipsis")
        head.append(render.clean(progress.title), style="bold")
        head.append(f"  {progress.run_id}  ", style="dim")
        head.append(progress.status, style=render.STYLES.get(progress.status, ""))
        head.append(f"  {done}/{len(progress.steps)} steps  {took}")
        return head

    def _line(self, step: StepLine, now: float) -> list[str]:
        elapsed_s = step.elapsed_s(now)
        shown = render.duration(elapsed_s) if elapsed_s is not None else ""
        if step.status == "waiting" and step.retry_at is not None:
            shown = f"again in {render.duration(max(0.0, step.retry_at - now))}"
        attempt = str(step.attempt) if step.attempt else ""
        mark = _MARKS.get(step.status, "")
        if not self._is_utf:
            mark = mark.translate(_ASCII_MARKS)
        return [mark, render.clean(step.id), render.clean(step.task), step.status, attempt, shown]


def ending(final: run.Run) -> str:
    """How a run ended, in one line."""
    took = render.took(final.created_at, final.ended_at)
    return render.clean(f"{final.workflow} {final.run_id} {final.status}") + (f" in {took}" if took else "")
