"""The quick start's worker: reads a text, counts its words in parallel, and draws the most frequent ones.

python examples/quickstart/worker.py --nats-url nats://127.0.0.1:4222
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from chart import draw
from workflow import PARTS, Count, Part, Report, ReportInput, Source, Split, Summary, Word, wf

from dagnats import Context, Fail, Worker

TOP_WORDS = 12
LETTERS_MIN = 4
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")

worker = Worker(workflows=[wf])


@worker.task("quickstart.split")
def split(ctx: Context, source: Source) -> Split:
    """Read the file and cut it at line ends into parts of about the same size."""
    path = Path(source.path).expanduser()
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise Fail("no_such_file", f"there is no file {source.path!r} in {Path.cwd()}, where the worker runs") from None
    except IsADirectoryError:
        raise Fail("not_a_file", f"{source.path!r} is a folder; give the path of a text file") from None
    except UnicodeDecodeError:
        raise Fail("not_text", f"{source.path!r} is not a text file in UTF-8") from None
    parts = [""]
    for line in text.splitlines(keepends=True):
        if len(parts[-1]) >= len(text) / PARTS and len(parts) < PARTS:
            parts.append("")
        parts[-1] += line
    parts += [""] * (PARTS - len(parts))
    return Split(name=path.name, parts=parts)


@worker.task("quickstart.count", max_concurrent=8)
def count(ctx: Context, part: Part) -> Count:
    """Count one part. All parts are counted at the same time."""
    words = [word.lower() for word in WORD.findall(part.part)]
    return Count(lines=part.part.count("\n"), words=len(words), frequency=Counter(words))


@worker.task("quickstart.merge")
async def merge(ctx: Context, counts: dict[str, Count]) -> Summary:
    """Add up what the count steps found. The input holds the output of each, by the step's id."""
    parts = [counts[step] for step in sorted(counts)]
    total: Counter[str] = Counter()
    for each in parts:
        total.update(each.frequency)
    top = [word for word, _ in total.most_common() if len(word) >= LETTERS_MIN][:TOP_WORDS]
    return Summary(
        lines=sum(each.lines for each in parts),
        words=sum(each.words for each in parts),
        different=len(total),
        top=[Word(word, [each.frequency.get(word, 0) for each in parts]) for word in top],
    )


@worker.task("quickstart.report")
def report(ctx: Context, data: ReportInput) -> Report:
    """Draw the chart. Doing it twice writes the same file again, so a retry does no harm."""
    default = Path("quickstart-report", f"{Path(data.name).stem}.svg")
    path = Path(data.source.chart).expanduser() if data.source.chart else default
    summary = data.summary
    subtitle = f"{summary.words:,} words, {summary.different:,} of them different, on {summary.lines:,} lines"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(draw(f"The words of {data.name}", subtitle, summary.top), "utf-8")
    return Report(data.name, summary.lines, summary.words, summary.different, summary.top, str(path.resolve()))


if __name__ == "__main__":
    worker.run()
