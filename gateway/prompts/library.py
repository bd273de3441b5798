"""Templates from their texts: those in a folder, `NAME@VERSION.yaml`, all read and compiled at the start.

Partials that several templates share are in its folder `partials`, `NAME.jinja`; a template's own go before them.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from features.vector import FeatureVector
from gateway.chat import JSON
from gateway.prompts.front_matter import Example, FrontMatter, Part, Source, TemplateFault
from gateway.prompts.inputs import BadInput, sample
from gateway.prompts.language import Included, Text, Wrong, compiled, compiled_condition
from gateway.prompts.origins import Origin
from gateway.prompts.sandbox import RenderingFailed
from gateway.prompts.template import PromptTooLong, Template, TemplatePart, TextPart
from gateway.prompts.tokens import TokenCounter
from retrieval.passages import Passage

__all__ = ["TemplateFault", "TemplateLibrary", "built_in", "read_template"]

_NAME = re.compile(r"([a-z0-9][a-z0-9_-]{0,99})@([1-9]\d{0,8})")
_PARTIAL = re.compile(r"[a-z0-9][a-z0-9_-]{0,99}")
_MOST_TRYING = 2.0  # seconds of the thread's CPU time for all examples of a template
_GIVEN: dict[str, Origin] = {
    "facts": "feature", "passages": "passage", "passage_count": "template", "question": "conversation",
    "user": "feature",
}  # fmt: skip


class TemplateLibrary:
    """The templates of a folder, by NAME@VERSION. `partials` are what they share."""

    def __init__(self, templates: Mapping[str, Template], partials: Mapping[str, str] | None = None) -> None:
        self.templates = dict(templates)
        self.partials = dict(partials or {})

    @classmethod
    def load(cls, folder: Path) -> TemplateLibrary:
        """Every template in `folder`; none where there is no such folder. Raises TemplateFault."""
        counter = TokenCounter()
        partials = {file.stem: _partial(file) for file in sorted((folder / "partials").glob("*.jinja"))}
        templates: dict[str, Template] = {}
        labelled: dict[tuple[str, str], str] = {}
        for file in sorted(folder.glob("*.yaml")):
            name = _NAME.fullmatch(file.stem)
            if name is None:
                raise TemplateFault(file.name, "a template's file is called NAME@VERSION.yaml, e.g. handbook@1.yaml")
            template = read_template(_text(file), name[1], int(name[2]), file.name, partials, counter)
            templates[template.reference] = template
            for label in template.front.labels:
                other = labelled.setdefault((template.name, label), file.name)
                if other != file.name:
                    raise TemplateFault(
                        file.name, f"`{label}` is a label of {other} too: one version has it", key="labels"
                    )
        return cls(templates, partials)

    def get(self, reference: str) -> Template:
        """The template of that name and version. Raises TemplateFault."""
        template = self.templates.get(reference)
        if template is None:
            near = difflib.get_close_matches(reference, self.templates, 1)
            raise TemplateFault(
                f"{reference}.yaml", f"there is no such template{f'; did you mean {near[0]}?' if near else ''}"
            )
        return template


def built_in(reference: str) -> Template:
    """A template that comes with the gateway."""
    return TemplateLibrary.load(Path(__file__).parent / "built_in").get(reference)


def read_template(
    text: str,
    name: str,
    version: int,
    file: str,
    partials: Mapping[str, str],
    counter: TokenCounter | None = None,
    tenant: str = "",
) -> Template:
    """A version from its text, compiled and tried. `file` is what faults call it. Raises TemplateFault."""
    source = Source(text, file)
    front = source.front
    known = {**partials, **front.partials}
    included = Included()
    used = sorted(name for name in known.keys() - front.partials.keys() if _names(name, text, known))
    # What is shared is part of what a version says: where it changes, so does the hash.
    said = "\0".join([text, *(f"{shared}\0{known[shared]}" for shared in used)])
    template = Template(
        name=name,
        version=version,
        content_hash=hashlib.sha256(said.encode("utf-8", "replace")).hexdigest()[:16],
        front=front,
        parts=tuple(_part(source, order, known, included) for order in range(len(front.messages))),
        tenant=tenant,
        uses=frozenset(name for name in ("facts", "question") if re.search(rf"\b{name}\b", said)),
        parameters=tuple(
            (parameter, msgspec.Raw(JSON.encode(value)))
            for parameter, value in front.hints.parameters.model_dump(exclude_none=True).items()
        ),
        counter=counter if counter is not None else TokenCounter(),
    )
    _try(template, source)
    return template


def whole_source(text: str, partials: Mapping[str, str], file: str = "template") -> str:
    """The text with the shared partials that it names among its own, so that it says the same for good.

    Raises TemplateFault.
    """
    front = Source(text, file).front
    known = {**partials, **front.partials}
    shared = {name: known[name] for name in sorted(known.keys() - front.partials.keys()) if _names(name, text, known)}
    if not shared:
        return text
    import yaml

    if not front.partials:
        return text.rstrip("\n") + "\n" + yaml.safe_dump({"partials": shared}, allow_unicode=True)
    written = yaml.safe_load(text)
    written["partials"] = {**shared, **front.partials}
    return yaml.safe_dump(written, allow_unicode=True, sort_keys=False)


def _names(name: str, text: str, partials: Mapping[str, str]) -> bool:
    """Whether a text includes a partial, or one that includes it."""
    reached, waiting = {""}, [text]
    while waiting:
        for found in re.findall(r"\{%[-+]?\s*include\s+[\"']([^\"']+)[\"']", waiting.pop()):
            if found not in reached and found in partials:
                reached.add(found)
                waiting.append(partials[found])
    return name in reached


def _part(source: Source, order: int, partials: Mapping[str, str], included: Included) -> TemplatePart:
    part = source.front.messages[order]
    if not isinstance(part, Part):
        return part
    origins = names_of(source.front)
    return TextPart(
        part.role,
        _compiled(source, order, "content", part.content, partials, origins, included),
        _compiled(source, order, "when", part.when, partials, origins, included) if part.when is not None else None,
    )


def names_of(front: FrontMatter) -> dict[str, Origin]:
    """What a template's texts may name, and whose it is."""
    return {**dict.fromkeys(front.inputs, "input"), **_GIVEN}


