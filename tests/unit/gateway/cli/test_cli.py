"""The commands, as a person types them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from gateway.access.keys import hash_key
from gateway.cli import main
from gateway.config.loading import load
from gateway.config.schema import schema_text

CONFIG = """\
providers: {mock: {kind: openai_compatible, base_url: http://127.0.0.1:1/v1}}
models: {a: {targets: [mock/x]}, b: {targets: [mock/y]}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a configuration where one is looked for, and no variable of the gateway's."""
    for name in ("CONFIG", "URL", "API_KEY"):
        monkeypatch.delenv(f"RAG_GATEWAY_{name}", raising=False)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "gateway.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_a_good_configuration_is_counted(folder: Path) -> None:
    result = run("check", "configs/gateway.yaml")
    revision = load(folder / "configs" / "gateway.yaml", {}).revision
    assert (result.exit_code, result.stdout, result.stderr) == (
        0,
        f"configs/gateway.yaml: ok, 2 models, 1 provider, 0 prompt templates, 0 keys (revision {revision})\n",
        "",
    )


def test_every_fault_is_shown_and_the_status_says_so(folder: Path) -> None:
    file = folder / "bad.yaml"
    file.write_text(CONFIG + "sever: {}\nserver: {port: x}\n")
    result = run("check", str(file))
    assert (result.exit_code, result.stdout) == (1, "")
    assert [line.partition(": ")[0] for line in result.stderr.splitlines()] == [
        "bad.yaml:3:1",
        "bad.yaml:4:10",
    ]


def test_check_finds_a_template_that_does_not_compile(folder: Path) -> None:
    (folder / "configs" / "prompts").mkdir()
    template = "messages:\n  - {role: system, content: 'Hello {{ user.'}\n  - conversation\n"
    (folder / "configs" / "prompts" / "p@1.yaml").write_text(template)
    (folder / "configs" / "gateway.yaml").write_text(CONFIG.replace("[mock/x]", "[mock/x], prompt: p@1"))
    result = run("check")
    assert result.exit_code == 1
    assert result.stderr.startswith("p@1.yaml")


def test_check_finds_a_host_that_serve_would_refuse(folder: Path) -> None:
    (folder / "configs" / "gateway.yaml").write_text(CONFIG + "server: {host: 0.0.0.0}\n")
    for command in ("check", "serve"):
        result = run(command)
        assert result.exit_code == 1
        assert "refusing to listen on 0.0.0.0 without an admin key" in result.stderr


def test_the_configuration_is_the_options_then_the_environments_then_the_folders(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (folder / f"{name}.yaml").write_text(CONFIG)
    assert run("check").stdout.startswith("configs/gateway.yaml: ok")
    monkeypatch.setenv("RAG_GATEWAY_CONFIG", "one.yaml")
    assert run("check").stdout.startswith("one.yaml: ok")
    assert run("check", "--config", "two.yaml").stdout.startswith("two.yaml: ok")


@pytest.mark.parametrize("command", [("serve",), ("check",), ("keys", "list"), ("ingest", ".", "--collection", "c")])
def test_without_a_configuration_a_command_says_how_to_name_one(folder: Path, command: tuple[str, ...]) -> None:
    (folder / "configs" / "gateway.yaml").unlink()
    result = run(*command)
    assert (result.exit_code, result.stderr) == (
        1,
        "no configuration: name one with --config FILE or RAG_GATEWAY_CONFIG; there is no configs/gateway.yaml here\n",
    )


def test_more_than_one_worker_is_refused_with_the_reason(folder: Path) -> None:
    result = run("serve", "--workers", "2")
    assert result.exit_code == 1
    assert "state.url: 2 workers need a state that they share" in result.stderr


def test_check_tells_of_workers_that_share_nothing(folder: Path) -> None:
    (folder / "configs" / "gateway.yaml").write_text(CONFIG + "server: {workers: 3}\n")
    result = run("check")
    assert result.exit_code == 1
    assert "state.url: 3 workers need a state that they share" in result.stderr
    with (folder / "configs" / "gateway.yaml").open("a") as file:
        file.write("state: {url: 'redis://127.0.0.1:6379/0'}\n")
    assert run("check").exit_code == 0


def test_the_schema_is_printed(folder: Path) -> None:
    assert run("schema").stdout == schema_text()


def test_a_created_key_is_shown_once_with_an_entry_that_loads(folder: Path) -> None:
    options = (
        "--name",
        "a: b",
        "--models",
        "a, mock/x",
        "--admin",
        "--user",
        "ada",
        "--tenant",
        "t",
        "--speaks-for-users",
    )
    key, _, shown = run("keys", "create", "--print", *options).stdout.partition("\n")
    (entry,) = yaml.safe_load(shown.partition(":\n")[2])
    assert entry == {
        "name": "a: b",
        "hash": hash_key(key),
        "models": ["a", "mock/x"],
        "tenant": "t",
        "user": "ada",
        "admin": True,
        "speaks_for_users": True,
    }
    file = folder / "configs" / "gateway.yaml"
    file.write_text(CONFIG + yaml.safe_dump({"access": {"keys": [entry]}}))
    assert load(file, {}).configuration.access.keys[0].name == "a: b"
    listed = run("keys", "list").stdout
    assert "a: b" in listed
    assert "admin of the gateway; speaks for users" in listed
    assert key not in listed


def test_a_key_can_be_had_as_json(folder: Path) -> None:
    created = json.loads(run("keys", "create", "--print", "--name", "ci", "--json").stdout)
    assert created == {"key": created["key"], "name": "ci", "hash": hash_key(created["key"])}


@pytest.mark.parametrize("options", [("--tenant", "a b"), ("--name", "")])
def test_a_key_that_no_configuration_would_take_is_not_made(folder: Path, options: tuple[str, str]) -> None:
    result = run("keys", "create", "--print", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(options[0])


def test_an_entry_has_all_that_was_asked_for(folder: Path) -> None:
    options = ("--role", "viewer", "--scope", "tenant", "--endpoints", "embeddings", "--networks", "10.0.0.0/8",
               "--groups", "a,b", "--sensitivity", "secret", "--budget", "5", "--requests-per-minute", "3",
               "--expires", "2030-01-31")  # fmt: skip
    made = json.loads(run("keys", "create", "--print", "--json", *options).stdout)
    del made["key"], made["hash"]
    assert made == {
        "name": "key", "role": "viewer", "scope": "tenant", "endpoints": ["embeddings"], "networks": ["10.0.0.0/8"],
        "groups": ["a", "b"], "sensitivity": "secret", "limits": {"budget": 5.0, "requests_per_minute": 3},
        "expires_at": "2030-01-31",
    }  # fmt: skip


def test_a_key_is_kept_in_the_record_store_where_no_gateway_is_named(folder: Path) -> None:
    made = json.loads(run("keys", "create", "--name", "first", "--models", "a", "--json").stdout)
    assert (made["models"], made["created_by"].partition(":")[0]) == (["a"], "cli")
    listed = run("keys", "list").stdout
    assert made["id"] in listed
    assert made["key"] not in listed
    assert "keys.create" in run("audit").stdout


def test_a_host_needs_no_key_in_the_file_once_the_record_store_may_have_one(folder: Path) -> None:
    (folder / "configs" / "gateway.yaml").write_text(CONFIG + "server: {host: 0.0.0.0}\n")
    run("keys", "create", "--admin")
    result = run("check")
    assert result.exit_code == 0
    assert "only if the record store has one" in result.stderr


def test_every_command_is_there_and_a_slip_of_the_pen_is_guessed(folder: Path) -> None:
    listed = re.findall(r"^  ([a-z]+) +\S", run("--help").stdout.partition("Commands:")[2], re.M)
    assert listed == sorted(listed)
    assert {"ask", "check", "eval", "ingest", "keys", "prompts", "reindex", "schema", "serve"} <= set(listed)
    for command in listed:
        assert run(command, "--help").stdout.startswith(f"Usage: main {command}")
    assert "Did you mean 'keys'?" in run("kyes").stderr
    assert "Did you mean 'retrieval'?" in run("eval", "retreival").stderr


def test_a_configuration_without_keys_says_how_to_make_one(folder: Path) -> None:
    assert run("keys", "list").stdout == "There is no key. Make one with `rag-gateway keys create --name NAME`.\n"


def test_documents_go_only_where_the_configuration_has_a_collection(folder: Path) -> None:
    (folder / "configs" / "gateway.yaml").write_text(CONFIG + "retrieval: {collections: {handbook: {}}}\n")
    result = run("ingest", ".", "--collection", "handbok")
    assert (result.exit_code, result.stderr) == (
        1,
        "there is no collection `handbok` in configs/gateway.yaml; retrieval.collections has: handbook; "
        "did you mean `handbook`?\n",
    )


@pytest.mark.parametrize(
    "command", [["keys", "create", "--print"], ["schema"], ["ask", "hello", "--url", "http://127.0.0.1:1"]]
)
def test_a_light_command_loads_nothing_heavy(command: list[str]) -> None:
    code = (
        "import sys\n"
        "from gateway.cli import main\n"
        f"main({command!r}, standalone_mode=False) if {command[0] != 'ask'} else None\n"
        "if 'ask' in " + repr(command) + ":\n"
        "    try: main(" + repr(command) + ", standalone_mode=False)\n"
        "    except SystemExit: pass\n"
        "heavy = {'fastapi', 'uvicorn', 'torch', 'pymilvus', 'feast', 'presidio_analyzer', 'tiktoken'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
