"""`wf`: definitions and starts."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from msgspec import Raw

from dagnats_core.errors import Invalid, NotFound
from dagnats_core.flow.model import Definition, Warning
from dagnats_core.flow.parse import parse_text
from dagnats_core.flow.validate import validate
from dagnats_core.run.messages import Ref
from dagnats_micro import table
from dagnats_micro.api import Api, now_ms
from dagnats_micro.paging import key_of, next_cursor, page_of
from dagnats_micro.present import timestamp
from dagnats_micro.runner import Bound
from dagnats_micro.schemas import wf
from dagnats_micro.schemas.common import PayloadRef
from dagnats_micro.starter import Order

_decode_text = msgspec.json.Decoder(str).decode


class RegisterWire(wf.RegisterRequest):
    """The definition undecoded: it is read by the one reader of definitions."""

    definition: Raw


class ValidateWire(wf.ValidateRequest):
    definition: Raw


class StartWire(wf.StartRequest):
    """The input undecoded: it is passed on as it is."""

    input: Raw = Raw()


class Workflows:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._definitions = api.definitions

    async def register(self, request: wf.RegisterRequest) -> wf.RegisterReply:
        definition, warnings = await asyncio.to_thread(read_definition, request.definition)

        async def work() -> wf.RegisterReply:
            version, created, current = await self._definitions.register(definition, request.by, now_ms())
            return wf.RegisterReply(
                name=definition.name,
                version=version.version,
                hash=version.hash,
                created=created,
                current=current,
                warnings=_told(warnings),
            )

        return await self._api.first_answers.once(table.WF_REGISTER, request, request.request_id, work)

    async def validate(self, request: wf.ValidateRequest) -> wf.ValidateReply:
        try:
            _, warnings = await asyncio.to_thread(read_definition, request.definition)
        except Invalid as error:
            return wf.ValidateReply(valid=False, problems=list(error.problems), warnings=[])
        return wf.ValidateReply(valid=True, problems=[], warnings=_told(warnings))

    async def list(self, request: wf.WorkflowListRequest) -> wf.WorkflowList:
        after = key_of(request.cursor, tuple[str])
        heads = [head for head in await self._definitions.heads() if after is None or head.name > after[0]]
        items = []
        for head in heads[: request.limit + 1]:
            version = head.find(None)
            assert version is not None
            items.append(
                wf.WorkflowItem(
                    name=head.name,
                    version=version.version,
                    hash=version.hash,
                    label=version.label,
                    steps=version.steps,
                    created_at=timestamp(version.created_at),
                )
            )
        page, more = page_of(items, request.limit)
        return wf.WorkflowList(items=page, next_cursor=next_cursor(more, page[-1].name if page else ""))

    async def get(self, request: wf.WorkflowRequest) -> wf.Workflow:
        head = await self._definitions.head(request.name)
        version = head.find(request.version) if head is not None and not head.deleted else None
        if head is None or version is None:
            which = "" if request.version is None else f" of version {request.version}"
            raise NotFound(f"there is no workflow {request.name!r}{which}")
        return wf.Workflow(
            name=head.name,
            version=version.version,
            hash=version.hash,
            label=version.label,
            current=version.version == head.current,
            created_at=timestamp(version.created_at),
            definition=Raw(await self._definitions.content(head.name, version.hash)),
        )

    async def versions(self, request: wf.VersionsRequest) -> wf.VersionList:
        head = await self._definitions.head(request.name)
        if head is None or head.deleted:
            raise NotFound(f"there is no workflow {request.name!r}")
        before = key_of(request.cursor, tuple[int])
        items = [
            wf.VersionItem(
                version=version.version,
                hash=version.hash,
                label=version.label,
                current=version.version == head.current,
                created_at=timestamp(version.created_at),
            )
            for version in reversed(head.versions)
            if before is None or version.version < before[0]
        ]
        page, more = page_of(items, request.limit)
        return wf.VersionList(items=page, next_cursor=next_cursor(more, page[-1].version if page else 0))

    async def delete(self, request: wf.DeleteRequest) -> wf.DeleteReply:
        async def work() -> wf.DeleteReply:
            if not await self._definitions.delete(request.name):
                raise NotFound(f"there is no workflow {request.name!r}")
            return wf.DeleteReply(name=request.name, deleted=True)

        return await self._api.first_answers.once(table.WF_DELETE, request, request.request_id, work)

    async def start(self, request: wf.StartRequest) -> wf.StartReply:
        order = Order(
            workflow=request.workflow,
            input=None if bytes(request.input) in (b"", b"null") else request.input,
            input_ref=ref_of(request.input_ref),
            version=request.version,
            tags=request.tags,
            request_id=request.request_id,
        )
        started = await self._api.starter.start(order)
        return wf.StartReply(
            run_id=started.run_id,
            workflow=request.workflow,
            version=started.version,
            status=started.status,
            created=started.created,
            created_at=timestamp(started.created_at),
        )


def bind(api: Api) -> list[Bound[Any, Any]]:
    workflows = Workflows(api)
    return [
        Bound(table.WF_REGISTER, workflows.register, RegisterWire),
        Bound(table.WF_LIST, workflows.list),
        Bound(table.WF_GET, workflows.get),
        Bound(table.WF_VERSIONS, workflows.versions),
        Bound(table.WF_VALIDATE, workflows.validate, ValidateWire),
        Bound(table.WF_DELETE, workflows.delete),
        Bound(table.WF_START, workflows.start, StartWire),
    ]


def ref_of(ref: PayloadRef | None) -> Ref | None:
    """A payload reference as the log carries it."""
    return Ref(ref.id, ref.size, ref.sha256) if ref is not None else None


def read_definition(raw: Raw) -> tuple[Definition, list[Warning]]:
    """The definition in a request: a JSON object, or a text in YAML or JSON. Raises Invalid with every problem."""
    text = bytes(raw)
    data = parse_text(_decode_text(text).encode() if text[:1] == b'"' else text)
    definition, problems, warnings = validate(data)
    if definition is None:
        count = len(problems)
        raise Invalid(f"the definition has {count} problem{'s' if count != 1 else ''}", problems)
    return definition, warnings


def _told(warnings: list[Warning]) -> list[wf.Warning]:
    return [wf.Warning(code=each.code, path=each.path, message=each.message) for each in warnings]
