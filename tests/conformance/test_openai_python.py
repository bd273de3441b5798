"""OpenAI's own suite for its Python SDK, unchanged: the tests of the resources that the gateway serves.

It is written for a mock that knows every id. So it is run with the ids of objects that are there (`real_ids`), and what
fails then must be named below with its reason; and once as published, for the count in docs/conformance.md.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from pathlib import Path

import pytest
from gateway_process import GatewayProcess

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "conformance.md"
FILES = {
    "chat": ("chat/test_completions.py",),
    "completions": ("test_completions.py",),
    "embeddings": ("test_embeddings.py",),
    "files": ("test_files.py",),
    "models": ("test_models.py",),
    "moderations": ("test_moderations.py",),
    "responses": ("test_responses.py", "responses"),
    "vector_stores": ("test_vector_stores.py", "vector_stores"),
}
_ASKED = "(method|raw_response|streaming_response)_"
_NO_ITEMS = "it asks for a page of 0 items; OpenAI's own limit is 1"
KNOWN = {  # by resource: the tests that fail even with real ids, and why
    "chat": {
        f"{_ASKED}(retrieve|update|list|delete).*": "chat completions are not kept to be fetched; responses are",
        "method_create_with_all_params_.*": "it asks for an answer of at most 0 tokens",
    },
    "completions": {"method_create_with_all_params_.*": "`suffix`: text in the middle is not served"},
    "embeddings": {f"{_ASKED}create": "strict mode takes lists, where the SDK asks for base64: OpenAI's answer too"},
    "files": {"method_list_with_all_params": _NO_ITEMS},
    "models": {f"{_ASKED}delete": "models are configured here, and fine-tuned at the vendor"},
    "moderations": {},
    "responses": {
        f"{_ASKED}create_overload_.*": "it names no model",
        "method_create_with_all_params_.*": "it sends fields that the gateway does not know: a 400 names the first",
        f"{_ASKED}retrieve(_with_all_params)?_overload_2": "a kept response is told whole, not as a stream",
        f"{_ASKED}cancel": "responses in the background are not served",
        f"{_ASKED}compact(_with_all_params)?": "compaction is not served",
        f"{_ASKED}count(_with_all_params)?": "tokens are counted at /v1/messages/count_tokens",
        "method_list_with_all_params": _NO_ITEMS,
    },
    "vector_stores": {
        "method_list(_files)?_with_all_params": _NO_ITEMS,
        f"{_ASKED}create(_with_all_params)?": "a batch with neither `file_ids` nor `files`, or with both",
    },
}


def _run(suite: Path, gateway: GatewayProcess, report: Path, *plugins: str) -> dict[str, dict[str, list[str]]]:
    """Names of tests by resource and by `passed`, `failed`, `skipped`."""
    paths = [f"tests/api_resources/{path}" for paths in FILES.values() for path in paths]
    parts = (suite / "src", HERE, suite.parent / "python")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, parts)),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "TEST_API_BASE_URL": gateway.url + "/v1",
    }
    options = ["-q", "-p", "pytest_asyncio.plugin", *plugins, "-p", "no:cacheprovider", "--tb=short"]
    # A socket that the garbage collector closes is told in whichever test runs just then.
    options += ["-W", "default::pytest.PytestUnraisableExceptionWarning"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-o", "addopts=", f"--junitxml={report}", *paths],
        cwd=suite, env=environment, capture_output=True, text=True, timeout=1_800,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout[-3_000:] + done.stderr[-3_000:]
    told: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        path = case.attrib["classname"].rpartition(".")[0].partition("api_resources.")[2].replace(".", "/")
        resource = next(name for name, files in FILES.items() if f"{path}.py" in files or path.split("/")[0] in files)
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        told[resource][outcome].append(case.attrib["name"].removeprefix("test_"))
    return told


@pytest.fixture(scope="module")
def with_real_ids(
    fetched: Path, conforming: GatewayProcess, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, list[str]]]:
    report = tmp_path_factory.mktemp("real") / "report.xml"
    return _run(fetched / "openai-python", conforming, report, "-p", "real_ids")


@pytest.fixture(scope="module")
def as_published(
    fetched: Path, conforming: GatewayProcess, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, list[str]]]:
    return _run(fetched / "openai-python", conforming, tmp_path_factory.mktemp("published") / "report.xml")


@pytest.mark.parametrize("resource", FILES)
def test_what_fails_is_known_with_its_reason(with_real_ids: dict[str, dict[str, list[str]]], resource: str) -> None:
    failed = {name.partition("[")[0] for name in with_real_ids[resource]["failed"]}
    unknown = sorted(name for name in failed if not any(re.fullmatch(known, name) for known in KNOWN[resource]))
    healed = sorted(known for known in KNOWN[resource] if not any(re.fullmatch(known, name) for name in failed))
    assert not unknown, f"{resource}: these fail, and nobody has said why"
    assert not healed, f"{resource}: these pass by now"


@pytest.mark.parametrize("resource", FILES)
def test_the_document_tells_the_count(
    with_real_ids: dict[str, dict[str, list[str]]], as_published: dict[str, dict[str, list[str]]], resource: str
) -> None:
    counts = [len(run[resource][outcome]) for run in (as_published, with_real_ids) for outcome in ("passed", "failed")]
    row = f"| {resource} | " + " | ".join(map(str, counts)) + " |"
    assert row in DOCUMENT.read_text("utf-8").splitlines(), row
