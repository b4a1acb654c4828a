"""What comes in over HTTP: links, callbacks, health; and the submission of a request."""

import base64
import json
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import anyio
import httpx
import pytest
from pydantic import BaseModel
from starlette.types import ASGIApp

from handlers.agency_answer import read_answer
from orchestrator.bus.port import BusUnavailable, Record
from orchestrator.intake import CannotSubmit, Intake, page
from orchestrator.intake.allowance import Allowance
from orchestrator.intake.app import build_app
from orchestrator.intake.errors import CannotListen
from orchestrator.intake.server import Server
from orchestrator.metrics import Metrics
from orchestrator.privacy.digest import Digests
from orchestrator.privacy.identifiers import Identifier, Identifiers
from orchestrator.privacy.keys import KeyDestroyed, KeyUnknown
from orchestrator.privacy.links import PartyLinks
from orchestrator.privacy.sealing import IDENTIFIERS, unseal
from orchestrator.settings import Dpo, Installation, Settings, Smtp, System
from schemas import topics
from schemas.codec import decode
from schemas.messages import Callback, Language, Request

NOW = 1_788_211_800_000_000
DAY = 86_400_000_000
REQUEST = "7d9f4c1e-0000-4000-8000-000000000001"
PERSON = "canary.person@example.org"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


class Hooked(BaseModel):
    """A vendor's settings with a secret for its webhook."""

    webhook_secret: str = "secret"


class Own(BaseModel):
    """The part of a handler's settings that the page reads."""

    language: Language = "sv"


class Remembered:
    """Which links were answered."""

    def __init__(self) -> None:
        self.events: set[str] = set()

    def seen(self, event_id: str) -> bool:
        return event_id in self.events

    def record(self, event_id: str) -> None:
        self.events.add(event_id)


class Bus:
    """Keeps what is published, or is away."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.numbers: dict[tuple[str, str], int] = {}
        self.away = False

    def publish(self, records: Iterable[Record]) -> None:
        if self.away:
            raise BusUnavailable
        self.records += records

    def publish_word(self, request_id: str, system: str, word: Callable[[int, int], Record]) -> None:
        self.numbers[request_id, system] = order = self.numbers.get((request_id, system), NOW) + 1
        self.publish([word(order, NOW)])


class Client:
    """Asks the application without a network."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    def request(self, method: str, path: str, **given: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(
                transport=transport, base_url="https://radera.example.com"
            ) as client:
                return await client.request(method, path, **given)

        return anyio.run(ask)

    def get(self, path: str) -> httpx.Response:
        return self.request("GET", path)

    def post(self, path: str, **given: Any) -> httpx.Response:
        return self.request("POST", path, **given)


class World:
    """The application with everything that it leans on."""

    def __init__(self, allowance: Allowance | None = None, more: Mapping[str, System] | None = None) -> None:
        self.now = NOW
        self.bus = Bus()
        self.sent = Remembered()
        self.links = PartyLinks(b"d" * 32)
        self.ready = {"orchestrator": True, "worker": True}
        self.metrics = Metrics(["recruitment", "tenant", "superoffice"])
        self.settings = Settings(
            installation=Installation(
                name="Example <AB>", domain="radera.example.com", public_url="https://radera.example.com"
            ),
            dpo=Dpo(address="dpo@example.com"),
            smtp=Smtp(host="mail.example.com", sender="radera@example.com"),
            systems={
                "agency": System(kind="recruitment", own=Own()),
                "byggab": System(kind="tenant"),
                "crm": System(kind="superoffice", own=Hooked()),
                "survey": System(kind="holds_nothing", reason="anonymous"),
                **(more or {}),
            },
        )
        self.client = Client(
            build_app(
                settings=self.settings,
                bus=self.bus,
                links=self.links,
                digests=Digests(b"d" * 32),
                sent=self.sent,
                seal=lambda data: b"\x02" + bytes(byte ^ 0x5A for byte in data),
                clock=lambda: self.now,
                metrics=self.metrics,
                ready=lambda: self.ready,
                allowance=allowance,
            )
        )

    def token(self, system: str = "agency", expires_at: int = NOW + DAY) -> str:
        return self.links.make(REQUEST, system, 1, expires_at)

    def callbacks(self) -> list[tuple[Record, Callback, Any]]:
        found = []
        for record in self.bus.records:
            callback = decode(record.value, Callback)
            found.append((record, callback, json.loads(bytes(b ^ 0x5A for b in callback.sealed_body[1:]))))
        return found


