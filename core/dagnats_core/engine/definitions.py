"""Definitions in their bucket: versions of a workflow, contents by hash, compiled plans. `DefinitionsPort` on NATS.

    head.<name>            which versions there are, and which one new runs take
    content.<name>.<hash>  the canonical text of one of them; never changes, never goes away

A head is changed by compare-and-set and always read fresh, so that a start sees every registration that was
acknowledged by whichever process. Deleting marks the head: runs in flight hold on to their hash.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, NamedTuple

import msgspec

from dagnats_core import limits
from dagnats_core.bus.errors import PublishTimeout, WrongSequence
from dagnats_core.bus.kv import Bucket, Entry
from dagnats_core.engine.fresh import FreshReads
from dagnats_core.errors import Conflict, NotFound, Unavailable
from dagnats_core.flow import canonical
from dagnats_core.flow.model import Definition
from dagnats_core.flow.plan import Plan, compile_plan
from dagnats_core.ids import content_hash

PLANS_MAX = 1000
"""Compiled definitions kept in memory, the least recently used one goes first."""
WRITE_TRIES = 20
"""Registrations of one workflow that may collide before one gives up."""


class Version(msgspec.Struct, frozen=True):
    """One version. `label` is the author's own version text; `created_at` in ms."""

    version: int
    hash: str
    label: str
    created_at: int
    steps: int = 0


class Head(msgspec.Struct, frozen=True):
    """A workflow: its versions, oldest first, and the one that new runs take."""

    v: int
    name: str
    current: int
    deleted: bool
    versions: list[Version]

    def find(self, version: int | None) -> Version | None:
        """The version of that number, or the current one."""
        wanted = self.current if version is None else version
        return next((known for known in self.versions if known.version == wanted), None)


class Registered(NamedTuple):
    """`created`: the content was unknown before. `current`: new runs take it."""

    version: Version
    created: bool
    current: bool


_encode = msgspec.json.Encoder().encode
_decode_head = msgspec.json.Decoder(Head).decode


class Definitions:
    """The definitions of a site. Names are checked by whoever hands them in."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._heads: FreshReads[str, Head | None] = FreshReads(self._read_head)
        self._contents: FreshReads[tuple[str, str], Plan] = FreshReads(self._read_plan)
        self._plans: OrderedDict[str, Plan] = OrderedDict()

    # -- plans

    def cached(self, content_hash: str) -> Plan | None:
        """The compiled content, if it is in memory."""
        plan = self._plans.get(content_hash)
        if plan is not None:
            self._plans.move_to_end(content_hash)
        return plan

    async def plan(self, workflow: str, content_hash: str) -> Plan:
        """The compiled content. Raises NotFound if no such content was ever registered."""
        return self.cached(content_hash) or await self._contents.get((workflow, content_hash))

    async def content(self, workflow: str, content_hash: str) -> bytes:
        """The canonical text. Raises NotFound."""
        key = f"content.{workflow}.{content_hash}"
        entry = await self._bucket.get(key) or await self._bucket.get(key, fresh=True)
        if entry is None:
            raise NotFound(f"workflow {workflow} has no content {content_hash}")
        return entry.value

    # -- heads

    async def head(self, name: str) -> Head | None:
        """The workflow as it stands now, deleted or not; None if it never was. Sees every acknowledged write."""
        return await self._heads.get(name)

    async def heads(self) -> list[Head]:
        """All workflows that are not deleted, by name."""
        entries = await self._bucket.entries("head.*")
        heads = [_decode_head(entry.value) for entry in entries.values()]
        return sorted((head for head in heads if not head.deleted), key=lambda head: head.name)

    async def resolve(self, name: str, version: int | None = None) -> Version:
        """The version that a start takes: the current one, or a given one. Raises NotFound."""
        head = await self.head(name)
        if head is None or head.deleted:
            raise NotFound(f"there is no workflow {name!r}")
        found = head.find(version)
        if found is None:
            raise NotFound(f"workflow {name!r} has no version {version}")
        return found

    async def register(self, definition: Definition, by: Literal["user", "worker"], now_ms: int) -> Registered:
        """Add a definition that was validated. A user's registration becomes current, a worker's only if it is new.

        Raises Conflict above `limits.VERSIONS_MAX` versions, StorageFull, Unavailable.
        """
        content = canonical.canonical(definition)
        digest = content_hash(content)
        key = f"content.{definition.name}.{digest}"
        if await self._bucket.get(key) is None:
            await self._bucket.put(key, content)
        for _ in range(WRITE_TRIES):
            entry = await self._entry(definition.name)
            head = _decode_head(entry.value) if entry else Head(1, definition.name, 0, False, [])
            registered, changed = _registered(head, definition, digest, by, now_ms)
            if changed == head or await self._write(changed, entry):
                return registered
        raise Unavailable(f"workflow {definition.name} is being registered by too many at once: try again")

    async def delete(self, name: str) -> bool:
        """Mark a workflow deleted: no new runs. False if there is none."""
        for _ in range(WRITE_TRIES):
            entry = await self._entry(name)
            head = _decode_head(entry.value) if entry else None
            if head is None or head.deleted:
                return False
            if await self._write(msgspec.structs.replace(head, deleted=True), entry):
                return True
        raise Unavailable(f"workflow {name} is being changed by too many at once: try again")

    # -- the bucket

    async def _entry(self, name: str) -> Entry | None:
        return await self._bucket.get(f"head.{name}", fresh=True)

    async def _read_head(self, name: str) -> Head | None:
        entry = await self._entry(name)
        return None if entry is None else _decode_head(entry.value)

    async def _read_plan(self, key: tuple[str, str]) -> Plan:
        workflow, digest = key
        plan = self._plans[digest] = compile_plan(canonical.load(await self.content(workflow, digest)))
        if len(self._plans) > PLANS_MAX:
            self._plans.popitem(last=False)
        return plan

    async def _write(self, head: Head, before: Entry | None) -> bool:
        """Whether `head` now stands where `before` stood; if not, or if nobody knows, it is read and decided again."""
        try:
            await self._bucket.update(f"head.{head.name}", _encode(head), before.revision if before else 0)
        except (WrongSequence, PublishTimeout):
            return False
        return True


def _registered(
    head: Head, definition: Definition, digest: str, by: Literal["user", "worker"], now_ms: int
) -> tuple[Registered, Head]:
    """What the registration means, and the head that says so."""
    known = next((version for version in head.versions if version.hash == digest), None)
    versions = head.versions
    if known is None:
        if len(versions) >= limits.VERSIONS_MAX:
            raise Conflict(f"workflow {head.name} has {limits.VERSIONS_MAX} versions (VERSIONS_MAX): no more fit")
        number = versions[-1].version + 1 if versions else 1
        version = Version(number, digest, definition.version, now_ms, len(definition.steps))
        versions = [*versions, version]
    else:
        version = known
    current = version.version if known is None or by == "user" or head.deleted else head.current
    changed = msgspec.structs.replace(head, current=current, deleted=False, versions=versions)
    return Registered(version, known is None, current == version.version), changed
