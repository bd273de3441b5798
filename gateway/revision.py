"""One configuration, made into pipelines: what new calls begin with, until a reload makes another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gateway.access.browsers import Browsers
from gateway.access.callers import user_in_header
from gateway.errors import NotFound
from gateway.values import Caller

if TYPE_CHECKING:
    from gateway.access.admission import Limits
    from gateway.access.keyring import Keyring
    from gateway.chat import Request
    from gateway.config.models import Configuration
    from gateway.pipeline import Pipeline
    from gateway.prompts.shelf import Shelf


@dataclass(frozen=True, slots=True)
class Revision:
    """One configuration, made into pipelines. Immutable: a reload makes another, and calls in flight keep theirs.

    `plain` makes (and keeps) the pipeline of a `provider/model` name that has no entry of its own; `tightened` makes
    (and keeps) a pipeline with the guardrails that a key adds, named as `Caller.guardrails` does.
    """

    name: str
    configuration: Configuration
    keyring: Keyring
    pipelines: Mapping[str, Pipeline]
    plain: Callable[[str], Pipeline | None]
    user_header: bytes | None
    tightened: Callable[[Pipeline, str], Pipeline] | None = None
    limits: Limits | None = None
    shelf: Shelf | None = None
    browsers: Browsers = field(default_factory=Browsers)

    def pipeline(self, model: str, caller: Caller) -> Pipeline:
        """The journey of a public model. Raises NotFound alike for a model that is not and one not allowed."""
        if caller.models is None or caller.may_use(model):
            pipeline = self.pipelines.get(model) or self.plain(model)
            if pipeline is not None:
                if caller.guardrails and self.tightened is not None:
                    return self.tightened(pipeline, caller.guardrails)
                return pipeline
        raise NotFound(
            f"The model '{model}' does not exist or this key may not use it. GET /v1/models lists what it may.",
            param="model",
            code="model_not_found",
        )

    def claimed_user(self, request: Request, headers: Mapping[bytes, bytes]) -> str | None:
        """Whom the request says that it speaks for; the keyring decides whether that is believed."""
        if self.user_header is not None and (user := headers.get(self.user_header)) is not None:
            return user_in_header(user)
        return request.user