# --- agencies ---


def test_opening_a_link_shows_a_page_and_answers_nothing() -> None:
    """Mail scanners open links; nothing may follow from it, however often."""
    world = World()
    for _ in range(3):
        response = world.client.get(f"/answer/{world.token()}")

        assert 200 == response.status_code
        assert REQUEST in response.text
        assert "Example &lt;AB&gt;" in response.text
    assert [] == world.bus.records
    assert 200 == world.client.request("HEAD", f"/answer/{world.token()}").status_code


def test_the_page_keeps_to_itself() -> None:
    """It loads nothing, isn't kept, framed or indexed, and tells no other site where it was."""
    world = World()
    response = world.client.get(f"/answer/{world.token()}")

    assert (
        dict(page.HEADERS).items()
        <= {
            name.title().replace("X-Content-Type-Options", "X-Content-Type-Options"): value
            for name, value in response.headers.items()
        }.items()
    )
    assert "no-store" == response.headers["cache-control"]
    assert "no-referrer" == response.headers["referrer-policy"]
    assert response.headers["content-security-policy"].startswith("default-src 'none';")
    assert not re.search(r"<script|https?://|src=|href=", response.text)
    assert world.token() not in response.text


@pytest.mark.parametrize(
    ("language", "title"), [("en", "Answer"), ("sv", "Svar på"), ("nb", "Svar på et krav")]
)
def test_the_page_speaks_the_agencys_language(language: Language, title: str) -> None:
    """The system's own setting decides, not the browser."""
    world = World()
    systems = {**world.settings.systems, "agency": System(kind="recruitment", own=Own(language=language))}
    object.__setattr__(world.settings, "systems", systems)
    response = world.client.get(f"/answer/{world.token()}")

    assert f'<html lang="{language}">' in response.text
    assert f"<title>{title}" in response.text


def test_an_answer_is_sealed_and_published_once() -> None:
    """The handler gets the token and the form; the record says which request and system, and nothing else."""
    world = World()
    token = world.token()
    response = world.client.post(f"/answer/{token}", content="answer=erased", headers=FORM)

    assert 200 == response.status_code
    ((record, callback, content),) = world.callbacks()
    assert (topics.callbacks("recruitment"), REQUEST) == (record.topic, record.key)
    assert ("recruitment", "agency", NOW) == (callback.kind, callback.system, callback.received_at)
    assert (token, b"answer=erased") == (content["token"], base64.b64decode(content["body"]))
    assert {"content-type": FORM["Content-Type"]} == content["headers"]
    assert token.encode() not in record.value


def test_a_link_is_answered_once() -> None:
    """Afterwards it says so, to GET and POST alike, and publishes nothing more."""
    world = World()
    path = f"/answer/{world.token()}"
    world.client.post(path, content="answer=erased", headers=FORM)
    again = world.client.post(path, content="answer=nothing_held", headers=FORM)
    shown = world.client.get(path)

    assert (410, 410) == (again.status_code, shown.status_code)
    assert "besvarad" in again.text
    assert 1 == len(world.bus.records)


def test_a_link_has_its_time() -> None:
    """An expired one is told apart from one that was never ours."""
    world = World()
    path = f"/answer/{world.token(expires_at=NOW)}"

    assert (410, 410) == (world.client.get(path).status_code, world.client.post(path).status_code)
    assert "gått ut" in world.client.get(path).text
    for token in ("x", "A" * 90, world.token()[:-1], world.token("no-such-system")):
        assert 404 == world.client.get(f"/answer/{token}").status_code
        assert 404 == world.client.post(f"/answer/{token}", content="answer=erased").status_code
    assert [] == world.bus.records