def _compiled(
    source: Source,
    order: int,
    key: str,
    text: str,
    partials: Mapping[str, str],
    origins: Mapping[str, Origin],
    included: Included,
) -> Text:
    try:
        make = compiled if key == "content" else compiled_condition
        return make(text, partials, origins, included)
    except Wrong as fault:
        raise source.fault(("messages", order, key), f"Jinja: {fault}", fault.line) from None


def _try(template: Template, source: Source) -> None:
    """Render it once with every feature at its default, and with its examples, so that no user meets its mistakes."""
    front = template.front
    tried: list[tuple[tuple[str | int, ...], Example]] = [
        (("examples", n), each) for n, each in enumerate(front.examples)
    ]
    if not any(each.type == "object" or each.items == "object" for each in front.inputs.values() if each.required):
        given = {name: sample(each) for name, each in front.inputs.items() if each.required}
        tried += [((), Example(inputs=given, passages=count)) for count in (0, 1)]
    elif not front.examples:
        raise source.fault(("examples",), "a template with objects among its inputs needs an example to be tried with")
    began = time.thread_time()
    for path, example in tried:
        if time.thread_time() - began > _MOST_TRYING:
            raise source.fault(path, f"to try its examples takes more than {_MOST_TRYING:g} s")
        values = {**front.defaults, **example.features}
        passages = [
            Passage(f"example{n}", "1", f"example{n}#0", "example", 1.0, "Example", "", "x")
            for n in range(example.passages)
        ]
        question = {"role": "user", "content": example.question}
        try:
            template.render([question], FeatureVector("example", {}, values), passages, example.inputs)
        except BadInput as fault:
            raise source.fault((*path, "inputs", fault.name), str(fault)) from None
        except RenderingFailed as fault:
            hint = "; features need a default under `features`" if "no attribute" in str(fault) else ""
            raise source.fault(path or ("messages",), f"Jinja: {fault}{hint}") from None
        except PromptTooLong as fault:
            raise source.fault(path or ("max_prompt_tokens",), f"it does not fit even alone: {fault}") from None


def _partial(file: Path) -> str:
    if _PARTIAL.fullmatch(file.stem) is None:
        raise TemplateFault(f"partials/{file.name}", "a partial's file is called NAME.jinja, in small letters")
    return _text(file)


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError:
        raise TemplateFault(file.name, "is not UTF-8") from None
    except OSError as error:
        raise TemplateFault(file.name, f"can't be read: {error.strerror}") from None
