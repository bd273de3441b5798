"""The templates in a folder: `NAME@VERSION.yaml`, all read and compiled at the start.

description: what it is for
max_prompt_tokens: 6000
features: {plan: free}          # features it uses, each with the value for a user who has none
messages:
  - {role: system, content: "Jinja text; `user.plan`, `passages`"}
  - conversation                # where the caller's messages go
"""

from __future__ import annotations

import difflib
import hashlib
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import jinja2
import yaml
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from features.vector import FeatureValue
from gateway.prompts.template import Template
from gateway.prompts.tokens import TokenCounter

_NAME = re.compile(r"([a-z0-9_-]+)@(\d+)")


class TemplateFault(Exception):
    """A template that can't be used: file, line where known, and why."""

    def __init__(self, file: str, message: str, line: int | None = None) -> None:
        super().__init__(f"{file}{f':{line}' if line else ''}: {message}")


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox bounds loops, but not what one product or power can make of memory and time."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or not isinstance(left, int | float) or not isinstance(right, int | float):
            raise SecurityError("only numbers may be multiplied here, and there are no powers")
        return super().call_binop(context, operator, left, right)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "developer", "user", "assistant"]
    content: str


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    description: str = ""
    max_prompt_tokens: Annotated[int, Field(ge=100)] = 6000
    features: dict[str, FeatureValue] = {}
    messages: Annotated[list[_Part | Literal["conversation"]], Field(min_length=1)]


class TemplateLibrary:
    def __init__(self, templates: dict[str, Template]) -> None:
        self._templates = templates

    @classmethod
    def load(cls, folder: Path) -> TemplateLibrary:
        """Every template in `folder`. Raises TemplateFault."""
        environment = _Sandbox(undefined=jinja2.StrictUndefined, autoescape=False)
        counter = TokenCounter()
        templates = (_template(file, environment, counter) for file in sorted(folder.glob("*.yaml")))
        return cls({template.reference: template for template in templates})

    def get(self, reference: str) -> Template:
        """The template of that name and version. Raises TemplateFault."""
        template = self._templates.get(reference)
        if template is None:
            near = difflib.get_close_matches(reference, self._templates, 1)
            raise TemplateFault(
                f"{reference}.yaml", f"there is no such template{f'; did you mean {near[0]}?' if near else ''}"
            )
        return template


def built_in(reference: str) -> Template:
    """A template that comes with the gateway."""
    return TemplateLibrary.load(Path(__file__).parent / "built_in").get(reference)


def _template(file: Path, environment: ImmutableSandboxedEnvironment, counter: TokenCounter) -> Template:
    name = _NAME.fullmatch(file.stem)
    if name is None:
        raise TemplateFault(file.name, "a template's file is called NAME@VERSION.yaml, e.g. handbook@1.yaml")
    text = file.read_text("utf-8")
    try:
        content = _File.model_validate(yaml.safe_load(text))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise TemplateFault(file.name, f"not valid YAML: {error.problem}", line) from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise TemplateFault(file.name, f"{where}: {first['msg']}") from None
    if content.messages.count("conversation") != 1:
        raise TemplateFault(file.name, "messages: `conversation` must stand there exactly once")
    parts = tuple(
        None
        if isinstance(part, str)
        else (part.role, _compiled(part.content, file.name, environment, content.features))
        for part in content.messages
    )
    return Template(
        name=name[1],
        version=int(name[2]),
        content_hash=hashlib.sha256(text.encode()).hexdigest()[:16],
        parts=parts,
        defaults=content.features,
        max_prompt_tokens=content.max_prompt_tokens,
        counter=counter,
    )


def _compiled(
    text: str, file: str, environment: ImmutableSandboxedEnvironment, features: dict[str, FeatureValue]
) -> jinja2.Template:
    """A part, compiled and tried once with every feature at its default, so that no user meets its mistakes."""
    try:
        template = environment.from_string(text)
        template.render({"user": features, "passages": "", "passage_count": 0})
        template.render({"user": features, "passages": "x", "passage_count": 1})
    except jinja2.TemplateSyntaxError as error:
        raise TemplateFault(file, f"Jinja: {error.message} (line {error.lineno} of its part)") from None
    except jinja2.TemplateError as error:
        raise TemplateFault(file, f"Jinja: {error}; features need a default under `features`") from None
    except Exception as error:  # the template is a program: whatever its trial raises is its author's to mend
        raise TemplateFault(file, f"Jinja: {error}") from None
    return template
