"""Events as text: which of them carry an id."""

from __future__ import annotations

import pytest

from dagnats_gateway.stream import first_request, page_text
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
    assert first_request(request, None) == EventsRequest(run_id="0" * 28, after=4)
    assert first_request(request, "9").after == 9
    assert first_request(request, "3").after == 4
    for text in ("x", "-1", "1.0", "²", "9" * 30):
        with pytest.raises(Invalid):
            first_request(request, text)
