"""The Google Analytics handler against its stand-in."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from handlers.google_analytics import client_id, normalised_email, normalised_phone
from handlers.port import Permanent, Retryable
from handlers.results import Accepted, CannotLook, NotIdentifiable, Proved
from orchestrator.privacy import Identifier
from schemas.messages import Place
from tests.contract.handlers_bench import ANNA, HOUR, Bench
from tests.contract.meddling import Meddling

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


@pytest.mark.parametrize(
    ("site", "goes"), [(None, True), ("smartdok.example", True), ("other.example", False)]
)
async def test_a_client_id_goes_to_its_sites_property(bench: Bench, site: str | None, goes: bool) -> None:
    """One property a site; a cookie differs by site, and one of an unknown site may be of any."""
    handler = bench.google(site="SmartDok.example")
    located = await handler.locate(bench.task("locate", Identifier("ga_client_id", CLIENT.value, site)))
    assert goes == isinstance(located, CannotLook)
    assert goes != isinstance(located, NotIdentifiable)


@pytest.mark.parametrize(
    ("by", "field", "identifier"),
    [
        ("client_id", "client_id", CLIENT),
        ("user_id", "user_id", Identifier("ga_user_id", "u-17")),
        ("app_instance_id", "app_instance_id", Identifier("ga_app_instance_id", "0" * 32)),
    ],
)
async def test_each_kind_of_id_is_submitted_as_what_it_is(
    bench: Bench, by: str, field: str, identifier: Identifier
) -> None:
    """An id in another kind's field matches nobody, and is accepted all the same."""
    bench.sandbox.seed({"google": {"visitors": [{field: identifier.value}]}})
    accepted = await bench.google(identify_by=[by]).erase(bench.task("erase", identifier))
    assert isinstance(accepted, Accepted)
    assert "visitor-2" in bench.effects("google", "deletion_submitted")


async def test_several_ids_are_several_submissions(bench: Bench) -> None:
    """Google takes exactly one of them in a call."""
    known = (CLIENT, Identifier("ga_user_id", "u-17"), Identifier("email", ANNA))
    handler = bench.google(identify_by=["client_id", "user_id", "user_provided_data"])
    accepted = await handler.erase(bench.task("erase", *known))
    assert "3" == accepted.evidence["deletions"]
    assert 3 == len(bench.sandbox.ledger(effect="deletion_submitted"))


async def test_two_properties_in_one_system_are_refused_with_the_mend(bench: Bench) -> None:
    """Each has an end of its own, so each is a system."""
    with pytest.raises(ValidationError, match="make a table for each"):
        bench.google(properties=[{"id": "1"}, {"id": "2"}])


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
    handler = bench.google(display_name="web.smartdok.example")
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
    """Two hours later the first token is dead, and nobody notices: no call is spent on being refused."""
    transport = Meddling(bench)
    handler = bench.google()
    await handler.locate(bench.task("locate", CLIENT))
    bench.clock.pass_seconds(7200)
    assert isinstance(await handler.locate(bench.task("locate", CLIENT)), CannotLook)
    assert 2 == len(transport.paths("/properties/"))


@pytest.mark.parametrize(
    "given",
    [
        "GS1.1.1699999999.1.1.1699999999.0.0.0",
        "GS2.1.s1699999999$o1$g1$t1699999999$j0$l0$h0",
        "GA1.1.1234567890",
        "GA1.1.1234567890.1699999999.5",
        "",
    ],
)
async def test_a_cookie_without_a_client_id_identifies_nobody(bench: Bench, given: str) -> None:
    """The session's cookie lies beside the visitor's, and is easily copied instead."""
    assert client_id(given) is None
    located = await bench.google().locate(bench.task("locate", Identifier("ga_client_id", given)))
    assert isinstance(located, NotIdentifiable)


@pytest.mark.parametrize(
    ("now", "hours"),
    [
        (1_772_956_800_000_000, 23),  # 2026-03-08T08:00Z, midnight there, the day that has 23 hours
        (1_793_520_000_000_000, 24),  # 2026-11-01T07:00Z is midnight; at 08:00Z one of 25 hours has passed
    ],
)
async def test_the_next_day_is_californias_also_when_its_clocks_change(
    bench: Bench, now: int, hours: int
) -> None:
    """Google's day begins at midnight there, whatever the day's length."""
    bench.clock.now = now
    bench.sandbox.seed({"google": {"daily_quota": 0}})
    with pytest.raises(Retryable) as caught:
        await bench.google().erase(bench.task("erase", CLIENT))
    assert hours * HOUR == caught.value.retry_after
    bench.clock.now += caught.value.retry_after or 0
    bench.sandbox.seed({"google": {"daily_quota": 1}})
    assert isinstance(await bench.google().erase(bench.task("erase", CLIENT)), Accepted)


