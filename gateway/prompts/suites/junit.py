"""What a suite said, as JUnit XML, which every CI system shows.

https://github.com/testmoapp/junitxml
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from gateway.prompts.suites.results import CaseResult

# What XML 1.0 can't hold: https://www.w3.org/TR/xml/#charsets
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(template: str, results: Sequence[CaseResult]) -> bytes:
    """One `testsuite` for each target, one `testcase` for each case."""
    root = ElementTree.Element(
        "testsuites", name=template, tests=str(len(results)), failures=_count(results, "failed"),
        errors=_count(results, "error"), time=f"{sum(result.seconds for result in results):.3f}",
    )  # fmt: skip
    for target in dict.fromkeys(result.target for result in results):
        mine = [result for result in results if result.target == target]
        suite = ElementTree.SubElement(
            root, "testsuite", name=_plain(target), tests=str(len(mine)), failures=_count(mine, "failed"),
            errors=_count(mine, "error"), time=f"{sum(result.seconds for result in mine):.3f}",
        )  # fmt: skip
        for result in mine:
            case = ElementTree.SubElement(
                suite, "testcase", classname=_plain(template), name=_plain(result.case), time=f"{result.seconds:.3f}"
            )
            if result.error is not None:
                ElementTree.SubElement(case, "error", message=_plain(result.error))
            elif not result.passed:
                reasons = [f"{verdict.name}: {verdict.reason}" for verdict in result.verdicts if not verdict.passed]
                failure = ElementTree.SubElement(case, "failure", message=_plain("; ".join(reasons)))
                failure.text = _plain("\n".join([*reasons, "", "answer:", result.text]))
    return bytes(ElementTree.tostring(root, "utf-8", xml_declaration=True))


def _count(results: Sequence[CaseResult], outcome: str) -> str:
    return str(sum(result.outcome == outcome for result in results))


def _plain(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
