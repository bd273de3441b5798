"""From a file to a checked configuration, or to all of its faults."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from gateway.config.faults import ConfigError
from gateway.config.guardrails import CHECKS
from gateway.config.loading import Loaded, check_exposure, check_workers, is_loopback, load

HASH = "sha256:" + "0" * 64
KINDS = (
    "anthropic, any_llm, azure_openai, bedrock, cohere, extractive, gemini, local_embeddings, mistral, openai, "
    "openai_compatible, vertex, vllm"
)
MOCK = "providers: {mock: {kind: openai_compatible, base_url: http://127.0.0.1:1/v1}}\n"


def load_text(folder: Path, text: str, env: dict[str, str] | None = None) -> Loaded:
    file = folder / "gateway.yaml"
    file.write_text(dedent(text), "utf-8")
    return load(file, env or {})


def faults(folder: Path, text: str, env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(folder, text, env)
    return str(caught.value).replace("gateway.yaml:", "").splitlines()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "providers:\n  v: {kind: vllm, base_url: 'http://gpu/v1', http2: true}\n",
            "2:3: providers.v: `http2` needs an https address: both sides agree to it in the TLS handshake",
            id="HTTP/2 without TLS",
        ),
        pytest.param(
            "providers: {o: {kind: openai, api_key: k}}\nmodles: {}\n",
            "2:1: modles: is not a setting; allowed: access, charging, cors, data_dir, drift, features, guardrails, "
            "lake, limits, models, page, prompts, providers, records, residency, retrieval, server, state, telemetry; "
            "did you mean `models`?",
            id="an unknown section",
        ),
        pytest.param(
            "providers:\n  o: {kind: openai, api_key: k, timeouts: {conect: 2s}}\n",
            "2:44: providers.o.timeouts.conect: is not a setting; allowed: between_tokens, connect, first_token, total; "
            "did you mean `connect`?",
            id="an unknown setting deep inside a kind of provider",
        ),
        pytest.param(
            "providers:\n  o: {kind: opnai, api_key: k}\n",
            "2:7: providers.o.kind: names the kind of provider; allowed: " + KINDS + "; did you mean `openai`?",
            id="an unknown kind of provider",
        ),
        pytest.param(
            "providers:\n  o: {api_key: k}\n",
            "2:3: providers.o.kind: names the kind of provider; allowed: " + KINDS,
            id="no kind of provider",
        ),
        pytest.param(
            "providers:\n  o: {kind: openai}\n",
            "2:3: providers.o: `api_key` is missing (an empty one switches the provider off)",
            id="missing",
        ),
        pytest.param("models: {}\n", "1:1: providers: is missing", id="no providers"),
        pytest.param("providers: {}\n", "1:1: providers: should name at least one", id="empty providers"),
        pytest.param("", "1:1: a configuration is a mapping that has at least `providers`", id="an empty file"),
        pytest.param("- a\n", "1:1: a configuration is a mapping that has at least `providers`", id="a list"),
        pytest.param(MOCK + "server: {port: eighty}\n", "2:10: server.port: should be a whole number", id="number"),
        pytest.param(
            MOCK + "server: {port: 70000}\n",
            "2:10: server.port: should be less than or equal to 65535",
            id="range",
        ),
        pytest.param(MOCK + "server: [1]\n", "2:1: server: should be a mapping", id="a list for a mapping"),
        pytest.param(MOCK + "server:\n", "2:1: server: is empty", id="an empty section"),
        pytest.param(
            MOCK + "access: {open_on_loopback: perhaps}\n",
            "2:10: access.open_on_loopback: should be true or false",
            id="boolean",
        ),
        pytest.param(
            MOCK + "server: {grace: 30}\n",
            "2:10: server.grace: a duration is a number with its unit: 250ms, 5s, 10m, 1h or 30d",
            id="a duration without its unit",
        ),
        pytest.param(
            MOCK + 'server: {grace: "5s\\n"}\n',
            "2:10: server.grace: a duration is a number with its unit: 250ms, 5s, 10m, 1h or 30d",
            id="a duration with a line break",
        ),
        pytest.param(
            MOCK + f"server: {{body_limit: {'9' * 400}MB}}\n",
            "2:10: server.body_limit: a size is a number with its unit: 512kB, 20MB or 1GiB",
            id="an endless size",
        ),
        pytest.param(
            MOCK + "models: {a: {targets: [mock/x], strategy: wieghted}}\n",
            "2:33: models.a.strategy: is not one of what is allowed; allowed: ab, bandit, best_of, blue_green, canary, "
            "least_busy, least_cost, least_latency, prefix_affinity, priority, shadow, weighted; did you mean `weighted`?",
            id="a word that is not one of a few",
        ),
        pytest.param(
            MOCK + "models: {a: {targets: [mock/x, mock/y], strategy: {kind: canary, stiky: user}}}\n",
            "2:66: models.a.strategy.stiky: is not a setting; allowed: kind, plan, sticky; did you mean `sticky`?",
            id="an unknown setting of a strategy",
        ),
        pytest.param(
            MOCK + "models: {a: {targets: [mock/x], guardrails: {input: [pii, secret]}}}\n",
            "2:59: models.a.guardrails.input[1]: there is no check `secret`, and no set of that name in `guardrails`; "
            f"allowed: {', '.join(sorted(CHECKS))}; did you mean `secrets`?",
            id="an unknown check in short form",
        ),
        pytest.param(
            MOCK + "models: {a: {targets: [mock/x], guardrails: {input: [{check: secrets, min_score: 1}]}}}\n",
            "2:71: models.a.guardrails.input[0].min_score: is not a setting; allowed: action, check, message, monitor, "
            "sample, threshold",
            id="a setting of another check",
        ),
        pytest.param(
            MOCK + "models: {a: {targets: [mock/x], guardrails: {input: [{check: secret}]}}}\n",
            "2:55: models.a.guardrails.input[0].check: names no check; "
            f"allowed: {', '.join(sorted(CHECKS))}; did you mean `secrets`?",
            id="an unknown check",
        ),
        pytest.param(
            MOCK
            + "models: {a: {targets: [mock/x], guardrails: {input: [{check: keywords, lists: [{kind: k, word: [b]}]}]}}}\n",
            "2:90: models.a.guardrails.input[0].lists[0].word: is not a setting; allowed: case_sensitive, kind, "
            "patterns, whole_words, words; did you mean `words`?",
            id="an unknown setting of a list of a check",
        ),
        pytest.param(
            MOCK
            + "models: {a: {targets: [mock/x], guardrails: {input: [{check: injection, action: mask, strict: false}]}}}\n",
            "2:54: models.a.guardrails.input[0]: what has left can't be masked: `strict: false` goes with block or flag",
            id="masks on what has left",
        ),
        pytest.param(
            MOCK + "models: {a: {targets: [mock/x], guardrails: {input: [{check: injection, embeddings: local}]}}}\n",
            "2:73: models.a.guardrails.input[0].embeddings: `local` needs the `retrieval` section, which runs the embedder",
            id="an embedder that nobody runs",
        ),
        pytest.param(
            MOCK + "models: {a: {targets: [mock/x], guardrails: {output: [{check: groundedness, judge: nobody/x}]}}}\n",
            "2:77: models.a.guardrails.output[0].judge: there is no provider `nobody`; allowed: mock",
            id="a judge that is no target",
        ),
        pytest.param(
            MOCK + "guardrails: {all: [pii, all]}\nmodels: {a: {targets: [mock/x]}}\n",
            "2:25: guardrails.all[1]: a set holds rules, not another set's name",
            id="a set in a set",
        ),
        pytest.param(
            MOCK + "guardrails: {pii: [secrets]}\nmodels: {a: {targets: [mock/x]}}\n",
            "2:14: guardrails.pii: is the name of a check; choose another for this set",
            id="a set by a check's name",
        ),
        pytest.param(
            MOCK
            + "guardrails: {away: [{check: pii, action: pseudonymise}]}\n"
            + "models: {a: {targets: [mock/x], guardrails: {input: [away], output: [away]}}}\n",
            "3:70: models.a.guardrails.output[0]: `pseudonymise` is for input: what it replaces there comes back in the "
            "output",
            id="a set where it does not fit",
        ),
        pytest.param(
            MOCK
            + f'access: {{keys: [{{name: a, hash: "{HASH}", guardrails: {{input: [groundedness]}}}}]}}\n'
            + "models: {a: {targets: [mock/x]}}\n",
            None,
            id="a check of answers on what goes in",
        ),
        pytest.param(
            MOCK
            + "residency: {labels: [open, secret], stays: secret, default: open}\n"
            + "models: {a: {targets: [mock/x], guardrails: {input: [{check: webhook, url: http://x/j}]}}}\n",
            "3:71: models.a.guardrails.input[0].url: would be sent what may not leave, as there is a `residency` section: "
            "a server on the premises says `residency: on_premises`",
            id="texts to a webhook outside",
        ),
        pytest.param(
            MOCK + "models: {a: {targets: []}}\n",
            "2:14: models.a.targets: should name at least one",
            id="no target",
        ),
        pytest.param(
            MOCK + "models: {a: {targets: [mok/x]}}\n",
            "2:24: models.a.targets[0]: there is no provider `mok`; allowed: mock; did you mean `mock`?",
            id="an unknown provider, short form",
        ),
        pytest.param(
            MOCK + "models:\n  a:\n    targets:\n      - provider: mok\n        model: x\n",
            "5:9: models.a.targets[0].provider: there is no provider `mok`; allowed: mock; did you mean `mock`?",
            id="an unknown provider, long form",
        ),
        pytest.param(
            MOCK + "models: {a: {targets: [mock/x], fallbacks: [mock]}}\n",
            "2:45: models.a.fallbacks[0]: say which model of `mock`: mock/MODEL",
            id="a fallback without its model",
        ),
        pytest.param(
            "providers: {o: {kind: openai, api_key: ''}}\nmodels: {a: {targets: [o/x]}}\n",
            "2:14: models.a.targets: every provider named here is switched off: give one an api_key",
            id="only targets that are switched off",
        ),
        pytest.param(
            MOCK + "models: {mock/x: {targets: [mock/y]}}\n",
            "2:10: models.mock/x: hides the plain provider/model of the same name; choose another",
            id="a model named like provider/model",
        ),
        pytest.param(
            "providers: {a/b: {kind: extractive}}\n",
            "1:13: providers.a/b: a provider's name has no slash: it stands before one in provider/model",
            id="a provider with a slash",
        ),
        pytest.param(
            "providers: {e: {kind: local_embeddings}}\n",
            "1:13: providers.e: local_embeddings needs the `retrieval` section, which runs the embedder",
            id="embeddings without what runs them",
        ),
        pytest.param(
            MOCK + "models: {a: {targets: [mock/x], prompt: handbook}}\n",
            "2:33: models.a.prompt: should be NAME@VERSION or NAME@LABEL, like handbook@1 or handbook@production",
            id="a prompt without version",
        ),
        pytest.param(
            MOCK + "models: {a: {targets: [mock/x], summary: {model: mock/x}}}\n",
            "2:33: models.a.summary: sums up what has no room in a prompt template: name one with `prompt`",
            id="a summary without prompt",
        ),
        pytest.param(
            MOCK + "models: {a: {targets: [mock/x], features: {service: s}}}\n",
            "2:10: models.a: `features` are given to the prompt template: name one with `prompt: NAME@VERSION`",
            id="features without a template",
        ),
        pytest.param(
            MOCK + "models: {a: {targets: [mock/x], prompt: handbook@1, features: {service: s}}}\n",
            "2:53: models.a.features: needs the top-level `features` section, which names the Feast repository",
            id="features without a repository",
        ),
        pytest.param(
            MOCK + "models: {a: {targets: [mock/x], prompt: handbook@1, retrieval: {collection: c}}}\n",
            "2:53: models.a.retrieval: needs the top-level `retrieval` section",
            id="retrieval without its section",
        ),
        pytest.param(
            MOCK + "retrieval: {collections: {docs: {}}}\n"
            "models: {a: {targets: [mock/x], prompt: handbook@1, retrieval: {collection: doc}}}\n",
            "3:65: models.a.retrieval.collection: is not one of retrieval.collections; allowed: docs; "
            "did you mean `docs`?",
            id="an unknown collection",
        ),
        pytest.param(
            MOCK + "access: {keys: [{name: a, hash: abc}]}\n",
            "2:27: access.keys[0].hash: should be `sha256:` and 64 hexadecimal digits, as `rag-gateway keys create` "
            "prints it",
            id="a hash that is none",
        ),
        pytest.param(
            MOCK
            + f'access: {{keys: [{{name: a, hash: "{HASH}", models: [nope]}}]}}\nmodels: {{n: {{targets: [mock/x]}}}}\n',
            "2:108: access.keys[0].models: there is no model `nope`; allowed: n",
            id="a key for an unknown model",
        ),
        pytest.param(
            "providers: {m: {kind: openai_compatible, base_url: api.example.com}}\n",
            "1:42: providers.m.base_url: should be a URL like https://api.example.com/v1",
            id="a URL without its scheme",
        ),
        pytest.param(
            "providers: {m: {kind: openai_compatible, base_url: http://api.example.com:port/v1}}\n",
            "1:42: providers.m.base_url: should be a URL like https://api.example.com/v1",
            id="a URL with a port that is none",
        ),
        pytest.param(
            "providers: {m: {kind: openai_compatible, base_url: https://x/v1/chat/completions}}\n",
            "1:42: providers.m.base_url: a base URL ends before the endpoint, where /chat/completions begins",
            id="a URL with the endpoint",
        ),
        pytest.param(
            MOCK + "features: {repo: x, online_store: mysql://h}\n",
            "2:21: features.online_store: the online store is repo, sqlite, a redis:// URL, or a feature server's http:// URL "
            "without credentials",
            id="an unknown store",
        ),
        pytest.param(
            "a: 1\nb: [\n",
            "3:1: not valid YAML: expected the node content, but found '<stream end>'",
            id="yaml",
        ),
        pytest.param(
            MOCK + "residency: {labels: [open, secret], stays: secret, default: open}\n"
            "retrieval: {embeddings: {url: http://x/v1}, collections: {}}\n",
            "3:26: retrieval.embeddings.url: would be sent what may not leave, as there is a `residency` section: a "
            "server on the premises says `residency: on_premises`",
            id="questions that may not leave",
        ),
        pytest.param("a: \x00\n", "1:4: not valid YAML: the character U+0000 is not allowed", id="nul"),
        pytest.param("a: &a [*a]\n", "1:1: not valid YAML: nested too deeply", id="an alias of itself"),
        pytest.param("[" * 5000, "1:1: not valid YAML: nested too deeply", id="deep nesting"),
        pytest.param("a: !!python/object:os.system x\n", None, id="a tag of Python's"),
    ],
)
def test_a_fault_says_where_and_what(tmp_path: Path, text: str, expected: str | None) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "handbook@1.yaml").touch()
    found = faults(tmp_path, text)
    if expected is None:
        assert len(found) >= 1
        assert all(line[0].isdigit() for line in found)
    else:
        assert found == [expected]


def test_what_fits_none_of_several_forms_is_told_of_each_at_its_place(tmp_path: Path) -> None:
    assert faults(tmp_path, MOCK + "records: {retention: {calls: never}}\n") == [
        "2:23: records.retention.calls: a duration is a number with its unit: 250ms, 5s, 10m, 1h or 30d",
        "2:23: records.retention.calls: is not one of what is allowed; allowed: forever; did you mean `forever`?",
    ]


def test_a_template_that_is_no_file_may_be_in_the_record_store(tmp_path: Path) -> None:
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "handbook@1.yaml").touch()
    targets = "[{provider: mock, model: x, arm: a}, {provider: mock, model: x, arm: b, prompt: handbook@next}]"
    text = MOCK + f"models: {{a: {{targets: {targets}, strategy: ab, prompt: handbok@1}}}}\n"
    first, second = load_text(tmp_path, text).awaited
    assert first[0] == "handbok@1"
    assert str(first[1]).endswith(
        "models.a.prompt: is neither in the prompts folder nor in the record store; allowed: handbook@1; "
        "did you mean `handbook@1`?"
    )
    assert (second[0], second[1].key) == ("handbook@next", "models.a.targets[1].prompt")


def test_all_faults_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
        providers:
          m: {kind: openai_compatible, base_url: http://x/v1, api_key: ${NOPE}}
        server: {prot: 1, port: x}
        models:
          a: {targets: [m/x], strategy: random}
        """
    assert [line.partition(": ")[0] for line in faults(tmp_path, text)] == ["2:64", "3:10", "3:19", "5:23"]


