"""Models with arms: shares that hold, users that stay, switches that every worker sees, and what is on record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result
from gateway_process import GatewayProcess, until
from sample_gateway import KEY_A, KEY_ADMIN, key_entry
from upstream.vendor import Vendor

from gateway.cli import main

ADMIN = {"authorization": f"Bearer {KEY_ADMIN}"}


# Models that tests change are theirs alone, and so are the targets: else one's failures would be another's.
_OF_THEIR_OWN = {
    "canary": ("cli", "untouched"),
    "colours": ("failing", "cli"),
    "letters": ("recorded", "judged"),
    "planned": ("badly",),
}


def models() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind in ("canary", "colours", "letters", "planned", "learning", "quick", "kept"):
        for suffix in ("", *(f"-{own}" for own in _OF_THEIR_OWN.get(kind, ()))):
            found[kind + suffix] = model(kind, suffix)
    return found


def model(kind: str, suffix: str) -> dict[str, Any]:
    def arm(name: str, weight: float = 1) -> dict[str, Any]:
        return {"provider": "mock", "model": name + suffix, "arm": name, "weight": weight}

    kinds: dict[str, dict[str, Any]] = {
        "canary": {"targets": [arm("stable", 80), arm("new", 20)], "strategy": "canary"},
        "colours": {"targets": [arm("blue"), arm("green")], "strategy": "blue_green"},
        "letters": {
            "targets": [arm("a"), arm("b"), arm("c")],
            "strategy": {"kind": "ab", "sticky": "conversation"},
        },
        "planned": {
            "targets": [arm("stable"), arm("new")],
            "strategy": {
                "kind": "canary",
                "sticky": "call",
                "plan": {"steps": [0.5, 1.0], "calls_per_step": 30, "max_latency_increase": 20},
            },
        },
        "learning": {
            "targets": [arm("good"), arm("poor")],
            "strategy": {"kind": "bandit", "floor": 0.05, "reward": {"feedback": 1.0}},
        },
        "quick": {
            "targets": [arm("quicker"), arm("slower")],
            "strategy": {
                "kind": "bandit",
                "floor": 0.05,
                "reward": {"feedback": 0.5, "latency": 0.5, "latency_reference": "300ms", "wait": "500ms"},
            },
        },
        "kept": {
            "targets": [arm("stable", 1), arm("new", 1)],
            "strategy": {"kind": "canary", "sticky": "call"},
            "cache": {"exact": {"ttl": "1h"}},
        },
    }
    return kinds[kind]


def configuration(vendor: Vendor, database: Path) -> dict[str, Any]:
    return {
        "records": {"url": f"sqlite:///{database}"},
        "access": {
            "open_on_loopback": False,
            "keys": [
                key_entry("front", KEY_A, tenant="a", speaks_for_users=True),
                key_entry("admin", KEY_ADMIN, admin=True),
            ],
        },
        "providers": {
            "mock": {
                "kind": "openai_compatible",
                "base_url": vendor.url,
                "api_key": vendor.api_key,
                "retries": {"attempts": 0},
            }
        },
        "models": models(),
    }


@pytest.fixture(scope="module")
def both(shared_vendor: Vendor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[GatewayProcess]]:
    folder = tmp_path_factory.mktemp("arms")
    asked = configuration(shared_vendor, folder / "shared.db")
    with GatewayProcess(asked, folder / "one") as one, GatewayProcess(asked, folder / "two") as other:
        yield [one, other]
    for running in (one, other):
        assert "Traceback" not in running.output, running.output


@pytest.fixture
def two(both: list[GatewayProcess], vendor: Vendor) -> list[GatewayProcess]:
    """Two workers over one record store."""
    return both


class Door:
    """Calls to one gateway over one connection."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._client = httpx.Client(base_url=gateway.url, timeout=20, trust_env=False)

    def __enter__(self) -> Door:
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.close()

    def arm(self, model: str, user: str | None = None, text: str = "hello", **more: Any) -> str:
        """The arm that answers."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
        if user is not None:
            body["user"] = user
        answer = self._client.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY_A}"})
        assert answer.status_code == 200, answer.text
        self.call_id = answer.headers["x-gateway-call-id"]
        assert answer.headers["x-gateway-arm"] in answer.headers["x-gateway-target"]
        return str(answer.headers["x-gateway-arm"])

    def act(self, model: str, **change: Any) -> httpx.Response:
        return self._client.post(f"/admin/routing/{model}", json=change, headers=ADMIN)

    def get(self, path: str, headers: dict[str, str] = ADMIN) -> Any:
        return self._client.get(path, headers=headers).json()

    def post(self, path: str, body: Any, key: str = KEY_A) -> httpx.Response:
        return self._client.post(path, json=body, headers={"authorization": f"Bearer {key}"})


def test_a_canarys_share_holds_and_each_user_stays(two: list[GatewayProcess]) -> None:
    with Door(two[0]) as one, Door(two[1]) as other:
        users = [f"user-{number}" for number in range(400)]
        first = {user: one.arm("canary", user) for user in users}
        share = Counter(first.values())["new"] / len(users)
        assert 0.12 <= share <= 0.28, "a fifth, within four standard deviations"
        again = {user: other.arm("canary", user, text="something else") for user in users[:100]}
        assert again == {user: first[user] for user in again}, "in every worker"

        assert one.act("canary", action="set_shares", shares={"new": 0.5}, reason="it does well").status_code == 200
        grown = {user: one.arm("canary", user) for user in users}
        assert all(grown[user] == "new" for user in users if first[user] == "new"), "nobody is moved back"
        assert 0.4 <= Counter(grown.values())["new"] / len(users) <= 0.6


def test_a_switch_takes_effect_in_all_workers_and_survives_them(two: list[GatewayProcess], vendor: Vendor) -> None:
    with Door(two[0]) as one, Door(two[1]) as other:
        assert (one.arm("colours"), other.arm("colours")) == ("blue", "blue")
        changed = one.act("colours", action="activate", arm="green", reason="release 7").json()
        assert changed["active"] == "green"
        assert one.arm("colours") == "green", "at once where it was said"
        until(lambda: other.arm("colours") == "green", what="the switch in the other worker")
        other.act("colours", action="rollback")
        until(lambda: one.arm("colours") == "blue", what="the way back")
        one.act("colours", action="activate", arm="green")
        events = other.get("/admin/rollouts?model=colours")["data"]
    assert [(event["actor"], event["action"], event["reason"]) for event in events] == [
        ("admin", "activate", ""), ("admin", "rollback", ""), ("admin", "activate", "release 7"),
    ]  # fmt: skip
    assert (events[2]["before"], events[2]["after"]) == ("as configured", "active green")
    folder = two[0].folder
    with GatewayProcess(configuration(vendor, folder.parent / "shared.db"), folder.parent / "three") as later:
        with Door(later) as door:
            assert door.arm("colours") == "green", "from the first call of a new process on"


def test_named_arms_keep_conversations_and_tell_their_results(two: list[GatewayProcess]) -> None:
    with Door(two[0]) as one, Door(two[1]) as other:
        conversations = [f"chat-{number}" for number in range(60)]
        arms = {name: one.arm("letters", metadata={"conversation_id": name}) for name in conversations}
        assert set(arms.values()) == {"a", "b", "c"}
        assert arms == {name: other.arm("letters", metadata={"conversation_id": name}) for name in conversations}
        for name in conversations[:10]:
            assert one.arm("letters", metadata={"conversation_id": name}) == arms[name]
            score = 1.0 if arms[name] == "a" else 0.25
            for said in (score, 0.4, 0.41):  # the first counts: nobody outweighs the others by saying more
                assert one.post("/v1/feedback", {"call_id": one.call_id, "score": said}).status_code == 201

        def counted() -> Any:
            told = other.get("/admin/routing/letters")["arms"]
            whole = sum(arm["calls"] for arm in told.values()), sum(arm.get("ratings", 0) for arm in told.values())
            return told if whole == (130, 10) else None

        told = until(counted, what="both workers' counts")
        assert told["a"]["feedback"] == 1.0
        assert {told[arm]["feedback"] for arm in ("b", "c")} <= {0.25, None}
        assert all(arm["error_rate"] == 0 and arm["first_token_p95"] > 0 for arm in told.values())


def test_the_arm_and_its_propensity_are_on_record(two: list[GatewayProcess]) -> None:
    with Door(two[0]) as one:
        arm = one.arm("letters-recorded", metadata={"conversation_id": "x"})
        call = one.get(f"/v1/calls/{one.call_id}", {"authorization": f"Bearer {KEY_A}"})
    assert call["arm"] == {"name": arm, "propensity": pytest.approx(1 / 3)}


def test_an_arm_that_fails_before_it_answers_is_stood_in_for(two: list[GatewayProcess], vendor: Vendor) -> None:
    vendor.behaviours["green-failing"] = {"status": 503}
    with Door(two[0]) as one:
        one.act("colours-failing", action="activate", arm="green")
        body = {"model": "colours-failing", "messages": [{"role": "user", "content": "x"}]}
        answer = one.post("/v1/chat/completions", body)
        assert (answer.status_code, answer.headers["x-gateway-target"]) == (200, "mock/blue-failing")
        until(lambda: one.get("/admin/routing/colours-failing")["arms"]["green"].get("error_rate") == 1.0)


def test_one_arms_answer_is_not_kept_for_the_other(two: list[GatewayProcess]) -> None:
    with Door(two[0]) as one:
        assert {one.arm("kept", text="the same question") for _ in range(40)} == {"stable", "new"}


def test_the_command_line_does_the_same(two: list[GatewayProcess]) -> None:
    def run(*arguments: str, url: str = two[0].url, key: str = KEY_ADMIN) -> Result:
        environment = {"RAG_GATEWAY_URL": url, "RAG_GATEWAY_API_KEY": key, "COLUMNS": "200"}
        return CliRunner(env=environment).invoke(main, ["routing", *arguments])

    assert run("activate", "colours-cli", "green", "--reason", "release 8").output == "colours-cli: active green\n"
    assert run("set", "canary-cli", "new=0.4", url=two[1].url).output == "canary-cli: stable 60.00%, new 40.00%\n"
    assert "as configured -> active green\n    release 8" in run("events", "colours-cli").output
    shown = run("show", "colours-cli").output
    assert "green" in shown
    assert "active" in shown
    for refused, why in [
        (run("set", "canary-cli", "new"), "ARM=SHARE"),
        (run("set", "canary-cli", "new=2"), "from 0 to 1"),
        (run("promote", "nosuch"), "has no arms"),
        (run("show", key=KEY_A), "role `viewer`"),
        (run("show", url="http://127.0.0.1:1"), "Is the gateway running there?"),
    ]:
        assert (refused.exit_code, why in refused.output) == (1, True), refused.output


def ended(door: Door, model: str) -> str | None:
    """How a roll-out has ended; None while it runs."""
    rollout = door.get(f"/admin/routing/{model}")["rollout"]
    return None if rollout is None or rollout["status"] == "running" else str(rollout["status"])


def roll_out(two: list[GatewayProcess]) -> tuple[str, list[Any], Counter[str]]:
    """Calls at both workers until a roll-out has ended: how, what was logged, and where later calls go."""
    with Door(two[0]) as one, Door(two[1]) as other:
        for _ in range(60):
            for door in (one, other):
                for _ in range(10):
                    door.arm("planned")
            if ended(one, "planned"):
                break
        status = until(lambda: ended(one, "planned") == ended(other, "planned") and ended(one, "planned"))
        later = Counter(door.arm("planned") for door in (one, other) for _ in range(10))
        return status, one.get("/admin/rollouts?model=planned")["data"][::-1], later


def test_a_good_canary_is_promoted_by_its_plan(two: list[GatewayProcess]) -> None:
    status, events, later = roll_out(two)
    assert (status, later) == ("promoted", {"new": 20})
    assert [event["action"] for event in events] == ["begin", "advance", "promote"], "by one worker, not by both"
    assert {event["actor"] for event in events} == {"rollout"}
    assert "the error rate 0.0% -> 0.0%" in events[1]["reason"]


def test_a_bad_canary_goes_back_and_no_caller_has_noticed(two: list[GatewayProcess], vendor: Vendor) -> None:
    vendor.behaviours["new-badly"] = {"status": 500}
    with Door(two[0]) as one:
        body = {"model": "planned-badly", "messages": [{"role": "user", "content": "x"}]}
        for _ in range(400):
            assert one.post("/v1/chat/completions", body).status_code == 200
            if ended(one, "planned-badly"):
                break
        until(lambda: ended(one, "planned-badly") == "rolled_back")
        events = one.get("/admin/rollouts?model=planned-badly")["data"]
        vendor.behaviours.clear()
        assert {one.arm("planned-badly") for _ in range(20)} == {"stable"}
    assert events[0]["action"] == "rollback"
    assert "the error rate is worse than allowed" in events[0]["reason"]


def ratings(door: Door, model: str) -> int:
    return sum(arm.get("ratings", 0) for arm in door.get(f"/admin/routing/{model}")["arms"].values())


def test_a_bandit_learns_from_feedback_at_any_worker(two: list[GatewayProcess]) -> None:
    with Door(two[0]) as one, Door(two[1]) as other:
        for batch in range(1, 9):
            for _ in range(20):
                score = 1.0 if one.arm("learning") == "good" else 0.0
                assert other.post("/v1/feedback", {"call_id": one.call_id, "score": score}).status_code == 201
            until(lambda rated=20 * batch: ratings(one, "learning") == rated, what="what the other worker was told")
        until(lambda: Counter(other.arm("learning") for _ in range(40))["good"] >= 32, what="the better arm")
        call = other.get(f"/v1/calls/{other.call_id}", {"authorization": f"Bearer {KEY_A}"})
    assert call["arm"]["name"] in ("good", "poor")
    assert 0 < call["arm"]["propensity"] < 1


def test_the_log_judges_a_policy_that_never_ran(two: list[GatewayProcess]) -> None:
    with Door(two[0]) as one:
        for number in range(60):
            arm = one.arm("letters-judged", metadata={"conversation_id": f"chat-{number}"})
            one.post("/v1/feedback", {"call_id": one.call_id, "score": {"a": 0.9, "b": 0.5, "c": 0.1}[arm]})

    def run(policy: str) -> Result:
        command = ["routing", "evaluate", "letters-judged", "--policy", policy, "--config", str(two[0].file)]
        return CliRunner(env={"COLUMNS": "100"}).invoke(main, command)

    def means(told: Result) -> dict[str, str]:
        return {line.split()[0]: line.split()[1] for line in told.output.splitlines()[1:4]}

    told = run("a")
    assert told.exit_code == 0, told.output
    assert (means(told)["snips"], means(told)["dr"]) == ("0.900", "0.900")
    assert "60 rated calls" in told.output
    assert means(run("a=0.5,c=0.5"))["dr"] == "0.500"
    for refused in ("a=0.5", "z", "a=x"):
        assert run(refused).exit_code == 1


def test_what_nobody_rates_counts_by_what_is_known(two: list[GatewayProcess], vendor: Vendor) -> None:
    vendor.behaviours["slower"] = {"delay": 0.25}
    with Door(two[0]) as one:

        def learnt() -> bool:
            return Counter(one.arm("quick") for _ in range(20))["quicker"] >= 16

        until(learnt, what="the quicker arm")
        until(lambda: (one.get("/admin/routing/quick")["arms"]["quicker"].get("reward") or 0) > 0.5)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"action": "set_shares"}, "shares"),
        ({"action": "set_shares", "shares": {"nobody": 0.5}}, "shares"),
        ({"action": "set_shares", "shares": {"new": 1.5}}, "shares"),
        ({"action": "set_shares", "shares": {"new": 0.7, "stable": 0.7}}, "shares"),
        ({"action": "activate", "arm": "nobody"}, "arm"),
        ({"action": "resume"}, "action"),
        ({"action": "explode"}, "action"),
        ({"action": "promote", "by": "me"}, "by"),
    ],
)
def test_a_senseless_change_is_refused_whole(two: list[GatewayProcess], change: dict[str, Any], param: str) -> None:
    with Door(two[0]) as one:
        answer = one.act("canary-untouched", **change)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
        assert one.get("/admin/rollouts?model=canary-untouched")["data"] == []


def test_only_an_admin_key_may_look_or_act(two: list[GatewayProcess]) -> None:
    with Door(two[0]) as one:
        for path in ("/admin/routing", "/admin/rollouts", "/admin/targets", "/admin/routing/canary"):
            told = one.get(path, {"authorization": f"Bearer {KEY_A}"})
            assert told["error"]["type"] == "permission_error"
        assert one.post("/admin/routing/canary", {"action": "promote"}).status_code == 403
        assert one.get("/admin/routing/nosuch")["error"]["code"] == "not_found"


def test_feedback_is_for_calls_of_the_own_tenant(two: list[GatewayProcess]) -> None:
    with Door(two[0]) as one:
        one.arm("letters-recorded")
        assert one.post("/v1/feedback", {"call_id": one.call_id, "score": 1}, KEY_ADMIN).status_code == 404
        assert one.post("/v1/feedback", {"call_id": one.call_id}).status_code == 400
        assert one.post("/v1/feedback", {"call_id": one.call_id, "score": 2}).json()["error"]["param"] == "score"
