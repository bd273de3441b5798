"""Which template a call is made with that names one itself: `prompt: {id, version, variables}`.

Whoever calls finds its tenant's own templates, and those of the gateway that are `direct`. A model that has a template of
its own is asked with none other: what its operator says to it stands. A draft is for operators' keys alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gateway.access.roles import has_role
from gateway.errors import BadRequest, NotFound, StageFailed
from gateway.prompts.shelf import Shelf
from gateway.records.database import StoreUnavailable

if TYPE_CHECKING:
    from gateway.envelopes import PromptUse
    from gateway.exchange import Exchange
    from gateway.prompts.template import Template
    from gateway.stages.rendering import PromptStage
    from gateway.values import Caller


_DIGITS = 9  # of a version's number


class PromptChoice:
    """Of one public model, `own` being its own template; of plain models, where it has none."""

    def __init__(self, shelf: Shelf, own: str | None = None) -> None:
        """`own` is the model's `prompt`: NAME@VERSION or NAME@LABEL."""
        self._shelf = shelf
        self._own = own.partition("@")[0] if own is not None else None

    async def choose(self, exchange: Exchange, use: PromptUse, own: PromptStage | None) -> PromptStage:
        """What the call is rendered with. Raises BadRequest, and NotFound alike for what is not and what is not theirs."""
        caller = exchange.caller
        assert caller is not None
        which = str(use.version) if use.version is not None else None
        if use.id is None:
            if self._own is None or own is None:
                raise BadRequest(
                    "This model has no prompt template of its own: name one with prompt.id.", param="prompt.id"
                )
            if which is None:
                return own
        name, _, version = (use.id or self._own or "").partition("@")
        if version and which is not None and version != which:
            raise BadRequest(
                f"prompt.id says version '{version}', prompt.version says '{which}'.", param="prompt.version"
            )
        which = version or which
        if self._own is not None and name != self._own:
            raise BadRequest(
                f"This model has a prompt template of its own, {self._own}: it takes no other.", param="prompt.id"
            )
        if self._own is not None and which is None and own is not None:
            return own
        template = await self._found(caller, name, which)
        from gateway.stages.rendering import PromptStage

        return replace(own, fixed=template, look_up=None) if own is not None else PromptStage(template)

    async def _found(self, caller: Caller, name: str, which: str | None) -> Template:
        shelf = self._shelf
        # A model's own template is the gateway's; elsewhere a tenant's own goes before one of that name.
        owners = ("",) if self._own is not None else (caller.tenant, "")
        for tenant in owners:
            operates = has_role(caller, "operator") and (caller.scope == "gateway" or tenant == caller.tenant)
            found = shelf.find(name, which, tenant) if which is not None else shelf.usual(name, tenant)
            if found is None and operates and which is not None and which.isdecimal() and len(which) <= _DIGITS:
                found = await self._draft(tenant, name, int(which))
            if found is not None and may_use(caller, found, operates=operates):
                return found
        said = f"{name}@{which}" if which is not None else name
        raise NotFound(
            f"The prompt '{said}' does not exist or this key may not use it.",
            param="prompt.id" if which is None else "prompt.version",
            code="prompt_not_found",
        )

    async def _draft(self, tenant: str, name: str, version: int) -> Template | None:
        from gateway.prompts.front_matter import TemplateFault

        try:
            return await self._shelf.stored.version(tenant, name, version)
        except TemplateFault:
            return None
        except StoreUnavailable:
            raise StageFailed(
                "The record store is away, and drafts are nowhere else. Try again in a moment.",
                code="records_unavailable", retry_after="1",
            ) from None  # fmt: skip


def may_use(caller: Caller, template: Template, *, operates: bool) -> bool:
    """Whether a caller may name the template in its calls."""
    if caller.prompts is not None and template.name not in caller.prompts:
        return False
    return operates or bool(template.tenant) or template.front.direct