def test_a_secret_is_in_no_fault(tmp_path: Path) -> None:
    secret = "sk-canary-7f3a"
    text = """\
        providers:
          a: {kind: openai, api_key: "${SECRET}\\n"}
          b: {kind: openai, api_key: ["${SECRET}"]}
          c: {kind: openai_compatible, base_url: "http://user:${SECRET}@h/v1"}
          d: {kind: openai, api_key: k, headers: {x: "${SECRET}é"}}
        access: {keys: [{name: a, hash: "${SECRET}"}]}
        """
    found = faults(tmp_path, text, {"SECRET": secret})
    assert len(found) == 5
    assert secret not in "\n".join(found)


def test_relative_paths_count_from_the_files_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        MOCK
        + "data_dir: ../data\nretrieval: {collections: {c: {load: [docs, /abs]}}}\nfeatures: {repo: repo, sample_users: u.csv}\n"
    )
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "gateway.yaml").write_text(text)
    monkeypatch.chdir(folder)
    configuration = load(Path("gateway.yaml"), {}).configuration
    assert configuration.retrieval is not None
    assert configuration.features is not None
    assert (
        configuration.data_dir,
        configuration.prompts.folder,
        configuration.retrieval.collections["c"].load,
        configuration.features.repo,
        configuration.features.sample_users,
        configuration.records.url,
    ) == (
        tmp_path / "data",
        folder / "prompts",
        [folder / "docs", Path("/abs")],
        folder / "repo",
        folder / "u.csv",
        f"sqlite:///{tmp_path}/data/gateway.db",
    )


