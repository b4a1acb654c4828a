"""Agencies over OpenDSR: asked, heard, looked at; and believed only when all of it fits."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from handlers.port import Expired, Permanent, Refused, Retryable
from handlers.recruitment import Recruitment, RecruitmentSettings
from handlers.results import (
    Accepted,
    AwaitingParty,
    CannotLook,
    NotIdentifiable,
    PartyErased,
    PartyRefused,
    Pending,
    Proved,
    Result,
)
from handlers.sandbox.certificates import Authority
from handlers.sandbox.signing import signing_key
from handlers.sandbox.testing import ORIGIN, START
from orchestrator.privacy import Identifier
from tests.contract.handlers_bench import ANNA, DAY, PUBLIC, REQUEST, Bench
from tests.contract.scripted import Scripted

pytestmark = pytest.mark.anyio
SYSTEM = "agency"
HOUR = DAY // 24


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    seed(made)
    return made


def seed(bench: Bench, **changed: Any) -> None:
    """The agency `nord`, which holds Anna, answers in an hour and knows us as controller-1."""
    bench.sandbox.seed(
        {"controllers": [{"tenant": "nord", "role": "agency", "candidates": [{"email": ANNA}], **changed}]}
    )


def agency(bench: Bench, **changed: Any) -> Recruitment:
    """The handler, which has the agency's certificate by its discovery, issued by the sandbox's authority."""
    settings = {
        "channel": "opendsr",
        "endpoint": f"{ORIGIN}/controllers/nord",
        "endpoint_token": bench.secret("endpoint", "sandbox-controller-token"),
        "controller_id": "controller-1",
        "authorities": bench.secret("authorities", Authority(START).root()),
        "allow_private_address": True,
        **changed,
    }
    context = bench.context(SYSTEM, callback_path="/callbacks/recruitment/")
    return Recruitment(RecruitmentSettings.model_validate(settings), context)


async def asked(bench: Bench, handler: Recruitment, **more: Any) -> Result:
    return await handler.erase(bench.task("erase", system=SYSTEM, **more))


async def heard(bench: Bench, handler: Recruitment, number: int = -1) -> Result:
    """What the handler makes of a callback of the agency's."""
    url, body, headers = bench.said[number]
    received = await handler.receive(bench.callback(body, headers, url.rpartition("/")[2]))
    assert (REQUEST, SYSTEM) == (received.request_id, received.system)
    return received.result


async def answered(bench: Bench, handler: Recruitment) -> Result:
    """Asks, lets the agency answer, and hears it."""
    await asked(bench, handler)
    bench.clock.pass_seconds(3601)
    await bench.sandbox.tick()
    return await heard(bench, handler)


@pytest.mark.parametrize("version", ["2.0", "1.0"])
async def test_an_agency_is_asked_calls_back_and_is_looked_at(bench: Bench, version: str) -> None:
    """It erases, says so, signed; its signed status for our own account is the proof, and its word."""
    handler = agency(bench, endpoint_version=version)
    assert isinstance(await handler.locate(bench.task("locate")), CannotLook)
    waiting = await asked(bench, handler)
    assert isinstance(waiting, AwaitingParty)
    assert (bench.clock() + 7 * DAY, {"asked": "opendsr"}) == (waiting.remind_at, waiting.evidence)
    bench.clock.pass_seconds(3601)
    await bench.sandbox.tick()
    assert bench.said[0][0].startswith(f"{PUBLIC}/callbacks/recruitment/")
    result = await heard(bench, handler)
    assert isinstance(result, PartyErased)
    assert bench.clock() == result.prove_at
    proved = await handler.prove(bench.task("prove", system=SYSTEM))
    assert isinstance(proved, Proved)
    assert ("party_stated", "erased") == (proved.grade, proved.end)
    # The agency's word it remains: nobody of us looked in its files.
    assert {"not_configured", "not_searchable"} == {place.reason for place in proved.places}
    assert [] == bench.sandbox.holds(ANNA)
    assert [] == bench.mails


async def test_asking_again_is_the_same_request(bench: Bench) -> None:
    """After a lost answer the agency has it already: 409, and one request."""
    handler = agency(bench)
    bench.sandbox.fault("lost_response", vendor="controllers", method="POST", path="requests")
    with pytest.raises(Retryable, match=r"^connection_lost$"):
        await asked(bench, handler)
    bench.clock.pass_seconds(30)
    again = await asked(bench, handler)
    assert {"asked": "opendsr", "repeated": "1"} == again.evidence
    assert 1 == len(set(bench.effects("controllers", "request_received")))


