"""Which runs have ended lately, as cancel notices say: a fresh task of such a run is claimed first. No IO."""

from __future__ import annotations

from dagnats_core import limits


class Notices:
    """Run ids with the time of their notice, oldest first; kept for a minute, and bounded."""

    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def __contains__(self, run_id: str) -> bool:
        return run_id in self._at

    def __len__(self) -> int:
        return len(self._at)

    def add(self, run_id: str, now_s: float) -> None:
        self._at.pop(run_id, None)
        self._at[run_id] = now_s
        if len(self._at) > limits.CANCEL_NOTICES_MAX:
            self._at.pop(next(iter(self._at)))

    def forget_old(self, now_s: float) -> None:
        """Drop what is older than the time for which notices are kept."""
        oldest_s = now_s - limits.CANCEL_NOTICE_MS / 1000
        while self._at:
            run_id = next(iter(self._at))
            if self._at[run_id] > oldest_s:
                return
            del self._at[run_id]
