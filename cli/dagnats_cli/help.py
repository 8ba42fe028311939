"""How help pages look: a title, then names and what they mean in two columns. Only cyclopts calls this."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

NAMES_WIDTH_MAX = 26
"""A longer name has its meaning on the next line."""


class HelpPage:
    """A help formatter in cyclopts' sense."""

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:
        if usage:
            console.print(f"Usage: {str(usage).strip()}", highlight=False, markup=False)

    def render_description(self, console: Console, options: ConsoleOptions, description: Any) -> None:
        if text := _text(description):
            console.print(f"\n{text}", highlight=False, markup=False)

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        from rich.text import Text

        if not panel.entries:
            return
        width = min(NAMES_WIDTH_MAX, max(len(_names(entry)) for entry in panel.entries)) + 4
        page = Text(f"\n{panel.title}", style="bold")
        for entry in panel.entries:
            names = _names(entry)
            page.append(f"\n  {names:<{width - 2}}", style="not bold cyan")
            if len(names) > width - 4:
                page.append("\n" + " " * width)
            lines = textwrap.wrap(_meaning(entry), max(20, console.width - width)) or [""]
            page.append(f"\n{' ' * width}".join(lines), style="not bold")
        console.print(page, highlight=False)


def _names(entry: HelpEntry) -> str:
    return ", ".join(entry.display_labels_with_metavar)


def _meaning(entry: HelpEntry) -> str:
    parts = [_text(entry.description), f"[{' '.join(entry.choices)}]" if entry.choices else ""]
    return " ".join(part for part in parts if part)


def _text(description: Any) -> str:
    return str(getattr(description, "primary_renderable", description) or "").strip()