@pytest.mark.parametrize(
    "body",
    [
        "",
        "answer=",
        "answer=anything",
        "answer=erased&answer=refused",
        "answer=retained&legal_basis=because&retained_until=",
        "answer=retained&legal_basis=bookkeeping&retained_until=soon",
        "answer=refused&reason=anna@example.org",
        "answer=\xff",
        "answer=erased&" + "x=" * 3000,
    ],
)
def test_an_answer_that_says_nothing_leaves_the_link_as_it_was(body: str) -> None:
    """The agency is asked again, and can still answer."""
    world = World()
    path = f"/answer/{world.token()}"
    response = world.client.post(path, content=body.encode("latin-1"), headers=FORM)

    assert 422 == response.status_code
    assert 'role="alert"' in response.text
    assert [] == world.bus.records
    assert 200 == world.client.post(path, content="answer=nothing_held", headers=FORM).status_code


def test_every_answer_the_page_offers_means_something_to_the_handler() -> None:
    """Page and handler use the same words, so no answer is lost between them."""
    world = World()
    shown = world.client.get(f"/answer/{world.token()}").text
    forms = [f"answer={answer}" for answer in ("erased", "nothing_held")]
    forms += [f"answer=retained&legal_basis={one}&retained_until=2026-12-31" for one in page.BASES]
    forms += [f"answer=refused&reason={one}" for one in page.REASONS]
    for form in forms:
        response = world.client.post(f"/answer/{world.token()}", content=form, headers=FORM)
        world.sent.events.clear()

        assert 200 == response.status_code
        assert read_answer(form.encode(), prove_at=None).kind
    for value in re.findall(r'value="([a-z_]+)"', shown):
        assert any(value in form for form in forms)


def test_an_answer_that_cannot_be_kept_is_not_thanked_for() -> None:
    """Nothing takes it: the agency hears that it must send it again, and can."""
    world = World()
    world.bus.away = True
    path = f"/answer/{world.token()}"
    response = world.client.post(path, content="answer=erased", headers=FORM)
    world.bus.away = False

    assert (503, "30") == (response.status_code, response.headers["retry-after"])
    assert page.message("sv", "unavailable") == response.text
    told = 'radera_callbacks_total{kind="recruitment",result="unavailable"} 1.0'
    assert told in world.metrics.text().decode()
    assert 200 == world.client.post(path, content="answer=erased", headers=FORM).status_code


def test_a_store_that_is_away_costs_a_caller_some_time_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """503, with no traceback and nothing taken; afterwards the link can be answered."""
    world = World()
    path = f"/answer/{world.token()}"

    def locked(event_id: str) -> bool:
        raise RuntimeError(PERSON)

    with monkeypatch.context() as patch:
        patch.setattr(world.sent, "seen", locked)
        shown = world.client.get(path)
        answered = world.client.post(path, content="answer=erased", headers=FORM)

    assert (503, 503) == (shown.status_code, answered.status_code)
    assert "canary" not in shown.text + answered.text
    assert [] == world.bus.records
    assert 200 == world.client.post(path, content="answer=erased", headers=FORM).status_code


# --- callbacks ---


def test_a_controllers_callback_is_passed_on_with_its_signature() -> None:
    """As it came, byte for byte, with the headers that say who signed it and no others."""
    world = World()
    token = world.token("byggab")
    body = b'{"request_status": "completed",  "x": "' + PERSON.encode() + b'"}'
    response = world.client.post(
        f"/callbacks/tenant/{token}",
        content=body,
        headers={
            "X-OpenDSR-Signature": "c2ln",
            "X-OpenDSR-Processor-Domain": "byggab.example",
            "Authorization": "Bearer x",
            "Cookie": "a=b",
        },
    )

    assert 202 == response.status_code
    ((record, callback, content),) = world.callbacks()
    assert (topics.callbacks("tenant"), "byggab", token) == (record.topic, callback.system, content["token"])
    assert body == base64.b64decode(content["body"])
    assert {"x-opendsr-signature": "c2ln", "x-opendsr-processor-domain": "byggab.example"} == content[
        "headers"
    ]
    assert PERSON.encode() not in record.value


def signed(world: World, body: bytes = b"{}") -> httpx.Response:
    """A webhook that says it is signed; whether it is, is for the handler to say."""
    return world.client.post("/callbacks/superoffice", content=body, headers={"X-SuperOffice-Signature": "s"})


