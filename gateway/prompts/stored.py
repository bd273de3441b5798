"""The record store's templates as this process knows them: compiled beside the loop, and kept in step.

A round twice a second takes over what was released and which labels were moved, so that a label that goes back is back in
every worker within a second. While the store is away, the last known versions serve; they lie in a file too, so that
they serve after a start without the store.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gateway.prompt_versions import PromptChanges, PromptsUnavailable, StoredLabel, StoredVersion

if TYPE_CHECKING:
    from gateway.prompts.template import Template

log = logging.getLogger(__name__)

_NOTHING = -1  # the sequence number before anything was read


class Store(Protocol):
    def changes(self, since: int) -> PromptChanges:
        """Raises PromptsUnavailable."""

    def version(self, tenant: str, name: str, version: int) -> StoredVersion | None: ...


@dataclass(frozen=True, slots=True)
class Known:
    """Released versions by tenant, name and number; labels by tenant, name and word: None where one was taken away."""

    templates: Mapping[tuple[str, str, int], Template] = field(default_factory=dict)
    labels: Mapping[tuple[str, str, str], int | None] = field(default_factory=dict)
    versions: Mapping[tuple[str, str], tuple[int, ...]] = field(default_factory=dict)


class StoredTemplates:
    """Belongs to the event loop; outlives revisions. `known` is replaced whole."""

    def __init__(self, store: Store, snapshot: Path | None = None, *, every: float = 0.5) -> None:
        """`snapshot` is the file of the last known versions, `every` the time between rounds in seconds."""
        self.known = Known()
        self.healthy = True
        self.synced = False
        """Whether the store was read since this process began."""
        self._store = store
        self._snapshot = snapshot
        self._every = every
        self._sequence = _NOTHING
        self._sources: dict[tuple[str, str, int], StoredVersion] = {}
        self._labels: dict[tuple[str, str, str], StoredLabel] = {}
        self._one_round = asyncio.Lock()

    async def run(self) -> None:
        """Rounds until cancelled."""
        while True:
            await asyncio.sleep(self._every)
            await self.round()

    async def round(self) -> None:
        """Take over what was changed in the store."""
        async with self._one_round:
            try:
                known = await asyncio.to_thread(self._read)
            except PromptsUnavailable as failure:
                if self.healthy:
                    self.healthy = False
                    log.error("the store of prompt templates is away, the last known versions serve: %s", failure)
                if self._sequence == _NOTHING and not self.known.templates:
                    self.known = await asyncio.to_thread(self._from_snapshot)
                return
            except Exception:
                log.exception("the store of prompt templates can't be read, the last known versions serve")
                self.healthy = False
                return
            if not self.healthy:
                log.warning("the store of prompt templates is back")
            self.healthy = self.synced = True
            if known is not None:
                self.known = known

    async def round_told(self, said: object) -> bool:
        """The same, because another worker has changed something; whether the store could be read."""
        await self.round()
        return self.healthy

    async def version(self, tenant: str, name: str, version: int) -> Template | None:
        """A version as it is in the store now, a draft too. Raises TemplateFault, and what the store raises."""
        return await asyncio.to_thread(self.read_version, tenant, name, version)

    def read_version(self, tenant: str, name: str, version: int) -> Template | None:
        """The same, for a thread."""
        found = self._store.version(tenant, name, version)
        return _compiled(found) if found is not None else None

    def include(self, template: Template) -> None:
        """Hold a draft as if it were released: for a process that serves nobody."""
        key = (template.tenant, template.name, template.version)
        self.known = replace(self.known, templates={**self.known.templates, key: template})

    # -- in a thread, one at a time ------------------------------------------------------------------------
    def _read(self) -> Known | None:
        changes = self._store.changes(self._sequence)
        if changes.sequence < self._sequence:
            log.warning("the store of prompt templates is another one, or an older copy: all of it is read again")
            self._sources, self._labels, self._sequence = {}, {}, _NOTHING
            changes = self._store.changes(_NOTHING)
        if changes.sequence == self._sequence:
            return None
        first = self._sequence == _NOTHING
        if first:
            self._sources, self._labels = {}, {}  # a file's word holds until the store is heard
        if not changes.versions and not changes.labels:
            self._sequence = changes.sequence
            return Known() if first else None
        known = self._taken(self.known if not first else Known(), changes)
        self._sequence = changes.sequence  # what could not be taken over is read again in the next round
        self._write()
        return known

    def _taken(self, before: Known, changes: PromptChanges) -> Known:
        templates = dict(before.templates)
        for version in changes.versions:
            key = (version.tenant, version.name, version.version)
            self._sources[key] = version
            if key in templates and templates[key].content_hash == version.content_hash:
                continue
            template = self._usable(version)
            if template is not None:
                templates[key] = template
        for label in changes.labels:
            self._labels[label.tenant, label.name, label.label] = label
        versions: dict[tuple[str, str], list[int]] = {}
        for tenant, name, number in sorted(templates):
            versions.setdefault((tenant, name), []).append(number)
        return Known(
            templates,
            {key: label.version for key, label in self._labels.items()},
            {key: tuple(numbers) for key, numbers in versions.items()},
        )

    def _usable(self, version: StoredVersion) -> Template | None:
        from gateway.prompts.front_matter import TemplateFault

        try:
            return _compiled(version)
        except TemplateFault as fault:  # a version of this program before understood it
            log.error("the released template %s can't be used by this version: %s", version.reference, fault)
        except Exception:  # whatever one tenant has written, the templates of the others are taken over
            log.exception("the released template %s can't be compiled", version.reference)
        return None

    def _write(self) -> None:
        if self._snapshot is None:
            return
        said = {
            "versions": [asdict(version) for version in self._sources.values()],
            "labels": [asdict(label) for label in self._labels.values()],
        }
        new = self._snapshot.with_name(f"{self._snapshot.name}.{os.getpid()}")
        try:
            new.touch(0o600)
            new.write_text(json.dumps(said, ensure_ascii=False), "utf-8")
            new.replace(self._snapshot)
        except OSError as fault:
            log.warning("the last known templates can't be kept in a file: %s", fault.strerror)

    def _from_snapshot(self) -> Known:
        if self._snapshot is None:
            return Known()
        try:
            said = json.loads(self._snapshot.read_text("utf-8"))
            versions = tuple(StoredVersion(**each) for each in said["versions"])
            labels = tuple(StoredLabel(**each) for each in said["labels"])
        except FileNotFoundError:
            return Known()
        except (OSError, ValueError, KeyError, TypeError) as fault:
            log.warning("the file of the last known templates can't be read: %s", fault)
            return Known()
        return self._taken(Known(), PromptChanges(_NOTHING, versions, labels))


def _compiled(version: StoredVersion) -> Template:
    """Raises TemplateFault."""
    from gateway.prompts.library import read_template  # with Jinja, which a gateway without templates never loads

    # What is stored has its partials within it.
    return read_template(version.source, version.name, version.version, version.reference, {}, tenant=version.tenant)
