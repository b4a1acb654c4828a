"""The tenant handler: nothing without the controller's instruction, and then only in the pinned tenant."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from handlers.port import Permanent, Reference, Refused, Retryable, pack_references, unpack_references
from handlers.results import (
    Absent,
    Accepted,
    AwaitingParty,
    Instructed,
    Located,
    NotIdentifiable,
    PartyRefused,
    Proved,
    Reappeared,
    StillPresent,
)
from handlers.sandbox.certificates import Authority, new_key
from orchestrator.privacy import Identifier
from tests.contract.handlers_bench import ANNA, DAY, PUBLIC, REQUEST, Bench

pytestmark = pytest.mark.anyio
SYSTEM = "tenant-bygg"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    made.sandbox.seed({"controllers": [{"tenant": "bygg", "instruction": "erase"}], "tenants": [tenant()]})
    return made


def tenant(**changed: Any) -> dict[str, Any]:
    record = {
        "id": "user-1",
        "identities": [{"type": "email", "value": ANNA}],
        "children": [{"id": "diary-1", "type": "diary"}],
        **changed,
    }
    return {"tenant": "bygg", "records": [record]}


async def test_a_person_is_passed_on_and_erased_when_the_controller_says_so(bench: Bench) -> None:
    """Asked, instructed, located, erased, proved; and the controller is told."""
    handler = bench.tenant()
    asked = await handler.locate(bench.task("locate", system=SYSTEM))
    assert isinstance(asked, AwaitingParty)
    assert 2 == len(bench.sandbox.holds(ANNA))
    bench.clock.pass_days(1)
    await bench.sandbox.tick()
    url, body, headers = bench.said[0]
    assert url.startswith(f"{PUBLIC}/callbacks/tenant/")
    received = await handler.receive(bench.callback(body, headers, url.rpartition("/")[2]))
    assert isinstance(received.result, Instructed)
    assert (REQUEST, SYSTEM) == (received.request_id, received.system)

    told: dict[str, Any] = {"system": SYSTEM, "instruction": "erase"}
    located = await handler.locate(bench.task("locate", references=asked.references, **told))
    assert isinstance(located, Located)
    references = (*asked.references, *located.references)
    accepted = await handler.erase(bench.task("erase", references=references, **told))
    assert isinstance(accepted, Accepted)
    assert 2 == accepted.erased
    proved = await handler.prove(bench.task("prove", references=references, **told))
    assert isinstance(proved, Proved)
    assert [] == bench.sandbox.holds(ANNA)
    assert [asked.references[0].id] == bench.effects("controllers", "confirmation_received")


def hashed(value: str) -> Identifier:
    return Identifier("email_sha256", hashlib.sha256(value.encode()).hexdigest())


async def test_a_person_known_by_a_hash_alone_is_found_erased_and_proved(bench: Bench) -> None:
    """The product compares it with the hashes of its own; no address passes through us."""
    handler = bench.tenant(hashed_identities=True)
    asked: dict[str, Any] = {"system": SYSTEM, "capacity": "processor", "tenant": "bygg"}
    located = await handler.locate(bench.task("locate", hashed(ANNA), **asked))
    assert isinstance(located, Located)
    assert ["diary-1", "user-1"] == sorted(one.id for one in located.references)
    erased = bench.task("erase", hashed(ANNA), references=located.references, **asked)
    assert isinstance(await handler.erase(erased), Accepted)
    proving = bench.task("prove", hashed(ANNA), references=located.references, **asked)
    assert isinstance(await handler.prove(proving), Proved)
    assert [] == bench.sandbox.holds(ANNA)


@pytest.mark.parametrize("compares", [True, False])
@pytest.mark.parametrize("clear", [[], [Identifier("email", "nobody@example.com")]])
async def test_a_hash_that_matches_nothing_is_never_nothing_held(
    bench: Bench, compares: bool, clear: list[Identifier]
) -> None:
    """The product may hold the address in another writing, or may not know what a hash is: Art. 11."""
    handler = bench.tenant(hashed_identities=compares, control_email=ANNA)
    asked: dict[str, Any] = {"system": SYSTEM, "instruction": "erase"}
    other = hashed("anna.ek@example.com")
    result = await handler.locate(bench.task("locate", *clear, other, **asked))
    assert isinstance(result, NotIdentifiable)
    assert ("email",) == result.missing
    assert [] == bench.effects("controllers", "confirmation_received")


async def test_a_product_that_compares_no_hashes_is_asked_for_none(bench: Bench) -> None:
    """Even for one that it holds: what it doesn't know it might refuse, or take for something else."""
    asked: dict[str, Any] = {"system": SYSTEM, "instruction": "erase"}
    result = await bench.tenant().locate(bench.task("locate", hashed(ANNA), **asked))
    assert isinstance(result, NotIdentifiable)
    assert ("email",) == result.missing