async def test_a_callback_that_never_came_is_made_good_by_a_look(bench: Bench) -> None:
    """At the reminder the agency's status says that it is done; nobody is written to."""
    handler = agency(bench, address="gdpr@nord.example")
    await asked(bench, handler)
    bench.clock.pass_days(7)
    looked = await asked(bench, handler, reminder=True)
    assert isinstance(looked, Accepted)
    assert bench.clock() == looked.prove_at
    assert isinstance(await handler.prove(bench.task("prove", system=SYSTEM)), Proved)
    assert [] == bench.mails


async def test_an_agency_that_does_nothing_is_reminded_by_mail(bench: Bench) -> None:
    """Over OpenDSR there is no reminder. The mail's link leads to the page, as for agencies without an
    endpoint; what it says there, unsigned, is a reason to look.
    """
    seed(bench, delay="P90D")
    handler = agency(bench, address="gdpr@nord.example")
    await asked(bench, handler)
    bench.clock.pass_days(7)
    reminded = await asked(bench, handler, reminder=True)
    assert isinstance(reminded, AwaitingParty)
    assert {"looked": "pending"} == reminded.evidence
    assert bench.clock() + 7 * DAY == reminded.remind_at
    assert 1 == len(bench.effects("controllers", "request_received"))
    for said in (b"answer=erased", b"answer=nothing_held"):
        received = await handler.receive(bench.callback(said, {}, bench.mail_link()))
        assert isinstance(received.result, PartyErased)
        assert bench.clock() == received.result.prove_at
    prove = await handler.prove(bench.task("prove", system=SYSTEM))
    assert isinstance(prove, Pending)
    assert "agency_in_progress" == prove.code


async def test_without_a_mail_address_a_reminder_is_a_look_alone(bench: Bench) -> None:
    """Silence then goes to the DPO, when the reminders are spent."""
    seed(bench, delay="P90D")
    handler = agency(bench)
    await asked(bench, handler)
    assert isinstance(await asked(bench, handler, reminder=True), AwaitingParty)
    assert [] == bench.mails


async def test_a_request_that_the_agency_lost_is_made_again(bench: Bench) -> None:
    """404 at the reminder: it is posted once more; 404 at the proof: not yet, and not gone."""
    handler = agency(bench)
    waiting = await asked(bench, handler, reminder=True)
    assert {"asked": "opendsr"} == waiting.evidence
    stranger = bench.task("prove", Identifier("email", "nobody@example.com"), system=SYSTEM)
    pending = await handler.prove(stranger)
    assert isinstance(pending, Pending)
    assert "request_unknown" == pending.code


async def test_an_agency_that_goes_on_has_erased_nothing_yet(bench: Bench) -> None:
    """In progress is no end, and neither is a request that the agency doesn't know."""
    seed(bench, delay="P90D")
    handler = agency(bench)
    unknown = await handler.prove(bench.task("prove", system=SYSTEM))
    await asked(bench, handler)
    pending = await handler.prove(bench.task("prove", system=SYSTEM))
    assert isinstance(unknown, Pending)
    assert isinstance(pending, Pending)
    assert ("request_unknown", "agency_in_progress") == (unknown.code, pending.code)


async def test_added_identifiers_make_another_request(bench: Bench) -> None:
    """Under the first one's id the agency would answer that it knows it already, and erase no more."""
    handler = agency(bench)
    both = (Identifier("email", ANNA), Identifier("email", "anna.ek@example.com"))
    assert [{"asked": "opendsr"}, {"asked": "opendsr"}] == [
        (await asked(bench, handler)).evidence,
        (await handler.erase(bench.task("erase", *both, system=SYSTEM))).evidence,
    ]
    assert 2 == len(set(bench.effects("controllers", "request_received")))


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        ({"result": "erased"}, ("erased", None)),
        ({"result": "nothing_held"}, ("erased", None)),
        ({"result": "retained", "legal_basis": "Bookkeeping Act"}, ("retained", "bookkeeping_act")),
        ({"result": "partial"}, ("retained", "not_stated")),
    ],
)
async def test_what_the_agency_kept_stands_in_its_extension(
    bench: Bench, says: dict[str, str], expected: tuple[str, str | None]
) -> None:
    """OpenDSR has no state for it. A reason is a token; one that is not given is said to be so."""
    seed(bench, says=says)
    handler = agency(bench)
    assert isinstance(await answered(bench, handler), PartyErased)
    proved = await handler.prove(bench.task("prove", system=SYSTEM))
    assert isinstance(proved, Proved)
    assert expected == (proved.end, proved.legal_basis)


