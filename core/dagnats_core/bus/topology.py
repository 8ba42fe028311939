"""The one list of streams, buckets and consumers of a site (docs/wire.md). Names only; `setup` makes them."""

from __future__ import annotations

from typing import NamedTuple


class Topology(NamedTuple):
    """Names of everything that a site keeps in JetStream."""

    site: str
    shards: int = 1

    def run_stream(self, partition: int) -> str:
        """The stream that holds the runs of a partition: partition -> shard by modulo."""
        return f"dagnats-{self.site}-run-{partition % self.shards}"

    @property
    def run_streams(self) -> tuple[str, ...]:
        return tuple(f"dagnats-{self.site}-run-{shard}" for shard in range(self.shards))

    @property
    def archive_stream(self) -> str:
        return f"dagnats-{self.site}-archive"

    @property
    def definitions_bucket(self) -> str:
        return f"dagnats-{self.site}-definitions"

    @property
    def workers_bucket(self) -> str:
        return f"dagnats-{self.site}-workers"

    @property
    def leases_bucket(self) -> str:
        return f"dagnats-{self.site}-leases"

    @property
    def requests_bucket(self) -> str:
        """First answers of mutating requests that carry a request id and have no natural key."""
        return f"dagnats-{self.site}-requests"

    @property
    def payloads_bucket(self) -> str:
        return f"dagnats-{self.site}-payloads"

    def task_consumer(self, token: str) -> str:
        return f"task-{token}"
