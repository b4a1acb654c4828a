"""The Google Analytics handler against its stand-in."""

from pathlib import Path
from typing import Any

import pytest

from handlers.google_analytics import client_id, normalised_email, normalised_phone
from handlers.port import Permanent, Retryable
from handlers.results import Accepted, CannotLook, NotIdentifiable, Proved
from orchestrator.privacy import Identifier
from tests.contract.handlers_bench import ANNA, HOUR, Bench

pytestmark = pytest.mark.anyio
CLIENT = Identifier("ga_client_id", "1234567890.1699999999")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.sandbox.seed({"google": {"visitors": [{"client_id": CLIENT.value, "email": ANNA}]}})
    return made


async def test_a_visitor_is_submitted_by_client_id_and_promised(bench: Bench) -> None:
    """Nothing can be looked at: the proof is when Google was asked, and its grade a promise."""
    handler = bench.google()
    located = await handler.locate(bench.task("locate", CLIENT))
    assert isinstance(located, CannotLook)
    accepted = await handler.erase(bench.task("erase", CLIENT))
    assert isinstance(accepted, Accepted)
    assert 1 == accepted.erased
    bench.clock.pass_days(1)
    proved = await handler.prove(bench.task("prove", CLIENT, references=accepted.references))
    assert isinstance(proved, Proved)
    assert "vendor_promised" == proved.grade
    assert "2026-09-01T00:00:00Z" == proved.evidence["deletion_requested_at"]
    assert ["visitor-1"] == bench.effects("google", "deletion_submitted")


async def test_an_address_alone_identifies_nobody(bench: Bench) -> None:
    """Art. 11: the step says what the person could give."""
    result = await bench.google().locate(bench.task("locate"))
    assert isinstance(result, NotIdentifiable)
    assert ("ga_client_id",) == result.missing


async def test_a_client_id_for_another_site_is_not_submitted(bench: Bench) -> None:
    """One property a site; a cookie differs by site."""
    bench.sandbox.seed({"google": {"property": "111", "name": "other.example"}})
    handler = bench.google(
        properties=[{"id": "987654321", "site": "smartdok.example"}, {"id": "111", "site": "other.example"}]
    )
    mine = Identifier("ga_client_id", CLIENT.value, "smartdok.example")
    located = await handler.locate(bench.task("locate", mine))
    assert {"properties": "1", "properties_without_id": "1"} == located.evidence
    await handler.erase(bench.task("erase", mine))
    assert {"987654321"} == {line["account"] for line in bench.sandbox.ledger(effect="deletion_submitted")}


async def test_user_provided_data_is_submitted_as_google_matches_it(bench: Bench) -> None:
    """Where the sites collect it, an address and a number find the person, normalised."""
    bench.sandbox.seed(
        {"google": {"visitors": [{"provided": ["annaek@gmail.com"]}, {"provided": ["+46701234567"]}]}}
    )
    handler = bench.google(identify_by=["user_provided_data"])
    known = (Identifier("email", "Anna.Ek@gmail.com"), Identifier("phone", "+46 70-123 45 67"))
    accepted = await handler.erase(bench.task("erase", *known))
    assert isinstance(accepted, Accepted)
    assert {"visitor-2", "visitor-3"} == set(bench.effects("google", "deletion_submitted"))


async def test_a_spent_daily_quota_waits_for_the_next_day_in_california(bench: Bench) -> None:
    """Midnight UTC on 1 September is 17:00 there: seven hours to wait."""
    bench.sandbox.seed({"google": {"daily_quota": 0}})
    with pytest.raises(Retryable) as caught:
        await bench.google().erase(bench.task("erase", CLIENT))
    assert ("daily_limit", 7 * HOUR) == (caught.value.code, caught.value.retry_after)


@pytest.mark.parametrize(
    ("kind", "more", "code"),
    [
        ("403", {}, "rate_limited"),
        ("429", {}, "rate_limited"),
        ("500", {}, "vendor_error"),
        ("lost_response", {}, "connection_lost"),
        ("malformed", {}, "malformed_answer"),
    ],
)
async def test_a_fault_that_may_pass_is_retryable(
    bench: Bench, kind: str, more: dict[str, Any], code: str
) -> None:
    """A rate limit told as 403 is no refusal of our credentials; afterwards the submission succeeds."""
    handler = bench.google()
    bench.sandbox.fault(kind, vendor="google", path="submitUserDeletion", **more)
    with pytest.raises(Retryable, match=f"^{code}$"):
        await handler.erase(bench.task("erase", CLIENT))
    assert isinstance(await handler.erase(bench.task("erase", CLIENT)), Accepted)


@pytest.mark.parametrize("verb", ["locate", "erase", "prove"])
async def test_another_property_than_the_pinned_one_is_an_error(bench: Bench, verb: str) -> None:
    """The property read back is compared with its pin before anything is submitted or promised."""
    handler = bench.google()
    bench.sandbox.fault("wrong_account", vendor="google", path="properties", times=None)
    with pytest.raises(Permanent, match=r"^wrong_account$"):
        await getattr(handler, verb)(bench.task("prove", CLIENT, erased_at=bench.clock()))
    assert [] == bench.effects("google", "deletion_submitted")


async def test_a_mistyped_property_is_noticed_by_its_name(bench: Bench) -> None:
    """The number exists, but is somebody else's site."""
    handler = bench.google(properties=[{"id": "987654321", "display_name": "web.smartdok.example"}])
    with pytest.raises(Permanent, match=r"^wrong_account$"):
        await handler.locate(bench.task("locate", CLIENT))


async def test_a_property_that_we_may_not_see_is_for_a_person_to_mend(bench: Bench) -> None:
    """A 403 that isn't a rate limit is a missing right."""
    bench.sandbox.fault("no_rights", vendor="google", path="properties", times=None)
    with pytest.raises(Permanent, match=r"^credentials_refused$"):
        await bench.google().locate(bench.task("locate", CLIENT))


async def test_what_was_never_submitted_is_never_promised(bench: Bench) -> None:
    """A proof without an accepted erasure behind it is refused."""
    with pytest.raises(Permanent, match=r"^nothing_submitted$"):
        await bench.google().prove(bench.task("prove", CLIENT))


async def test_a_token_is_fetched_anew_when_it_has_ended(bench: Bench) -> None:
    """Two hours later the first token is dead, and nobody notices."""
    handler = bench.google()
    await handler.locate(bench.task("locate", CLIENT))
    bench.clock.pass_seconds(7200)
    assert isinstance(await handler.locate(bench.task("locate", CLIENT)), CannotLook)


def test_identifiers_take_the_form_that_google_matches() -> None:
    """Cookies become client ids; addresses and numbers are normalised, Gmail's dots included."""
    assert "1234567890.1699999999" == client_id("GA1.1.1234567890.1699999999")
    assert "1234567890.1699999999" == client_id(" 1234567890.1699999999 ")
    assert "annaek@googlemail.com" == normalised_email(" Anna.Ek @googlemail.com")
    assert "anna.ek@example.com" == normalised_email("Anna.Ek@example.com")
    assert "+46701234567" == normalised_phone("+46 (0)70".replace("(0)", "") + "-123 45 67")