def test_the_revision_names_the_text_and_not_what_the_environment_says(tmp_path: Path) -> None:
    text = "providers: {o: {kind: openai, api_key: '${KEY}'}}\n"
    first = load_text(tmp_path, text, {"KEY": "one"}).revision
    assert load_text(tmp_path, text, {"KEY": "two"}).revision == first
    assert load_text(tmp_path, text + "# more\n", {"KEY": "one"}).revision != first


def test_a_target_that_is_switched_off_is_a_notice_where_another_is_on(tmp_path: Path) -> None:
    text = """\
        providers: {o: {kind: openai, api_key: "${KEY:-}"}, e: {kind: extractive}}
        models: {a: {targets: [o/x], fallbacks: [e]}}
        """
    assert load_text(tmp_path, text).notices == ("provider o is switched off: its api_key is empty",)
    assert load_text(tmp_path, text, {"KEY": "k"}).notices == ()


def test_a_key_may_name_plain_models_and_whole_providers(tmp_path: Path) -> None:
    text = MOCK + f'access: {{keys: [{{name: a, hash: "{HASH}", models: [mock/x, mock/*]}}]}}\n'
    assert load_text(tmp_path, text).configuration.access.keys[0].models == ["mock/x", "mock/*"]


def test_two_keys_share_neither_name_nor_hash(tmp_path: Path) -> None:
    key = f'{{name: a, hash: "{HASH}"}}'
    assert [line.partition(": ")[2] for line in faults(tmp_path, MOCK + f"access: {{keys: [{key}, {key}]}}\n")] == [
        "access.keys[1].name: is another key's name too",
        "access.keys[1].hash: is another key's hash too",
    ]


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        pytest.param(lambda file: None, "can't be read: No such file or directory", id="absent"),
        pytest.param(lambda file: file.mkdir(), "can't be read: Is a directory", id="a folder"),
        pytest.param(lambda file: file.write_bytes(b"a: \xff\n"), "is not UTF-8", id="another encoding"),
        pytest.param(lambda file: file.write_bytes(b"#" * 2_000_001), "larger than 2000000 bytes", id="too large"),
    ],
)
def test_a_file_that_cannot_be_taken_is_a_fault(tmp_path: Path, prepare: object, message: str) -> None:
    file = tmp_path / "gateway.yaml"
    prepare(file)  # type: ignore[operator]  # a parametrised lambda
    with pytest.raises(ConfigError) as caught:
        load(file, {})
    assert str(caught.value).endswith(f"gateway.yaml:1:1: {message}")