async def test_an_agency_that_failed_is_the_dpos_affair(bench: Bench) -> None:
    """Completed, and yet not done: no proof."""
    seed(bench, says={"result": "failed"})
    handler = agency(bench)
    await answered(bench, handler)
    with pytest.raises(Permanent, match=r"^party_failed$"):
        await handler.prove(bench.task("prove", system=SYSTEM))


async def test_a_cancellation_is_a_refusal(bench: Bench) -> None:
    """By callback it is the agency's refusal; found by a look, the DPO is asked."""
    seed(bench, instruction="refuse", reason="not our candidate")
    handler = agency(bench)
    refused = await answered(bench, handler)
    assert isinstance(refused, PartyRefused)
    assert "not_our_candidate" == refused.code
    with pytest.raises(Permanent, match=r"^party_cancelled$"):
        await asked(bench, handler, reminder=True)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"signature": "wrong"}, "signature_invalid"),
        ({"signature": "missing"}, "signed_by_another_domain"),
        ({"certificate": "expired"}, "certificate_not_in_force"),
        ({"certificate": "other_domain"}, "certificate_of_another_domain"),
        ({"certificate": "other_authority"}, "certificate_not_trusted"),
    ],
)
async def test_an_answer_that_is_not_the_agencys_own_counts_for_nothing(
    bench: Bench, wrong: dict[str, str], code: str
) -> None:
    """Whoever stands between can't say "completed": every answer is signed, by a certificate that counts."""
    handler = agency(bench)
    seed(bench, **wrong)
    with pytest.raises(Permanent, match=f"^{code}$"):
        await asked(bench, handler)
    with pytest.raises(Permanent, match=f"^{code}$"):
        await handler.prove(bench.task("prove", system=SYSTEM))


async def test_a_certificate_is_fetched_from_the_agencys_own_domain_alone(bench: Bench) -> None:
    """Elsewhere anybody may have put it, and our token would go along."""
    script = Scripted(bench)
    place = "https://elsewhere.example/certificate.pem"
    script.says("GET", "/discovery$", 200, {"processor_certificate": place})
    with pytest.raises(Permanent, match=r"^certificate_at_another_domain$"):
        await asked(bench, agency(bench))
    assert [] == [path for path in script.paths("GET") if path.endswith(".pem")]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"signature": "wrong"}, "signature_invalid"),
        ({"signature": "missing"}, "signed_by_another_domain"),
        ({"certificate": "expired"}, "certificate_not_in_force"),
        ({"certificate": "other_domain"}, "certificate_of_another_domain"),
        ({"certificate": "other_authority"}, "certificate_not_trusted"),
    ],
)
async def test_a_callback_that_is_not_the_agencys_own_is_refused(
    bench: Bench, wrong: dict[str, str], code: str
) -> None:
    """The token alone is not enough, nor the signature of another."""
    await asked(bench, agency(bench))
    seed(bench, **wrong)
    bench.clock.pass_seconds(3601)
    await bench.sandbox.tick()
    with pytest.raises(Refused, match=f"^{code}$"):
        await heard(bench, agency(bench))


async def test_a_callback_can_be_neither_altered_nor_sent_on_nor_kept(bench: Bench) -> None:
    """One byte more, the address of another request, or after the link's time: refused. Said twice it is one
    confirmation.
    """
    handler = agency(bench)
    await answered(bench, handler)
    url, body, headers = bench.said[0]
    link = url.rpartition("/")[2]
    with pytest.raises(Refused, match=r"^signature_invalid$"):
        await handler.receive(bench.callback(body + b" ", headers, link))
    other = bench.links.make(REQUEST, SYSTEM, 9, bench.clock() + DAY)
    with pytest.raises(Refused, match=r"^meant_for_another_address$"):
        await handler.receive(bench.callback(body, headers, other))
    with pytest.raises(Refused, match=r"^link_invalid$"):
        await handler.receive(bench.callback(body, headers, link[:-2]))
    first, second = [
        bench.confirmed("recruitment", await handler.receive(bench.callback(body, headers, link)))
        for _ in range(2)
    ]
    assert first == second
    bench.clock.pass_days(61)
    with pytest.raises(Refused, match=r"^link_expired$"):
        await handler.receive(bench.callback(body, headers, link))


