"""Events as text: which of them carry an id."""

from __future__ import annotations

import pytest

from dagnats_gateway.stream import page_text, resumed
from dagnats_micro import Invalid
from dagnats_micro.schemas.run import EventsRequest, RunEvent


def ids_of(*seqs: int) -> list[str]:
    items = [RunEvent(seq=seq, type="step_queued", at="2026-11-23T10:00:00Z") for seq in seqs]
    return [line for line in page_text(items).decode().split("\n") if line.startswith("id:")]


def test_the_last_event_of_a_sequence_carries_it() -> None:
    assert ids_of() == []
    assert ids_of(1, 2, 2, 2, 5) == ["id: 1", "id: 2", "id: 5"]


def test_a_reader_goes_on_where_it_was() -> None:
    request = EventsRequest(run_id="0" * 28, after=4, wait_ms=100)
    assert resumed(request, None) is request
    assert resumed(request, "9") == EventsRequest(run_id="0" * 28, after=9, wait_ms=100)
    assert resumed(request, "3") == request
    for text in ("", "x", "-1", "1.0", "²", "9" * 30):
        with pytest.raises(Invalid):
            resumed(request, text)