ADMIN = f'{{name: a, hash: "{HASH}", admin: true}}'
PLAIN = f'{{name: a, hash: "{HASH}"}}'


@pytest.mark.parametrize(
    ("host", "access", "message"),
    [
        ("127.0.0.1", "{}", None),
        ("::1", "{}", None),
        ("localhost", "{}", None),
        ("127.0.0.1", "{open_on_loopback: false}", "no key is configured and open mode is off"),
        ("127.0.0.1", f"{{open_on_loopback: false, keys: [{PLAIN}]}}", None),
        ("0.0.0.0", "{}", "refusing to listen on 0.0.0.0 without an admin key"),
        ("::", "{}", "refusing to listen on :: without an admin key"),
        (
            "gateway.example",
            f"{{keys: [{PLAIN}]}}",
            "refusing to listen on gateway.example without an admin key",
        ),
        ("0.0.0.0", f"{{keys: [{ADMIN}]}}", None),
    ],
)
def test_nobody_is_let_in_by_accident(tmp_path: Path, host: str, access: str, message: str | None) -> None:
    configuration = load_text(tmp_path, MOCK + f"access: {access}\n").configuration
    if message is None:
        check_exposure(configuration, host, "gateway.yaml")
    else:
        with pytest.raises(ConfigError, match=message):
            check_exposure(configuration, host, "gateway.yaml")


def test_a_server_s_queue_has_a_part_for_each_worker(tmp_path: Path) -> None:
    text = 'state: {url: "redis://127.0.0.1:6379/0"}\n'
    text += "providers: {gpu: {kind: openai_compatible, base_url: http://x/v1, api_key: k, queue: {concurrency: 2}}}\n"
    loaded = load_text(tmp_path, text + "models: {m: {targets: [gpu/x]}}\n")
    for count in (1, 2):
        check_workers(loaded, count)
    with pytest.raises(ConfigError) as raised:
        check_workers(loaded, 3)
    (fault,) = raised.value.faults
    assert str(fault) == (
        "gateway.yaml:2:87: providers.gpu.queue.concurrency: 3 workers can't share a concurrency of 2, of which each has "
        "a part: run at most 2, or let the server have 3 calls at a time"
    )


@pytest.mark.parametrize("host", ["", "localhost.example", "127.0.0.1.example", "0", "128.0.0.1", "*"])
def test_what_is_not_surely_loopback_is_not(host: str) -> None:
    assert not is_loopback(host)
