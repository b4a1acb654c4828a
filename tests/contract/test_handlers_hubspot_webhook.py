"""HubSpot's webhook for deleted contacts: believed when it is signed, fresh and about our account."""

import base64
import hmac
import json
from pathlib import Path
from typing import Any

import pytest

from handlers.hubspot import HubSpot
from handlers.port import Refused
from handlers.results import Accepted, VendorPurged
from handlers.sandbox.signing import hubspot_headers
from tests.contract.handlers_bench import ANNA, PUBLIC, Bench

pytestmark = pytest.mark.anyio
SECRET = "hubspot-client-secret"
URL = f"{PUBLIC}/callbacks/hubspot"
MINUTE = 60


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.sandbox.seed({"hubspot": {"webhook": {"url": URL, "secret": SECRET}}})
    return made


def hooked(bench: Bench, **changed: Any) -> HubSpot:
    return bench.hubspot(webhook_secret=bench.secret("hubspot-hook", SECRET), **changed)


def event(contact: Any = 1, portal: int = 1234567, said: str = "contact.privacyDeletion") -> dict[str, Any]:
    return {"objectId": contact, "portalId": portal, "subscriptionType": said, "eventId": 1}


def signed(bench: Bench, events: Any, **changed: Any) -> Any:
    """A callback as HubSpot would send it now, or with something changed."""
    body = json.dumps(events).encode()
    url, at = changed.get("url", URL), changed.get("at", bench.clock())
    return bench.callback(body, hubspot_headers(changed.get("secret", SECRET), url, body, at))


def test_the_signature_is_over_method_address_body_and_time() -> None:
    """HubSpot's documented recipe, worked by hand; the stand-in signs by it."""
    at = 1_788_220_800_000_000
    source = b"POSThttps://radera.example.com/callbacks/hubspot[]1788220800000"
    expected = base64.b64encode(hmac.new(SECRET.encode(), source, "sha256").digest()).decode()
    assert {
        "X-HubSpot-Signature-v3": expected,
        "X-HubSpot-Request-Timestamp": "1788220800000",
    } == hubspot_headers(SECRET, URL, b"[]", at)


async def test_a_deletion_is_announced_and_finds_its_request(bench: Bench) -> None:
    """The event's correlation is one that the erasure announced; others of the batch are passed over."""
    bench.sandbox.seed({"hubspot": {"contacts": [{"email": ANNA}]}})
    handler = hooked(bench)
    located = await handler.locate(bench.task("locate"))
    accepted = await handler.erase(bench.task("erase", references=located.references))
    assert isinstance(accepted, Accepted)
    await bench.sandbox.tick()
    ((url, body, headers),) = bench.said
    assert URL == url
    (received,) = await handler.receive(bench.callback(body, headers))
    assert isinstance(received.result, VendorPurged)
    assert accepted.correlations == (received.correlation,)


async def test_every_contact_of_a_batch_is_an_event_of_its_own(bench: Bench) -> None:
    """Two contacts, one of them twice, and one of another account: two confirmations that differ."""
    events = [event(1), event(2), event(1), event(3, portal=5), event(4, said="contact.creation")]
    received = await hooked(bench).receive(signed(bench, events))
    assert 2 == len({one.correlation for one in received}) == len(received)


@pytest.mark.parametrize(
    "changed",
    [
        {"secret": "another"},
        {"url": "https://elsewhere.example/callbacks/hubspot"},
        {"url": f"{URL}/"},
    ],
)
async def test_another_secret_or_address_is_a_forgery(bench: Bench, changed: dict[str, str]) -> None:
    """What was signed for another address, with our secret even, was not sent to us."""
    with pytest.raises(Refused, match=r"^signature_invalid$"):
        await hooked(bench).receive(signed(bench, [event()], **changed))


@pytest.mark.parametrize(("seconds", "fresh"), [(-299, True), (-301, False), (299, True), (301, False)])
async def test_a_webhook_is_stale_after_five_minutes(bench: Bench, seconds: int, fresh: bool) -> None:
    """Counted to when it came in; one from the future is as wrong as a recorded one."""
    callback = signed(bench, [event()], at=bench.clock() + seconds * 1_000_000)
    if fresh:
        assert 1 == len(await hooked(bench).receive(callback))
    else:
        with pytest.raises(Refused, match=r"^signature_invalid$"):
            await hooked(bench).receive(callback)


async def test_when_it_is_read_does_not_matter(bench: Bench) -> None:
    """The worker was away for an hour; the webhook came in time."""
    callback = signed(bench, [event()])
    bench.clock.pass_seconds(3600)
    assert 1 == len(await hooked(bench).receive(callback))


@pytest.mark.parametrize("part", ["body", "signature", "timestamp", "none"])
async def test_one_letter_changed_is_a_forgery(bench: Bench, part: str) -> None:
    """Body, signature, time, or no headers at all."""
    body = json.dumps([event()]).encode()
    headers = hubspot_headers(SECRET, URL, body, bench.clock())
    match part:
        case "body":
            body += b" "
        case "signature":
            headers["X-HubSpot-Signature-v3"] += "x"
        case "timestamp":
            headers["X-HubSpot-Request-Timestamp"] = str(bench.clock() // 1000 + 1)
        case _:
            headers = {}
    with pytest.raises(Refused, match=r"^signature_invalid$"):
        await hooked(bench).receive(bench.callback(body, headers))


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([], "event_not_used"),
        ([event(said="contact.creation")], "event_not_used"),
        ([event("1"), event(True), event(None)], "event_not_used"),
        ([event(portal=5)], "wrong_account"),
        ({"events": []}, "malformed"),
        (["x"], "malformed"),
        ([event()] * 1001, "malformed"),
    ],
)
async def test_what_means_nothing_is_refused_with_its_code(bench: Bench, events: Any, code: str) -> None:
    """Signed, but not about a contact of ours; or signed nonsense."""
    with pytest.raises(Refused, match=f"^{code}$"):
        await hooked(bench).receive(signed(bench, events))


async def test_behind_another_address_the_settings_say_which(bench: Bench) -> None:
    """HubSpot was given an address of its own for us; the signature is over that one."""
    other = "https://hooks.example.com/radera?via=hubspot"
    handler = hooked(bench, webhook_url=other)
    assert 1 == len(await handler.receive(signed(bench, [event()], url=other)))


async def test_without_a_secret_nothing_is_believed(bench: Bench) -> None:
    """No webhook is set up, so that whoever posts is nobody we know."""
    with pytest.raises(Refused, match=r"^webhook_not_configured$"):
        await bench.hubspot().receive(signed(bench, [event()]))
