"""The worker that stands in docs/wire.md does its work, with nothing of ours installed or imported."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dagnats_core.run import messages as m
from tests.support.fake_site import FakeSite, accept_all, output_of

PAGE = Path(__file__).parents[3] / "docs" / "wire.md"


def worker_source() -> str:
    """The one Python program on the page."""
    [source] = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert isinstance(source, str)
    assert "dagnats" not in re.sub(r'f?".*?"', "", source), "it needs nothing of ours"
    return source


@asynccontextmanager
async def plain_worker(site: FakeSite) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {**os.environ, "NATS_URL": site.connection.url, "SITE": site.site}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", worker_source(), env=environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_it_completes_and_fails_tasks(site: FakeSite) -> None:
    async with plain_worker(site):
        good = await site.outcome(await site.hand_out("text.upper", {"text": "abc"}))
        bad = await site.outcome(await site.hand_out("text.upper", {"no": "text"}))
        await site.all_acknowledged("text.upper")
    assert output_of(good) == {"text": "ABC"}
    assert bad.error is not None
    assert bad.error.code == "handler_error"


async def test_it_claims_what_was_delivered_before_and_repeats_what_is_not_answered(site: FakeSite) -> None:
    site.ack_wait_ms = 500
    deaf = True

    def answer(report: m.Report, task: m.Task | None) -> str | None:
        return None if deaf else accept_all(report, task)

    site.answer = answer
    async with plain_worker(site):
        task = await site.hand_out("text.upper", {"text": "abc"})
        await site.outcome(task)
    deaf = False
    async with plain_worker(site):
        await site.until(lambda: bool(site.reports_of(task, "claim")))
        await site.all_acknowledged("text.upper")
    assert site.reports_of(task)[-1].kind == "completed"
