"""Every template that calls may find: those of one revision's folder, and those of the record store beside them.

A name stands with a version or a label: `handbook@3`, `handbook@production`. A label is where the store says that it is,
else where a file's own `labels` say so; `latest` is the newest version, whatever is labelled.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from gateway.prompts.stored import StoredTemplates

if TYPE_CHECKING:
    from gateway.prompts.library import TemplateLibrary
    from gateway.prompts.template import Template

LATEST = "latest"
PRODUCTION = "production"


class Shelf:
    def __init__(self, library: TemplateLibrary | None, stored: StoredTemplates) -> None:
        self.stored = stored
        self.partials: Mapping[str, str] = library.partials if library is not None else {}
        self._files: dict[str, dict[int, Template]] = {}
        self._labels: dict[tuple[str, str], int] = {}
        for template in library.templates.values() if library is not None else ():
            self._files.setdefault(template.name, {})[template.version] = template
            for label in template.front.labels:
                self._labels[template.name, label] = template.version

    @property
    def names(self) -> frozenset[str]:
        """Of the folder's templates."""
        return frozenset(self._files)

    def in_files(self, tenant: str, name: str) -> Mapping[int, Template]:
        """The versions that are files, by number; a tenant has none."""
        return self._files.get(name, {}) if not tenant else {}

    def find(self, name: str, which: str, tenant: str = "") -> Template | None:
        """The released template of this name and version or label, of this tenant alone."""
        number = int(which) if which.isdecimal() else self.labelled(name, which, tenant)
        if number is None:
            return None
        if not tenant and (file := self._files.get(name, {}).get(number)) is not None:
            return file
        return self.stored.known.templates.get((tenant, name, number))

    def labelled(self, name: str, label: str, tenant: str = "") -> int | None:
        """The version that a label points at."""
        known = self.stored.known
        if (tenant, name, label) in known.labels:
            return known.labels[tenant, name, label]
        if not tenant and (name, label) in self._labels:
            return self._labels[name, label]
        if label == LATEST:
            return max((*self.in_files(tenant, name), *known.versions.get((tenant, name), ())), default=None)
        return None

    def labels_of(self, name: str, tenant: str = "") -> dict[str, int]:
        """All labels of a name, and where they point."""
        words = {label for file, label in self._labels if file == name and not tenant}
        words |= {label for owner, named, label in self.stored.known.labels if (owner, named) == (tenant, name)}
        found = {label: self.labelled(name, label, tenant) for label in sorted(words)}
        return {label: version for label, version in found.items() if version is not None}

    def usual(self, name: str, tenant: str = "") -> Template | None:
        """What is meant where nobody says which version: the one in production, else the newest."""
        return self.find(name, PRODUCTION, tenant) or self.find(name, LATEST, tenant)