async def test_asking_again_is_the_same_request(bench: Bench) -> None:
    """A repeat before and after we knew its answer, and a reminder: one request with the controller."""
    handler = bench.tenant()
    bench.sandbox.fault("lost_response", vendor="controllers", path="requests")
    with pytest.raises(Retryable, match=r"^connection_lost$"):
        await handler.locate(bench.task("locate", system=SYSTEM))
    bench.clock.pass_seconds(30)
    asked = await handler.locate(bench.task("locate", system=SYSTEM))
    assert {"asked": "passed_on", "repeated": "1"} == asked.evidence
    requests = set(bench.effects("controllers", "request_received"))
    assert {reference.id for reference in asked.references} == requests


async def test_a_reminder_repeats_what_was_sent_to_the_letter(bench: Bench) -> None:
    """With what was kept of the first, the controller sees the same body: 201, and not a conflict."""
    handler = bench.tenant()
    asked = await handler.locate(bench.task("locate", system=SYSTEM))
    bench.clock.pass_seconds(60)
    again = bench.task("locate", system=SYSTEM, references=asked.references, reminder=True)
    assert {"asked": "reminder"} == (await handler.locate(again)).evidence
    assert [False, True] == [
        line["repeated"] for line in bench.sandbox.ledger(vendor="controllers", effect="request_received")
    ]


async def test_an_instruction_names_the_attempt_that_first_passed_these_identities_on(bench: Bench) -> None:
    """A reminder repeats the address of the first asking to the letter; added identifiers get their own."""
    handler = bench.tenant()
    email, number = Identifier("email", ANNA), Identifier("customer_id", "4711")
    kept: tuple[Reference, ...] = ()
    for attempt, who in ((2, [email]), (3, [email]), (5, [email, number]), (6, [email, number])):
        task = bench.task("locate", *who, system=SYSTEM, attempt=attempt, references=kept)
        kept = unpack_references(
            pack_references(kept), pack_references((await handler.locate(task)).references)
        )
    received = bench.sandbox.ledger(vendor="controllers", effect="request_received")
    assert [False, True, False, True] == [line["repeated"] for line in received]
    bench.clock.pass_days(1)
    await bench.sandbox.tick()
    said = [bench.callback(body, headers, url.rpartition("/")[2]) for url, body, headers in bench.said]
    confirmed = [bench.confirmed("tenant", await handler.receive(one)) for one in said]
    assert {(2, None, "instructed"), (5, None, "instructed")} == {
        (one.attempt, one.command_id, one.kind) for one in confirmed
    }


async def test_a_refusal_is_the_controllers_and_has_its_reason(bench: Bench) -> None:
    """The instruction "refuse" comes through with a reason that is a token."""
    bench.sandbox.seed(
        {"controllers": [{"tenant": "bygg", "instruction": "refuse", "reason": "employment law"}]}
    )
    handler = bench.tenant()
    await handler.locate(bench.task("locate", system=SYSTEM))
    bench.clock.pass_days(1)
    await bench.sandbox.tick()
    url, body, headers = bench.said[0]
    received = await handler.receive(bench.callback(body, headers, url.rpartition("/")[2]))
    assert isinstance(received.result, PartyRefused)
    assert "employment_law" == received.result.code


async def test_nothing_is_erased_without_the_controllers_instruction(bench: Bench) -> None:
    """Even a command to erase is refused; a request from the controller carries its instruction."""
    handler = bench.tenant()
    references = (await handler.locate(bench.task("locate", instruction="erase"))).references
    with pytest.raises(Permanent, match=r"^not_instructed$"):
        await handler.erase(bench.task("erase", references=references))
    assert 2 == len(bench.sandbox.holds(ANNA))
    processor = bench.task("erase", references=references, capacity="processor", tenant="bygg")
    assert isinstance(await handler.erase(processor), Accepted)
    proved = await handler.prove(bench.task("prove", references=references, capacity="processor"))
    assert isinstance(proved, Proved)
    assert [] == bench.effects("controllers", "confirmation_received")


@pytest.mark.parametrize("verb", ["locate", "erase", "prove"])
async def test_another_tenants_data_is_never_touched(bench: Bench, verb: str) -> None:
    """A token for another tenant, or a command for one, is an error."""
    handler = bench.tenant()
    references = (await handler.locate(bench.task("locate", instruction="erase"))).references
    other = bench.task("locate", references=references, instruction="erase", tenant="other")
    with pytest.raises(Permanent, match=r"^wrong_tenant$"):
        await getattr(handler, verb)(other)
    bench.sandbox.fault("wrong_account", vendor="tenant-api", times=None)
    with pytest.raises(Permanent, match=r"^wrong_account$"):
        await getattr(handler, verb)(bench.task("erase", references=references, instruction="erase"))
    assert 2 == len(bench.sandbox.holds(ANNA))