def test_identifiers_take_the_form_that_google_matches() -> None:
    """Cookies become client ids; addresses and numbers are normalised, Gmail's dots included."""
    assert "1234567890.1699999999" == client_id("GA1.1.1234567890.1699999999")
    assert "1234567890.1699999999" == client_id("GA1.2.1234567890.1699999999")
    assert "1234567890.1699999999" == client_id("GA1.2-2.1234567890.1699999999")
    assert "1234567890.1699999999" == client_id("_ga=GA1.3.1234567890.1699999999")
    assert "1234567890.1699999999" == client_id(" 1234567890.1699999999 ")
    assert "annaek@googlemail.com" == normalised_email(" Anna.Ek @googlemail.com")
    assert "anna.ek@example.com" == normalised_email("Anna.Ek@example.com")
    assert "+46701234567" == normalised_phone("+46 (0)70".replace("(0)", "") + "-123 45 67")


SITES = ("one.example", "two.example", "three.example")


def _client(number: int, site: str | None) -> Identifier:
    return Identifier("ga_client_id", f"123456789{number}.1699999999", site)


async def test_an_id_that_no_property_takes_is_told_and_not_only_left_out(bench: Bench) -> None:
    """Three cookies, of our site, of a sister site with a property of its own, and of a site that none has:
    each property says what becomes of those that it doesn't take, from the look to the proof.
    """
    known = tuple(_client(number, site) for number, site in enumerate(SITES))
    handler = bench.google({"property": "2", "site": SITES[1]}, site=SITES[0])
    expected = {
        "client_ids_elsewhere": "1",
        "client_ids_without_property": "1",
        "client_ids_unusable": "0",
    }
    located = await handler.locate(bench.task("locate", *known))
    accepted = await handler.erase(bench.task("erase", *known))
    assert isinstance(accepted, Accepted)
    assert 1 == accepted.erased
    proved = await handler.prove(bench.task("prove", *known, references=accepted.references))
    for result in (located, accepted, proved):
        assert expected == {name: result.evidence[name] for name in expected}


async def test_a_property_that_can_use_no_id_says_what_becomes_of_them(bench: Bench) -> None:
    """The step ends as not identifiable, and the ids are not forgotten."""
    handler = bench.google(site=SITES[0])
    result = await handler.locate(bench.task("locate", _client(1, SITES[2])))
    assert isinstance(result, NotIdentifiable)
    assert "1" == result.evidence["client_ids_without_property"]


async def test_an_id_of_a_kind_that_only_a_sister_property_collects_goes_there(bench: Bench) -> None:
    """A user id, where one property of two is set to know people by it."""
    user = Identifier("ga_user_id", "u-17")
    with_kin = bench.google({"property": "2", "site": SITES[1], "identify_by": ["user_id"]})
    assert "1" == (await with_kin.locate(bench.task("locate", user))).evidence["user_ids_elsewhere"]
    alone = await bench.google().locate(bench.task("locate", user))
    assert ("0", "1") == (alone.evidence["user_ids_elsewhere"], alone.evidence["user_ids_without_property"])


async def test_an_id_of_a_sister_property_names_the_systems_that_take_it(bench: Bench) -> None:
    """The request may reach none of them: whoever knows its scope tells what was not submitted."""
    sisters = [{"property": str(number), "site": site} for number, site in ((2, SITES[1]), (3, SITES[2]))]
    handler = bench.google(*sisters, {"property": "4", "site": SITES[1]}, site=SITES[0])
    known = (_client(1, SITES[1]), _client(2, SITES[2]), _client(3, SITES[0]))
    located = await handler.locate(bench.task("locate", *known))
    assert "ga2,ga4:1 ga3:1" == located.evidence["client_ids_elsewhere_in"]


async def test_a_property_without_a_site_takes_every_id(bench: Bench) -> None:
    """Where the settings name no site, nothing is left out."""
    handler = bench.google({"property": "2", "site": None}, site=SITES[0])
    located = await handler.locate(bench.task("locate", _client(1, SITES[2])))
    assert "1" == located.evidence["client_ids_elsewhere"]


async def test_a_cookie_without_a_client_id_is_told_as_unusable(bench: Bench) -> None:
    """The session's cookie, copied instead of the visitor's."""
    known = (Identifier("ga_client_id", "GS1.1.1699999999.1.1"), _client(1, None))
    accepted = await bench.google().erase(bench.task("erase", *known))
    assert ("1", "1") == (accepted.evidence["deletions"], accepted.evidence["client_ids_unusable"])


async def test_analytics_says_that_it_cannot_be_searched(bench: Bench) -> None:
    """Nobody may read "nothing found" out of a system where nobody could look."""
    handler = bench.google()
    accepted = await handler.erase(bench.task("erase", CLIENT))
    for result in (
        await handler.locate(bench.task("locate", CLIENT)),
        await handler.locate(bench.task("locate")),
        await handler.prove(bench.task("prove", CLIENT, references=accepted.references)),
    ):
        assert (Place(name="deletions", looked=False, reason="not_searchable"),) == result.places