async def test_what_is_said_of_anothers_account_counts_for_nothing(bench: Bench) -> None:
    """A token for the wrong account must never read as erased."""
    handler = agency(bench)
    await answered(bench, handler)
    other = agency(bench, controller_id="somebody-else")
    with pytest.raises(Refused, match=r"^wrong_account$"):
        await heard(bench, other)
    for verb in ("erase", "prove"):
        with pytest.raises(Permanent, match=r"^wrong_account$"):
            await getattr(other, verb)(bench.task(verb, system=SYSTEM, reminder=True))


async def test_a_certificate_that_was_given_is_the_only_one_that_counts(bench: Bench) -> None:
    """Pinned, nothing is fetched, and no authority can vouch for another."""
    pinned = Authority(START, "Its own authority").issue("sandbox", signing_key(None))
    handler = agency(bench, certificate=bench.secret("pinned", pinned), authorities=None)
    bench.sandbox.fault("500", vendor="controllers", path="(discovery|certificate)", times=None)
    assert isinstance(await answered(bench, handler), PartyErased)
    bench.clock.pass_days(400)
    with pytest.raises(Permanent, match=r"^certificate_not_in_force$"):
        await handler.prove(bench.task("prove", system=SYSTEM))


async def test_a_renewed_certificate_is_fetched_when_the_old_one_does_not_hold(bench: Bench) -> None:
    """Kept for a day, it is asked for anew as soon as a signature fails by it, and once only."""
    handler = agency(bench)
    seed(bench, certificate="expired")
    with pytest.raises(Permanent, match=r"^certificate_not_in_force$"):
        await asked(bench, handler)
    seed(bench, certificate="good")
    assert isinstance(await asked(bench, handler), AwaitingParty)


async def test_nobody_is_asked_after_the_commands_time(bench: Bench) -> None:
    """Asking leads to an erasure, so it needs the permit."""
    handler = agency(bench)
    late = bench.task("erase", system=SYSTEM, life=HOUR)
    bench.clock.pass_days(1)
    with pytest.raises(Expired):
        await handler.erase(late)
    assert [] == bench.effects("controllers", "request_received")


async def test_a_name_identifies_nobody_to_an_agency_over_opendsr(bench: Bench) -> None:
    """It has no name for names, nor for telephone numbers."""
    who = [Identifier("name", "Anna Ek"), Identifier("phone", "+46701234567")]
    assert isinstance(await agency(bench).locate(bench.task("locate", *who)), NotIdentifiable)


async def test_progress_and_nonsense_are_no_answers(bench: Bench) -> None:
    """A signed report of progress is dropped; so is an end that OpenDSR doesn't know."""
    handler = agency(bench)
    await answered(bench, handler)
    url, body, _ = bench.said[0]
    link = url.rpartition("/")[2]
    row = bench.sandbox.store.get("controller.account", "nord")
    assert row is not None
    signer: Any = bench.sandbox._controllers
    for status, code in (("in_progress", "no_end_yet"), ("erased", "malformed")):
        said = json.dumps({**json.loads(body), "request_status": status}).encode()
        headers = {"content-type": "application/json", **signer._signed(row, said, "v2", "sandbox")}
        with pytest.raises(Refused, match=f"^{code}$"):
            await handler.receive(bench.callback(said, headers, link))


async def test_a_check_asks_for_nobody(bench: Bench) -> None:
    """It looks at the discovery, and says what it can't show."""
    said = {one.aspect: one.state for one in await agency(bench).check()}
    assert {"reachable": "ok", "account": "unknown", "control": "unknown"}.items() <= said.items()
    bench.sandbox.fault("500", vendor="controllers", path="discovery", times=None)
    assert "failed" == (await agency(bench).check())[0].state


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        ({"endpoint": None}, "endpoint and controller_id"),
        ({"controller_id": None}, "endpoint and controller_id"),
        ({"channel": "mail"}, "needs address"),
        ({"endpoint": "opendsr.example"}, "not an address"),
        ({"endpoint": "https://a:b@opendsr.example"}, "holds a login"),
    ],
)
def test_what_a_channel_needs_is_asked_for(changed: dict[str, Any], missing: str) -> None:
    """Before the first request, in words."""
    settings = {"channel": "opendsr", "endpoint": "https://opendsr.example", "controller_id": "c", **changed}
    with pytest.raises(ValidationError, match=missing):
        RecruitmentSettings.model_validate(settings)
