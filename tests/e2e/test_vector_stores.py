"""Files and vector stores through the official SDK, and who may not have them."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from embedding_process import EmbeddingProcess
from gateway_process import GatewayProcess, until
from sample_gateway import key_entry
from upstream.vendor import Vendor

KEYS = {name: f"sk-gw-canary-vs-{name}-19c7" for name in ("a", "b", "c", "ada", "ben", "front", "admin")}
MINUTES = b"# Minutes\n\nThe office parrot Quetzalcoatl eats walnuts at noon.\n"
MENU = b"# Menu\n\nOn Mondays the canteen serves pea soup with croutons.\n"


def configuration(vendor: Vendor, embeddings: EmbeddingProcess) -> dict[str, Any]:
    keys = [
        key_entry("a", KEYS["a"], tenant="a"),
        key_entry("b", KEYS["b"], tenant="b"),
        key_entry("c", KEYS["c"], tenant="c"),
        key_entry("ada", KEYS["ada"], tenant="a", user="ada"),
        key_entry("ben", KEYS["ben"], tenant="a", user="ben"),
        key_entry("front", KEYS["front"], tenant="a", speaks_for_users=True),
        key_entry("admin", KEYS["admin"], admin=True),
    ]
    return {
        "access": {"open_on_loopback": False, "user_header": "x-user", "keys": keys},
        "providers": {
            "extractive": {"kind": "extractive"},
            "mock": {"kind": "openai_compatible", "base_url": vendor.url, "api_key": vendor.api_key},
        },
        "retrieval": {"embeddings": embeddings.settings},
        "models": {"kept": {"targets": ["mock/gpt-mock"], "cache": {"exact": {"ttl": "1h"}}}},
    }


@pytest.fixture(scope="module")
def stores(
    shared_vendor: Vendor, embeddings: EmbeddingProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    with GatewayProcess(configuration(shared_vendor, embeddings), tmp_path_factory.mktemp("stores")) as running:
        yield running
        assert "Traceback" not in running.output, running.output


@pytest.fixture(scope="module")
def clients(stores: GatewayProcess) -> Iterator[dict[str, openai.OpenAI]]:
    made = {
        name: openai.OpenAI(base_url=stores.url + "/v1", api_key=key, max_retries=0, timeout=60)
        for name, key in KEYS.items()
    }
    yield made
    for client in made.values():
        client.close()


def upload(client: openai.OpenAI, name: str, content: bytes) -> Any:
    return client.files.create(file=(name, io.BytesIO(content)), purpose="assistants")


def found(client: openai.OpenAI, store_id: str, query: str, **more: Any) -> list[Any]:
    return list(client.vector_stores.search(vector_store_id=store_id, query=query, **more))


def test_a_files_life(clients: dict[str, openai.OpenAI]) -> None:
    client = clients["a"]
    file = upload(client, "minutes.md", MINUTES)

    assert (file.object, file.bytes, file.filename, file.purpose) == ("file", len(MINUTES), "minutes.md", "assistants")
    assert client.files.retrieve(file.id).id == file.id
    assert file.id in [each.id for each in client.files.list()]
    assert client.files.content(file.id).read() == MINUTES
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)


def test_upload_and_poll_then_search(clients: dict[str, openai.OpenAI]) -> None:
    client = clients["a"]
    store = client.vector_stores.create(name="office", metadata={"team": "kitchen"})
    attached = client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("minutes.md", io.BytesIO(MINUTES)), poll_interval_ms=50
    )
    batch = client.vector_stores.file_batches.upload_and_poll(
        vector_store_id=store.id, files=[("menu.md", io.BytesIO(MENU)), ("bad.pdf", io.BytesIO(b"no pdf"))],
        poll_interval_ms=50,
    )  # fmt: skip

    assert attached.status == "completed"
    assert attached.usage_bytes > 0
    assert (batch.status, batch.file_counts.completed, batch.file_counts.failed) == ("completed", 1, 1)
    (failed,) = client.vector_stores.file_batches.list_files(batch.id, vector_store_id=store.id, filter="failed")
    assert failed.last_error is not None
    assert failed.last_error.code == "invalid_file"
    assert "not a PDF" in failed.last_error.message
    best = found(client, store.id, "What does the parrot eat?")[0]
    assert best.filename == "minutes.md"
    assert best.file_id == attached.id
    assert "walnuts" in best.content[0].text
    assert 0 < best.score <= 1
    now = client.vector_stores.retrieve(store.id)
    assert (now.status, now.name, now.metadata, now.file_counts.total) == (
        "completed",
        "office",
        {"team": "kitchen"},
        3,
    )
    assert "walnuts" in next(iter(client.vector_stores.files.content(attached.id, vector_store_id=store.id))).text


def test_filters_on_attributes_and_their_change(clients: dict[str, openai.OpenAI]) -> None:
    client = clients["a"]
    store = client.vector_stores.create(name="filtered")
    ids = {}
    for name, content, attributes in (
        ("minutes.md", MINUTES, {"kind": "minutes", "year": 2023, "open": True}),
        ("menu.md", MENU, {"kind": "menu", "year": 2025, "open": False}),
    ):
        file = upload(client, name, content)
        ids[name] = file.id
        client.vector_stores.files.create_and_poll(
            file.id, vector_store_id=store.id, attributes=attributes, poll_interval_ms=50
        )

    def names(filters: Any) -> set[str]:
        return {each.filename for each in found(client, store.id, "parrot soup", filters=filters)}

    both = {"minutes.md", "menu.md"}
    assert names({"type": "eq", "key": "kind", "value": "menu"}) == {"menu.md"}
    assert names({"type": "ne", "key": "kind", "value": "menu"}) == {"minutes.md"}
    assert names({"type": "eq", "key": "year", "value": 2025.0}) == {"menu.md"}
    assert names({"type": "eq", "key": "open", "value": True}) == {"minutes.md"}
    assert names({"type": "gt", "key": "year", "value": 2023}) == {"menu.md"}
    assert names({"type": "lte", "key": "year", "value": 2025}) == both
    assert names({"type": "in", "key": "kind", "value": ["menu", "minutes"]}) == both
    assert names({"type": "nin", "key": "kind", "value": ["menu", "minutes"]}) == set()
    either = [{"type": "eq", "key": "kind", "value": "menu"}, {"type": "lt", "key": "year", "value": 2024}]
    assert names({"type": "or", "filters": either}) == both
    assert names({"type": "and", "filters": either}) == set()
    with pytest.raises(openai.BadRequestError) as refused:
        names({"type": "and", "filters": [{"type": "like", "key": "kind", "value": "%"}]})
    assert refused.value.param == "filters.filters[0].type"

    client.vector_stores.files.update(ids["menu.md"], vector_store_id=store.id, attributes={"kind": "poster"})
    client.vector_stores.files.poll(ids["menu.md"], vector_store_id=store.id, poll_interval_ms=50)
    assert names({"type": "eq", "key": "kind", "value": "menu"}) == set()
    assert names({"type": "eq", "key": "kind", "value": "poster"}) == {"menu.md"}


def test_what_is_taken_out_is_found_no_more(clients: dict[str, openai.OpenAI]) -> None:
    client = clients["a"]
    files = [upload(client, name, content) for name, content in (("minutes.md", MINUTES), ("menu.md", MENU))]
    store = client.vector_stores.create(name="short-lived", file_ids=[file.id for file in files])
    until(lambda: client.vector_stores.retrieve(store.id).status == "completed")
    assert {each.filename for each in found(client, store.id, "parrot soup")} == {"minutes.md", "menu.md"}

    assert client.vector_stores.files.delete(files[0].id, vector_store_id=store.id).deleted
    assert {each.filename for each in found(client, store.id, "parrot soup")} == {"menu.md"}
    client.files.delete(files[1].id)
    assert found(client, store.id, "parrot soup") == []
    assert client.vector_stores.delete(store.id).deleted
    with pytest.raises(openai.NotFoundError):
        found(client, store.id, "parrot soup")


def test_lists_in_pages(clients: dict[str, openai.OpenAI]) -> None:
    client = clients["c"]
    made = [client.vector_stores.create(name=f"page {n}").id for n in range(5)]

    assert [each.id for each in client.vector_stores.list(limit=2, order="asc")] == made  # the SDK turns the pages
    page = client.vector_stores.list(limit=2, order="desc")
    assert ([each.id for each in page.data], page.has_more) == (made[:-3:-1], True)
    with pytest.raises(openai.BadRequestError):
        client.vector_stores.list(after="vs_nothing")
    file = upload(client, "menu.md", MENU)
    client.vector_stores.files.create_and_poll(vector_store_id=made[0], file_id=file.id)
    # It was being indexed when a page ended with it, and is not any more.
    rest = client.vector_stores.files.list(vector_store_id=made[0], filter="in_progress", after=file.id)
    assert list(rest) == []


def test_nothing_of_anothers_is_there(stores: GatewayProcess, clients: dict[str, openai.OpenAI]) -> None:
    """Every route, with ids that exist: for another tenant, and for another user of the same one."""
    ada = clients["ada"]
    store = ada.vector_stores.create(name="ada's")
    file = upload(ada, "secret.md", b"# Secret\n\nThe safe opens with 1-2-3.\n")
    batch = ada.vector_stores.file_batches.create_and_poll(store.id, file_ids=[file.id], poll_interval_ms=50)
    assert [each.filename for each in found(ada, store.id, "How does the safe open?")] == ["secret.md"]

    vs, fs = f"/v1/vector_stores/{store.id}", f"/v1/files/{file.id}"
    calls: list[tuple[str, str, Any]] = [
        ("GET", fs, None),
        ("GET", f"{fs}/content", None),
        ("GET", vs, None),
        ("POST", vs, {"name": "mine now"}),
        ("POST", f"{vs}/search", {"query": "How does the safe open?"}),
        ("GET", f"{vs}/files", None),
        ("POST", f"{vs}/files", {"file_id": file.id}),
        ("GET", f"{vs}/files/{file.id}", None),
        ("POST", f"{vs}/files/{file.id}", {"attributes": {}}),
        ("GET", f"{vs}/files/{file.id}/content", None),
        ("POST", f"{vs}/file_batches", {"file_ids": [file.id]}),
        ("GET", f"{vs}/file_batches/{batch.id}", None),
        ("POST", f"{vs}/file_batches/{batch.id}/cancel", None),
        ("GET", f"{vs}/file_batches/{batch.id}/files", None),
        ("POST", "/v1/vector_stores", {"file_ids": [file.id]}),
        ("DELETE", f"{vs}/files/{file.id}", None),
        ("DELETE", vs, None),
        ("DELETE", fs, None),
    ]
    for name in ("a", "b", "ben", "front", "admin"):
        with httpx.Client(base_url=stores.url, headers={"authorization": f"Bearer {KEYS[name]}"}) as http:
            for method, path, body in calls:
                answer = http.request(method, path, json=body)
                assert answer.status_code == 404, (name, method, path, answer.text)
                assert "safe" not in answer.text
            assert store.id not in http.get("/v1/vector_stores").text
            assert file.id not in http.get("/v1/files").text
    with httpx.Client(base_url=stores.url) as http:
        assert http.get(vs).status_code == 401
        trusted = {"authorization": f"Bearer {KEYS['front']}", "x-user": "ada"}
        assert http.get(vs, headers=trusted).status_code == 200
        forged = {"authorization": f"Bearer {KEYS['ben']}", "x-user": "ada"}
        assert http.get(vs, headers=forged).status_code == 404
    # A store that the other tenant owns can't take the file in, and a filter can't reach into it.
    own = clients["b"].vector_stores.create(name="b's")
    for filters in ({"type": "ne", "key": "x", "value": "y"}, {"type": "nin", "key": "within", "value": [store.id]}):
        assert found(clients["b"], own.id, "How does the safe open?", filters=filters) == []
    assert [each.filename for each in found(ada, store.id, "How does the safe open?")] == ["secret.md"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..\\..\\boot.ini"])
def test_a_path_in_a_name_is_only_a_name(clients: dict[str, openai.OpenAI], name: str) -> None:
    file = upload(clients["a"], name, b"text")

    assert "/" not in file.filename
    assert "\\" not in file.filename


def test_bad_uploads_are_refused_whole(stores: GatewayProcess) -> None:
    with httpx.Client(base_url=stores.url, headers={"authorization": f"Bearer {KEYS['b']}"}) as http:
        before = len(http.get("/v1/files").json()["data"])
        file = ("a.md", b"text")
        refusals = [
            (http.post("/v1/files", files={"file": file}), "purpose"),
            (http.post("/v1/files", files={"file": file}, data={"purpose": "mischief"}), "purpose"),
            (http.post("/v1/files", data={"purpose": "assistants"}), "file"),
            (http.post("/v1/files", files={"other": file}, data={"purpose": "assistants"}), "file"),
            (http.post("/v1/files", files=[("file", file), ("file", file)], data={"purpose": "assistants"}), "file"),
            (http.post("/v1/files", json={"purpose": "assistants"}), "file"),
            (http.post("/v1/files", content=b"--x\r\nbroken", headers={"content-type": "multipart/form-data; boundary=x"}), "file"),
        ]  # fmt: skip
        assert [(answer.status_code, answer.json()["error"]["param"]) for answer, _ in refusals] == [
            (400, param) for _, param in refusals
        ]
        assert len(http.get("/v1/files").json()["data"]) == before
    assert len(list((stores.folder / "data" / "files" / "files").glob("*.*"))) == 0


def test_an_erased_users_files_go_from_every_search(stores: GatewayProcess, clients: dict[str, openai.OpenAI]) -> None:
    front, shared = clients["front"].with_options(default_headers={"x-user": "cleo"}), clients["a"]
    own = upload(front, "cleo.md", b"Cleo keeps an axolotl called Xanthippe.")
    store = front.vector_stores.create(name="cleo's", file_ids=[own.id])
    common = shared.vector_stores.create(name="common")
    front.vector_stores.files.create_and_poll(vector_store_id=common.id, file_id=own.id)
    assert found(shared, common.id, "axolotl") == []  # it is cleo's there too
    assert len(found(front, common.id, "axolotl")) == 1
    admin = {"authorization": f"Bearer {KEYS['admin']}"}
    about = {"tenant": "a", "user": "cleo"}
    held = httpx.post(stores.url + "/admin/exports", json=about, headers=admin, timeout=30).text.splitlines()
    assert {"file", "vector_store"} <= {json.loads(line)["object"] for line in held}

    receipt = httpx.post(stores.url + "/admin/erasures", json=about, headers=admin, timeout=30).json()

    assert (receipt["erased"]["files"], receipt["erased"]["vector_stores"]) == (1, 1)
    assert found(front, common.id, "axolotl") == []
    for gone in (lambda: front.files.retrieve(own.id), lambda: front.vector_stores.retrieve(store.id)):
        with pytest.raises(openai.NotFoundError):
            gone()
    assert shared.vector_stores.retrieve(common.id).id == common.id


def test_indexing_goes_on_after_a_kill(tmp_path: Path, vendor: Vendor, embeddings: EmbeddingProcess) -> None:
    """What waited is indexed by the next process, and is there once."""
    made = configuration(vendor, embeddings)
    running = GatewayProcess(made, tmp_path)
    text = "\n\n".join(f"# Part {n}\n\nSentence {n} about ship number {n}." for n in range(150)).encode()
    with running:
        with openai.OpenAI(base_url=running.url + "/v1", api_key=KEYS["a"], max_retries=0) as client:
            store = client.vector_stores.create(name="ships")
            file = upload(client, "ships.md", text)
            client.vector_stores.files.create(store.id, file_id=file.id)
        running.process.kill()
        running.process.wait()
        running._close()
        running.__enter__()
        with openai.OpenAI(base_url=running.url + "/v1", api_key=KEYS["a"], max_retries=0) as client:
            done = client.vector_stores.files.poll(file.id, vector_store_id=store.id, poll_interval_ms=50)
            assert done.status == "completed", done.last_error
            results = found(client, store.id, "ship number 77", max_num_results=50)
    texts = [each.content[0].text for each in results]
    assert len(texts) == len(set(texts))
    assert any("number 77" in text for text in texts[:3])
    assert json.dumps(texts).count("Sentence 77 ") == 1


@pytest.fixture(scope="module")
def office(clients: dict[str, openai.OpenAI]) -> tuple[str, str]:
    """A vector store of tenant a with two files; and the id of the first, the minutes."""
    client = clients["a"]
    store = client.vector_stores.create(name="searched")
    files = [
        client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=(name, io.BytesIO(content)))
        for name, content in (("minutes.md", MINUTES), ("menu.md", MENU))
    ]
    return store.id, files[0].id


WALNUTS = "What does the office parrot eat at noon [1]?"


def searching(store_id: str, **more: Any) -> list[Any]:
    return [{"type": "file_search", "vector_store_ids": [store_id], **more}]


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_has_files_searched(
    clients: dict[str, openai.OpenAI], vendor: Vendor, office: tuple[str, str], stream: bool
) -> None:
    function: Any = {"type": "function", "function": {"name": "feed", "parameters": {"type": "object"}}}
    messages: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": WALNUTS}]
    answer: Any = clients["a"].chat.completions.create(
        model="mock/gpt-mock", messages=messages, stream=stream, tools=searching(office[0], max_num_results=1),
        tool_choice={"type": "file_search"},  # type: ignore[arg-type]  # as in the Responses API
    )  # fmt: skip
    if stream:
        chunks = [chunk for chunk in answer if chunk.choices]
        told, annotations = chunks[-1], chunks[-1].choices[0].delta.annotations
    else:
        told = answer
        annotations = [each.to_dict() for each in answer.choices[0].message.annotations]
    assert [source["document_id"] for source in told.rag["sources"]] == [f"{office[0]}/{office[1]}"]
    assert [each["url_citation"]["url"] for each in annotations] == ["minutes.md"]
    sent = vendor.requests[-1].body
    assert not {"tools", "tool_choice"} & sent.keys(), "the tool is the gateway's"
    assert "walnuts at noon" in sent["messages"][0]["content"]
    assert sent["messages"][1:] == messages

    both = [*searching(office[0]), function]
    clients["a"].chat.completions.create(model="mock/gpt-mock", messages=messages, tools=both)
    assert vendor.requests[-1].body["tools"] == [function]


@pytest.mark.parametrize("stream", [False, True])
def test_responses_tell_the_search_and_cite_files(
    clients: dict[str, openai.OpenAI], vendor: Vendor, office: tuple[str, str], stream: bool
) -> None:
    asked: Any = {
        "model": "mock/gpt-mock", "input": WALNUTS, "tools": searching(office[0], max_num_results=2),
        "include": ["file_search_call.results"],
    }  # fmt: skip
    kinds = []
    if stream:
        with clients["a"].responses.stream(**asked) as events:
            kinds = [event.type for event in events]
            response = events.get_final_response()
    else:
        response = clients["a"].responses.create(**asked)
    search, message = response.output
    assert (search.type, search.status) == ("file_search_call", "completed")
    assert search.queries == [WALNUTS]
    assert next((result.file_id, result.filename) for result in search.results or ()) == (office[1], "minutes.md")
    assert message.type == "message"
    (part,) = message.content
    assert part.type == "output_text"
    (citation,) = part.annotations
    assert citation.type == "file_citation"
    assert (citation.file_id, citation.filename) == (office[1], "minutes.md")
    assert part.text[: citation.index].endswith("[1]")
    if stream:
        steps = [kind.rpartition(".")[2] for kind in kinds if "file_search_call" in kind]
        assert steps == ["in_progress", "searching", "completed"]
        assert kinds.index("response.file_search_call.completed") < kinds.index("response.output_text.delta")

    again = clients["a"].responses.create(
        model="mock/gpt-mock", input="And who eats soup?", previous_response_id=response.id, tools=asked["tools"]
    )
    assert again.output[0].type == "file_search_call"


def test_files_of_others_are_not_searched(
    clients: dict[str, openai.OpenAI], vendor: Vendor, office: tuple[str, str]
) -> None:
    messages: Any = [{"role": "user", "content": WALNUTS}]
    for name in ("b", "c", "admin"):
        with pytest.raises(openai.NotFoundError):
            clients[name].chat.completions.create(model="mock/m", messages=messages, tools=searching(office[0]))
        with pytest.raises(openai.NotFoundError):
            clients[name].responses.create(model="mock/m", input=WALNUTS, tools=searching(office[0]))
    assert vendor.requests == []


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([{"type": "file_search"}], "tools[0].vector_store_ids"),
        ([{"type": "file_search", "vector_store_ids": []}], "tools[0].vector_store_ids"),
        ([{"type": "file_search", "vector_store_ids": ["vs_1"], "max_num_results": 99}], "tools[0].max_num_results"),
        ([{"type": "file_search", "vector_store_ids": ["vs_1"], "tenant": "b"}], "tools[0].tenant"),
        ([{"type": "file_search", "vector_store_ids": ["vs_1"]}] * 2, "tools[1]"),
    ],
)
def test_a_wrong_file_search_is_told(
    clients: dict[str, openai.OpenAI], vendor: Vendor, tools: list[Any], param: str
) -> None:
    messages: Any = [{"role": "user", "content": WALNUTS}]
    with pytest.raises(openai.BadRequestError) as refused:
        clients["a"].chat.completions.create(model="mock/m", messages=messages, tools=tools)
    assert refused.value.param == param
    assert vendor.requests == []


def test_kept_answers_go_with_the_documents_that_they_were_made_of(
    stores: GatewayProcess, clients: dict[str, openai.OpenAI]
) -> None:
    """A document that goes, or comes, is another answer from the next call on; a purge by document names it."""
    client = clients["a"]
    store = client.vector_stores.create(name="kept")

    def load(name: str, content: bytes) -> str:
        done = client.vector_stores.files.upload_and_poll(vector_store_id=store.id, file=(name, io.BytesIO(content)))
        assert done.status == "completed"
        return done.id

    def ask() -> str:
        messages: Any = [{"role": "user", "content": WALNUTS}]
        raw = client.chat.completions.with_raw_response.create(
            model="kept", messages=messages, tools=searching(store.id)
        )
        return raw.headers["x-gateway-cache"]

    def purge(document: str) -> int:
        answer = httpx.post(
            stores.url + "/admin/cache/purge",
            json={"document": document, "collection": "rag_gateway_vector_stores"},
            headers={"authorization": f"Bearer {KEYS['admin']}"},
        )
        return answer.json()["purged"]

    minutes = load("minutes.md", MINUTES)
    assert [ask(), ask()] == ["miss", "hit"]
    menu = load("menu.md", MENU)
    assert [ask(), ask()] == ["miss", "hit"]
    client.vector_stores.files.delete(menu, vector_store_id=store.id)
    until(lambda: ask() == "hit")  # what was found before the menu came is found again
    assert purge(f"{store.id}/{menu}") == 1
    assert purge(f"{store.id}/{minutes}") == 1
    assert ask() == "miss"
    client.vector_stores.files.delete(minutes, vector_store_id=store.id)
    assert ask() == "miss"


def test_a_users_name_is_read_alike_at_every_door(stores: GatewayProcess) -> None:
    def headers(user: bytes) -> dict[bytes, bytes]:
        return {b"authorization": b"Bearer " + KEYS["front"].encode(), b"x-user": user}

    with httpx.Client(base_url=stores.url, timeout=20, trust_env=False) as client:
        sent = {"file": ("a.md", b"hers"), "purpose": (None, "assistants")}
        file = client.post("/v1/files", files=sent, headers=headers("Jürgen".encode("latin-1"))).json()["id"]
        read = {
            user: client.get(f"/v1/files/{file}", headers=headers(user)).status_code
            for user in ("Jürgen".encode(), "Jürgen".encode("latin-1"), "Jörgen".encode("latin-1"))
        }
        assert list(read.values()) == [200, 200, 404]
        asked = {"model": "kept", "messages": [{"role": "user", "content": "whose is it?"}]}
        answer = client.post("/v1/chat/completions", json=asked, headers=headers("Jürgen".encode("latin-1")))
        call = client.get("/v1/calls/" + answer.headers["x-gateway-call-id"], headers=headers(b"x")).json()
        assert call["caller"]["user"] == "Jürgen"
        twice = [(b"x-user", b"ada"), *headers(b"ben").items()]
        assert [
            client.post(path, json=asked, headers=twice).status_code
            for path in ("/v1/chat/completions", "/v1/vector_stores")
        ] == [400, 400]
