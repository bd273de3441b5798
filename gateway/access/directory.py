"""Where keys are looked up that the configuration does not hold. Blocking, for threads."""

from __future__ import annotations

from typing import Protocol

from gateway.tenancy import Changes, Found


class Directory(Protocol):
    """Both raise DirectoryUnavailable."""

    def find(self, digest: bytes) -> Found:
        """The key that has a secret with this SHA-256, revoked and expired ones too."""
        ...

    def changes(self, since: int) -> Changes:
        """What was changed after `since`; every tenant and no key where that is negative."""
        ...