async def test_a_lost_answer_is_repeated_and_counted_as_repeated(bench: Bench) -> None:
    """The records went and the answer was lost: the next attempt accepts."""
    handler = bench.tenant()
    references = (await handler.locate(bench.task("locate", instruction="erase"))).references
    bench.sandbox.fault("lost_response", vendor="tenant-api", path="erase")
    task = bench.task("erase", references=references, instruction="erase")
    with pytest.raises(Retryable):
        await handler.erase(task)
    accepted = await handler.erase(task)
    assert isinstance(accepted, Accepted)
    assert (2, "2") == (accepted.erased, accepted.evidence["repeated"])


async def test_what_comes_after_the_erasure_is_reported_and_what_was_missed_reopens(bench: Bench) -> None:
    """By creation date, as everywhere."""
    handler = bench.tenant()
    told: dict[str, Any] = {"instruction": "erase"}
    references = (await handler.locate(bench.task("locate", **told))).references
    await handler.erase(bench.task("erase", references=references, **told))
    erased_at = bench.clock()
    bench.clock.pass_days(1)
    bench.sandbox.seed({"tenants": [tenant(id="user-2", children=[])]})
    prove = bench.task("prove", references=references, erased_at=erased_at, **told)
    assert isinstance(await handler.prove(prove), Reappeared)
    bench.sandbox.seed({"tenants": [tenant(id="user-3", children=[], created_at=erased_at - DAY)]})
    still = await handler.prove(prove)
    assert isinstance(still, StillPresent)
    assert ["user-3"] == [one.id for one in still.references]


async def test_nothing_held_is_said_with_the_control_in_sight_and_the_controller_is_told(
    bench: Bench,
) -> None:
    """An absence needs the pinned tenant, and ends the controller's wait, too."""
    handler = bench.tenant()
    who = Identifier("email", "nobody@example.com")
    asked = await handler.locate(bench.task("locate", who, system=SYSTEM))
    task = bench.task("locate", who, system=SYSTEM, instruction="erase", references=asked.references)
    assert isinstance(await handler.locate(task), Absent)
    assert 1 == len(bench.effects("controllers", "confirmation_received"))


async def test_a_name_identifies_nobody_to_a_controller(bench: Bench) -> None:
    """Two employees may share one."""
    result = await bench.tenant().locate(bench.task("locate", Identifier("name", "Anna Ek")))
    assert isinstance(result, NotIdentifiable)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"request_status": "in_progress"}, "no_instruction"),
        ({"request_status": "completed"}, "no_instruction"),
        ({"extensions": {"radera": {"instruction": "rename"}}}, "no_instruction"),
        ([], "malformed"),
        ({"extensions": "erase"}, "malformed"),
    ],
)
async def test_what_is_no_instruction_instructs_nothing(bench: Bench, body: Any, code: str) -> None:
    """Progress reports and nonsense are dropped."""
    link = bench.links.make(REQUEST, SYSTEM, 0, bench.clock() + DAY)
    with pytest.raises(Refused, match=f"^{code}$"):
        await bench.tenant().receive(bench.callback(json.dumps(body).encode(), {}, link))


async def test_a_callback_without_its_token_or_signature_is_refused(bench: Bench) -> None:
    """The token says whom it is about; with a certificate configured the body must be signed as well."""
    body = json.dumps({"extensions": {"radera": {"instruction": "erase"}}}).encode()
    with pytest.raises(Refused, match=r"^link_invalid$"):
        await bench.tenant().receive(bench.callback(body, {}))
    link = bench.links.make(REQUEST, SYSTEM, 0, bench.clock() + DAY)
    handler = bench.tenant(callback_certificate=bench.secret("pem", "not a certificate"))
    with pytest.raises(Refused, match=r"^certificate_unusable$"):
        await handler.receive(bench.callback(body, {"X-OpenDSR-Signature": "AAAA"}, link))