def test_a_vendors_webhook_is_passed_on_unread() -> None:
    """Whether it is genuine is for the handler to say, which has the secret."""
    world = World()
    response = world.client.post(
        "/callbacks/superoffice", content=b"\x00raw", headers={"X-SuperOffice-Signature": "s"}
    )

    assert 202 == response.status_code
    ((record, callback, content),) = world.callbacks()
    assert ("superoffice", None, None, "") == (callback.kind, callback.system, content["token"], record.key)
    assert (b"\x00raw", {"x-superoffice-signature": "s"}) == (
        base64.b64decode(content["body"]),
        content["headers"],
    )


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/callbacks/hubspot", b"{}", 404),
        ("/callbacks/holds_nothing", b"{}", 404),
        ("/callbacks/tenant/{agency}", b"{}", 404),
        ("/callbacks/tenant/nonsense", b"{}", 404),
        ("/callbacks/tenant/{expired}", b"{}", 410),
        ("/callbacks/tenant/{byggab}", b"not json", 400),
        ("/callbacks/tenant/{byggab}", b"[" * 20_000, 400),
        ("/callbacks/tenant/{byggab}", b"x" * (64 * 1024 + 1), 413),
        ("/callbacks/superoffice", b"{}", 401),
    ],
)
def test_what_is_no_callback_of_ours_is_refused(path: str, body: bytes, status: int) -> None:
    """Unknown kinds and links, other people's links, and bodies that are too long or no JSON."""
    world = World()
    path = path.format(
        agency=world.token("agency"), byggab=world.token("byggab"), expired=world.token("byggab", NOW)
    )

    assert status == world.client.post(path, content=body).status_code
    assert [] == world.bus.records


def test_a_callback_that_cannot_be_kept_is_asked_for_again() -> None:
    """503: every vendor tries again later."""
    world = World()
    world.bus.away = True
    response = signed(world)

    assert (503, "30") == (response.status_code, response.headers["retry-after"])
    assert (
        'radera_callbacks_total{kind="superoffice",result="unavailable"} 1.0' in world.metrics.text().decode()
    )


def test_too_much_at_once_is_put_off() -> None:
    """A flood costs the caller, and fills no disk."""
    seconds = [0.0]
    world = World(Allowance(per_second=1, burst=2, monotonic=lambda: seconds[0]))
    statuses = [signed(world).status_code for _ in range(3)]
    seconds[0] = 1.0
    statuses.append(signed(world).status_code)

    assert [202, 202, 429, 202] == statuses


# --- health ---


def test_health_readiness_and_metrics_are_told_apart() -> None:
    """Alive is not ready: a role that is stuck takes the server out of service, not the process down."""
    world = World()
    assert (200, 200) == (
        world.client.get("/healthz").status_code,
        world.client.get("/readyz").status_code,
    )
    world.ready["worker"] = False

    assert 503 == world.client.get("/readyz").status_code
    assert {"orchestrator": True, "worker": False} == world.client.get("/readyz").json()
    assert 200 == world.client.get("/healthz").status_code
    assert "radera_callbacks_total" in world.client.get("/metrics").text


def test_the_server_serves_and_stops_and_logs_no_path(capfd: pytest.CaptureFixture[str]) -> None:
    """A token in a path would be a key lying in the log."""
    world = World()
    token = world.token()
    server = Server(world.client.app, host="127.0.0.1", port=0)
    with server:
        response = httpx.get(f"http://127.0.0.1:{server.port}/answer/{token}")
        assert 200 == response.status_code
        assert "server" not in response.headers
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{server.port}/healthz")

    assert token not in "".join(capfd.readouterr())