async def test_a_link_is_good_for_its_system_and_its_time_only(bench: Bench) -> None:
    """Another controller's link instructs nobody here, whoever sends it; nor does one that has expired."""
    body = json.dumps({"extensions": {"radera": {"instruction": "erase"}}}).encode()
    others = bench.links.make(REQUEST, "tenant-other", 0, bench.clock() + DAY)
    with pytest.raises(Refused, match=r"^link_for_another_system$"):
        await bench.tenant().receive(bench.callback(body, {}, others))
    link = bench.links.make(REQUEST, SYSTEM, 0, bench.clock() + DAY)
    assert isinstance((await bench.tenant().receive(bench.callback(body, {}, link))).result, Instructed)
    bench.clock.pass_days(2)
    with pytest.raises(Refused, match=r"^link_expired$"):
        await bench.tenant().receive(bench.callback(body, {}, link))


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({}, None),
        ({"altered": b" "}, "signature_invalid"),
        ({"domain": "other.example"}, "signed_by_another_domain"),
        ({"certificate": "other.example"}, "certificate_of_another_domain"),
        ({"days": 400}, "certificate_not_in_force"),
        ({"to": "another"}, "meant_for_another_address"),
        ({"to": None}, "meant_for_another_address"),
    ],
)
async def test_a_signed_callback_is_believed_by_all_of_it(
    bench: Bench, changed: dict[str, Any], code: str | None
) -> None:
    """The raw body, a certificate in force for the controller's own domain, and the address it was made for:
    a signed instruction can't be sent on to the address of another request.
    """
    key = new_key("controller")
    issued = Authority(bench.clock()).issue(changed.get("certificate", "sandbox"), key)
    handler = bench.tenant(callback_certificate=bench.secret("pem", issued))
    link = bench.links.make(REQUEST, SYSTEM, 0, bench.clock() + 500 * DAY)
    to = f"{PUBLIC}/callbacks/tenant/{changed.get('to', link)}"
    said = {"status_callback_url": to, "extensions": {"radera": {"instruction": "erase"}}}
    body = json.dumps(said).encode()
    signature = base64.b64encode(key.sign(body, padding.PKCS1v15(), hashes.SHA256())).decode()
    headers = {
        "x-opendsr-signature": signature,
        "x-opendsr-processor-domain": changed.get("domain", "sandbox"),
    }
    bench.clock.pass_days(changed.get("days", 0))
    callback = bench.callback(body + changed.get("altered", b""), headers, link)
    if code is None:
        assert isinstance((await handler.receive(callback)).result, Instructed)
    else:
        with pytest.raises(Refused, match=f"^{code}$"):
            await handler.receive(callback)


@pytest.mark.parametrize(
    ("named", "signed", "expected"),
    [
        ("2026-09-01T12:00:00+02:00", True, 1_788_256_800_000_000),
        ("2026-09-01T10:00:00Z", True, 1_788_256_800_000_000),
        ("2026-09-01T10:00:00Z", False, None),
        ("2026-09-01T10:00:00", True, None),
        ("yesterday", True, None),
        (7, True, None),
        (None, True, None),
    ],
)
async def test_a_signed_word_may_say_when_it_was_said(
    bench: Bench, named: Any, signed: bool, expected: int | None
) -> None:
    """Unsigned anybody could have written it. A time that can't be read doesn't lose its word."""
    key = new_key("controller")
    pem = bench.secret("pem", Authority(bench.clock()).issue("sandbox", key))
    handler = bench.tenant(**({"callback_certificate": pem} if signed else {}))
    link = bench.links.make(REQUEST, SYSTEM, 0, bench.clock() + DAY)
    said = {
        "status_callback_url": f"{PUBLIC}/callbacks/tenant/{link}",
        "extensions": {"radera": {"instruction": "refuse", "said_at": named}},
    }
    body = json.dumps(said).encode()
    signature = base64.b64encode(key.sign(body, padding.PKCS1v15(), hashes.SHA256())).decode()
    headers = {"x-opendsr-signature": signature, "x-opendsr-processor-domain": "sandbox"}
    received = await handler.receive(bench.callback(body, headers, link))
    confirmation = bench.confirmed("tenant", received)
    assert ("refused", expected) == (confirmation.kind, confirmation.said_at)


async def test_a_controllers_address_must_be_https_unless_it_is_ours(bench: Bench) -> None:
    """Without the leave for a private address, http is refused before anything is sent."""
    handler = bench.tenant(allow_private_address=False)
    with pytest.raises(Permanent, match=r"^address_not_https$"):
        await handler.locate(bench.task("locate", system=SYSTEM))
    assert [] == bench.effects("controllers", "request_received")


async def test_a_controller_that_will_not_hear_does_not_undo_the_proof(bench: Bench) -> None:
    """What was seen in its data stays seen; the evidence says that it was not told."""
    handler = bench.tenant()
    located = await handler.locate(bench.task("locate", instruction="erase"))
    await handler.erase(bench.task("erase", references=located.references, instruction="erase"))
    bench.sandbox.fault("404", vendor="controllers", path="confirmations", times=None)

    proved = await handler.prove(
        bench.task("prove", references=located.references, erased_at=bench.clock(), instruction="erase")
    )
    assert isinstance(proved, Proved)
    assert "refused" == proved.evidence["controller_told"]