def test_a_port_that_is_taken_is_told_where_it_can_be_read() -> None:
    """The caller's thread gets the error, with the address and the mend."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=rf"can't listen on 127.0.0.1 port {port} .*free it"):
            Server(World().client.app, host="127.0.0.1", port=port)


# --- submitting ---


class Keys:
    """The keys of requests, filed once."""

    def __init__(self) -> None:
        self.of: dict[str, bytes | None] = {}

    def insert(self, request_id: str, key: bytes) -> None:
        self.of.setdefault(request_id, key)

    def key_of(self, request_id: str) -> bytes:
        if request_id not in self.of:
            raise KeyUnknown(request_id)
        key = self.of[request_id]
        if key is None:
            raise KeyDestroyed(request_id)
        return key


def _intake() -> tuple[Intake, Bus, Keys]:
    bus, keys = Bus(), Keys()
    return Intake(keys=keys, bus=bus, clock=lambda: NOW, region="SE", systems={"crm"}), bus, keys


def _requests(bus: Bus) -> list[Request]:
    return [decode(record.value, Request) for record in bus.records]


def test_a_submitted_request_is_cleaned_sealed_and_published() -> None:
    """Only the holder of the filed key can tell whom it is about."""
    intake, bus, keys = _intake()
    request_id = intake.submit(
        [Identifier("email", " Canary.Person@Example.org "), Identifier("phone", "070-174 06 05")],
        source="cli",
        verified=True,
        scope=("crm",),
        language="sv",
    )
    (request,) = _requests(bus)
    key = keys.key_of(request_id)
    clear = Identifiers.from_bytes(unseal(key, request_id, IDENTIFIERS, request.sealed_identifiers))

    assert (request_id, "sv", ("crm",), NOW) == (
        request.request_id,
        request.language,
        request.scope,
        request.received_at,
    )
    assert ([PERSON], ["+46701740605"]) == (
        [one.value for one in clear.of_kind("email")],
        [one.value for one in clear.of_kind("phone")],
    )
    assert b"canary" not in bus.records[0].value.lower()


def test_the_same_submission_again_is_the_same_event() -> None:
    """And one with an identifier more is another event of the same request, under the same key."""
    intake, bus, _ = _intake()
    person = Identifier("email", PERSON)
    for identifiers in ([person], [person], [person, Identifier("name", "Canary Person")]):
        intake.submit(identifiers, source="cli", verified=True, request_id=REQUEST)
    first, second, third = _requests(bus)

    assert first.event_id == second.event_id
    assert first.event_id != third.event_id
    assert {REQUEST} == {first.request_id, second.request_id, third.request_id}


def test_a_failed_publishing_can_be_repeated_with_the_same_id() -> None:
    """The key that was filed is used again."""
    intake, bus, keys = _intake()
    bus.away = True
    with pytest.raises(BusUnavailable):
        intake.submit([Identifier("email", PERSON)], source="cli", verified=True, request_id=REQUEST)
    filed = keys.key_of(REQUEST)
    bus.away = False
    intake.submit([Identifier("email", PERSON)], source="cli", verified=True, request_id=REQUEST)
    (request,) = _requests(bus)

    assert unseal(filed, REQUEST, IDENTIFIERS, request.sealed_identifiers)


@pytest.mark.parametrize(
    ("identifiers", "given", "code"),
    [
        ([], {}, "no_identifier"),
        ([("email", "canary at example")], {}, "unusable_identifier"),
        ([("email", PERSON), ("phone", "canary")], {}, "unusable_identifier"),
        ([("email", PERSON)], {"scope": ("no-such",)}, "unknown_system"),
        ([("email", PERSON)], {"scope": ()}, "empty_scope"),
        ([("email", PERSON)], {"capacity": "processor"}, "tenant_missing"),
        ([("email", PERSON)], {"received_at": NOW + 1}, "received_in_future"),
        ([("email", PERSON)], {"request_id": PERSON}, "bad_id"),
    ],
)
def test_what_cannot_be_submitted_is_refused_without_naming_anybody(
    identifiers: list[tuple[Any, str]], given: Mapping[str, Any], code: str
) -> None:
    """Nothing is filed or published, and the error quotes nothing that was typed about a person."""
    intake, bus, keys = _intake()
    with pytest.raises(CannotSubmit) as caught:
        intake.submit(
            [Identifier(kind, value) for kind, value in identifiers], source="cli", verified=True, **given
        )

    assert code == caught.value.code
    assert "canary" not in str(caught.value)
    assert ([], {}) == (bus.records, keys.of)


def test_an_id_whose_request_has_ended_is_refused() -> None:
    """A destroyed key is never made anew."""
    intake, bus, keys = _intake()
    keys.of[REQUEST] = None
    with pytest.raises(CannotSubmit) as caught:
        intake.submit([Identifier("email", PERSON)], source="cli", verified=True, request_id=REQUEST)

    assert "request_ended" == caught.value.code
    assert caught.value.__context__ is None
    assert [] == bus.records
