"""The SuperOffice handler against its stand-in: what it finds, erases and says, and what it won't say."""

import base64
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from handlers import superoffice_login
from handlers.port import CallbackBody, CallFailed, Expired, Permanent, Refused, Retryable
from handlers.results import (
    Absent,
    Accepted,
    Located,
    NotIdentifiable,
    Pending,
    Proved,
    Reappeared,
    StillPresent,
    VendorPurged,
)
from handlers.sandbox.signing import public_pem
from handlers.sandbox.testing import START, partner_public_pem
from orchestrator.privacy import Identifier
from tests.contract.handlers_bench import ANNA, DAY, Bench
from tests.contract.meddling import Meddling

pytestmark = pytest.mark.anyio
CONTROL = "control@example.com"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def person(bench: Bench, **stated: Any) -> str:
    ids = bench.sandbox.seed({"superoffice": {"persons": [{"email": ANNA, **stated}]}})
    return ids["superoffice.person"][-1]


async def test_a_person_goes_with_what_hangs_on_them_and_not_before_the_purge_is_it_proved(
    bench: Bench,
) -> None:
    """Tickets and submissions go with the person; a 204 is pending until the bin has been seen to let go."""
    id_ = person(bench, tickets=2, form_submissions=1, consents=["EMARKETING"])
    handler = bench.superoffice()
    located = await handler.locate(bench.task("locate"))
    assert isinstance(located, Located)
    assert 4 == len(located.references)
    accepted = await handler.erase(bench.task("erase", references=located.references))
    assert isinstance(accepted, Accepted)
    assert 4 == accepted.erased
    erased_at = bench.clock()
    assert [id_] == bench.effects("superoffice", "consent_removed")

    pending = await handler.prove(bench.task("prove", references=located.references, erased_at=erased_at))
    assert isinstance(pending, Pending)
    assert erased_at + 14 * DAY == pending.look_again_at
    bench.clock.pass_days(14)
    references = (*located.references, *pending.references)
    proved = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    assert isinstance(proved, Proved)
    assert ("erased", "vendor_stated") == (proved.end, proved.grade)
    assert [] == bench.sandbox.holds(ANNA)


async def test_the_person_goes_last(bench: Bench) -> None:
    """A request that could not be deleted is nobody's once the person is purged, and would never be found."""
    person(bench, tickets=1)
    handler = bench.superoffice()
    references = (await handler.locate(bench.task("locate"))).references
    bench.sandbox.fault("500", vendor="superoffice", method="DELETE", path="/Ticket/")
    with pytest.raises(Retryable, match=r"^vendor_error$"):
        await handler.erase(bench.task("erase", references=references))
    assert [] == bench.effects("superoffice", "person_soft_deleted")
    bench.clock.pass_days(15)
    located = await handler.locate(bench.task("locate"))
    assert ["person", "ticket"] == sorted(one.kind for one in located.references)


async def test_every_page_and_every_address_is_searched(bench: Bench) -> None:
    """Persons past the first page, and under another of the addresses, are found; each once."""
    bench.sandbox.seed({"superoffice": {"page": 2, "persons": [{"email": ANNA} for _ in range(5)]}})
    other = person(bench, email="anna.ek@example.com", additional_emails=[ANNA])
    both = (Identifier("email", ANNA), Identifier("email", "anna.ek@example.com"))
    located = await bench.superoffice().locate(bench.task("locate", *both, takes_all=6))
    assert isinstance(located, Located)
    ids = [reference.id for reference in located.references]
    assert 6 == len(ids) == len(set(ids))
    assert other in ids


async def test_a_submission_that_nobody_answered_is_found_and_erased(bench: Bench) -> None:
    """A form that never became a person holds the address all the same."""
    bench.sandbox.seed({"superoffice": {"submissions": [{"email": ANNA}]}})
    references = await bench.erased(bench.superoffice())
    assert ["submission"] == [reference.kind for reference in references]
    assert [] == bench.sandbox.holds(ANNA)


async def test_a_sale_is_kept_and_said_to_be_kept_until_the_law_lets_it_go(bench: Bench) -> None:
    """A sale of 2026 is bookkeeping material to the end of 2033, and its deletion isn't even tried."""
    person(bench, sales=1)
    handler = bench.superoffice()
    references = await bench.erased(handler)
    erased_at = bench.clock()
    bench.clock.pass_days(15)
    proved = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    assert isinstance(proved, Proved)
    assert ("retained", "bokforingslagen_7_2") == (proved.end, proved.legal_basis)
    assert 2_019_686_400_000_000 - 1 == proved.retained_until  # 2034-01-01T00:00:00Z, less a microsecond
    assert ["sale"] == [line["kind"] for line in bench.sandbox.holds(ANNA)]


@pytest.mark.parametrize(("setting", "left"), [("report", 2), ("erase", 0)])
async def test_appointments_and_documents_go_or_are_reported(bench: Bench, setting: str, left: int) -> None:
    """What the settings leave is counted in the evidence; what they erase is gone."""
    person(bench, appointments=1, documents=1)
    handler = bench.superoffice(appointments=setting, documents=setting)
    located = await handler.locate(bench.task("locate"))
    await handler.erase(bench.task("erase", references=located.references))
    reported = {name: count for name, count in located.evidence.items() if name.endswith("_left")}
    assert {"appointments_left": str(left // 2), "documents_left": str(left // 2)} == reported
    kinds = [line["kind"] for line in bench.sandbox.holds(ANNA) if line["kind"] != "person"]
    assert left == len(kinds)


async def test_nothing_found_is_absent_only_with_the_control_record_in_sight(bench: Bench) -> None:
    """The same empty answer is an absence with the control person there, and a fault without."""
    bench.sandbox.seed({"superoffice": {"persons": [{"email": CONTROL}]}})
    handler = bench.superoffice(control_email=CONTROL)
    absent = await handler.locate(bench.task("locate"))
    assert isinstance(absent, Absent)
    assert absent.control.record
    bench.sandbox.fault("no_rights", vendor="superoffice", path="Person", times=None)
    with pytest.raises(Permanent, match=r"^control_record_not_found$"):
        await handler.locate(bench.task("locate"))


async def test_rights_lost_during_the_look_are_no_short_list(bench: Bench) -> None:
    """The person was found and the tickets were not, for want of rights: that is a fault, not a finding."""
    bench.sandbox.seed({"superoffice": {"persons": [{"email": CONTROL}]}})
    person(bench, tickets=2)
    handler = bench.superoffice(control_email=CONTROL)
    bench.sandbox.fault("no_rights", vendor="superoffice", path="/v1/Person", skip=4, times=None)
    with pytest.raises(Permanent, match=r"^control_record_not_found$"):
        await handler.locate(bench.task("locate"))


async def test_the_proof_finds_what_the_look_had_missed(bench: Bench) -> None:
    """A submission that the list before the deletion lacked goes after it: it survived the person."""
    person(bench, form_submissions=[{"registered_at": bench.clock() - DAY}] * 2)
    handler = bench.superoffice()
    located = await handler.locate(bench.task("locate"))
    assert isinstance(located, Located)
    known = tuple(one for one in located.references if one.kind == "person")
    await handler.erase(bench.task("erase", references=known))
    still = await handler.prove(bench.task("prove", references=known, erased_at=bench.clock()))
    assert isinstance(still, StillPresent)
    assert ["submission", "submission"] == [one.kind for one in still.references]


@pytest.mark.parametrize("verb", ["locate", "erase", "prove"])
async def test_a_credential_for_another_tenant_reads_as_nothing(bench: Bench, verb: str) -> None:
    """Whatever the verb, another account than the pinned one is an error, and nothing is erased in it."""
    id_ = person(bench)
    handler = bench.superoffice()
    references = (await handler.locate(bench.task("locate"))).references
    bench.sandbox.fault("wrong_account", vendor="superoffice", path="/v1/", times=None)
    with pytest.raises(Permanent, match=r"^wrong_account$"):
        await getattr(handler, verb)(bench.task("locate", references=references))
    assert [] == bench.effects("superoffice", "person_soft_deleted")
    assert [id_] == [line["record"] for line in bench.sandbox.holds(ANNA)]


async def test_nothing_is_deleted_in_another_tenant(bench: Bench) -> None:
    """Its person of the same number is somebody else: the account is compared before the first deletion."""
    person(bench)
    located = await bench.superoffice().locate(bench.task("locate"))
    transport = Meddling(bench)
    transport.changed = lambda request, body: (
        {**body, "DatabaseContextIdentifier": "Cust99999"}
        if request.url.path.endswith("currentPrincipal")
        else body
    )
    with pytest.raises(Permanent, match=r"^wrong_account$"):
        await bench.superoffice().erase(bench.task("erase", references=located.references))
    assert [] == bench.sandbox.ledger()


async def test_a_person_renamed_meanwhile_is_erased_all_the_same(bench: Bench) -> None:
    """The address changes between the look and the deletion; the id doesn't."""
    id_ = person(bench)
    bench.sandbox.fault("rename", vendor="superoffice", path="/Sales", record=id_, email="new@example.com")
    await bench.erased(bench.superoffice())
    assert [id_] == bench.effects("superoffice", "person_soft_deleted")


async def test_a_lost_answer_is_repeated_and_counted_as_repeated(bench: Bench) -> None:
    """The deletion happened and its answer was lost: the next attempt accepts, and says what was gone."""
    person(bench, tickets=1)
    handler = bench.superoffice()
    references = (await handler.locate(bench.task("locate"))).references
    bench.sandbox.fault("lost_response", vendor="superoffice", method="DELETE", path=r"/Person/\d+$")
    with pytest.raises(Retryable, match=r"^connection_lost$"):
        await handler.erase(bench.task("erase", references=references))
    accepted = await handler.erase(bench.task("erase", references=references))
    assert isinstance(accepted, Accepted)
    assert (2, "2") == (accepted.erased, accepted.evidence["repeated"])
    assert 1 == len(bench.effects("superoffice", "person_soft_deleted"))


@pytest.mark.parametrize(
    ("kind", "more", "code", "retry_after"),
    [
        ("429", {"retry_after": 7}, "rate_limited", 7_000_000),
        ("503", {"retry_after": 60}, "unavailable", 60_000_000),
        ("500", {}, "vendor_error", None),
        ("reset", {}, "connection_lost", None),
        ("refused", {}, "unreachable", None),
        ("malformed", {}, "malformed_answer", None),
    ],
)
async def test_a_fault_that_may_pass_is_retryable_and_never_an_absence(
    bench: Bench, kind: str, more: dict[str, int], code: str, retry_after: int | None
) -> None:
    """Twice the fault, twice an error with its code; then the person is found."""
    person(bench)
    handler = bench.superoffice()
    bench.sandbox.fault(kind, vendor="superoffice", path="/v1/Person$", times=2, **more)
    for _ in range(2):
        with pytest.raises(Retryable) as caught:
            await handler.locate(bench.task("locate"))
        assert (code, retry_after) == (caught.value.code, caught.value.retry_after)
        bench.clock.now += retry_after or 0
    assert isinstance(await handler.locate(bench.task("locate")), Located)


async def test_no_error_says_who_it_was_about(bench: Bench) -> None:
    """Neither the error nor what it came from quotes the address, though the URL had it."""
    handler = bench.superoffice()
    bench.sandbox.fault("reset", vendor="superoffice", path="/v1/Person$")
    with pytest.raises(Retryable) as caught:
        await handler.locate(bench.task("locate"))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert "anna" not in f"{caught.value!r} {caught.value}".lower()


async def test_an_empty_bin_proves_nothing_about_a_record_never_seen_in_it(bench: Bench) -> None:
    """A bin that we may not read is empty, too; until the purge is due the proof stays pending."""
    person(bench)
    bench.sandbox.fault("no_rights", vendor="superoffice", path="RecyclePerson", times=None)
    handler = bench.superoffice()
    references = await bench.erased(handler)
    erased_at = bench.clock()
    pending = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    assert isinstance(pending, Pending)
    assert () == pending.references


async def test_a_purge_that_is_overdue_stays_pending(bench: Bench) -> None:
    """The bin is kept longer than configured: pending past the date, and looked at daily."""
    bench.sandbox.seed({"superoffice": {"retain_deleted": "P30D"}})
    person(bench)
    handler = bench.superoffice()
    references = await bench.erased(handler)
    erased_at = bench.clock()
    bench.clock.pass_days(20)
    pending = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    assert isinstance(pending, Pending)
    assert ("purge_overdue", bench.clock() + DAY) == (pending.code, pending.look_again_at)


async def test_an_expired_ticket_is_renewed(bench: Bench) -> None:
    """Seven hours later the ticket is refused, and the verb goes on with a new one."""
    person(bench)
    handler = bench.superoffice()
    await handler.locate(bench.task("locate"))
    bench.clock.pass_seconds(7 * 3600)
    assert isinstance(await handler.locate(bench.task("locate")), Located)


async def test_a_tenant_that_moves_is_asked_for_again(bench: Bench) -> None:
    """421 from the old address is a fault that passes, since the next call asks where the tenant lives."""
    person(bench)
    handler = bench.superoffice()
    await handler.locate(bench.task("locate"))
    bench.sandbox.seed({"superoffice": {"subdomain": "online9"}})
    with pytest.raises(Retryable, match=r"^tenant_moved$"):
        await handler.locate(bench.task("locate"))
    assert isinstance(await handler.locate(bench.task("locate")), Located)


async def test_the_tenants_address_is_asked_for_when_it_is_valid_no_longer(bench: Bench) -> None:
    """Before anybody is asked at the old one: a tenant that moved costs no attempt then."""
    handler = bench.superoffice()
    await handler.locate(bench.task("locate"))
    bench.clock.pass_seconds(3700)
    bench.sandbox.seed({"superoffice": {"subdomain": "online9"}})
    assert isinstance(await handler.locate(bench.task("locate")), Absent)


async def test_a_tenant_that_is_not_running_is_waited_for(bench: Bench) -> None:
    """A suspended tenant is a retryable fault."""
    bench.sandbox.seed({"superoffice": {"running": False}})
    with pytest.raises(Retryable, match=r"^tenant_not_running$"):
        await bench.superoffice().locate(bench.task("locate"))


@pytest.mark.parametrize(
    "setting", ["client_secret", "system_user_token", "private_key", "login_certificate"]
)
async def test_wrong_credentials_are_for_a_person_to_mend(bench: Bench, setting: str) -> None:
    """Any of the four wrong is permanent: trying again changes nothing."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    wrong = {"private_key": pem.decode(), "login_certificate": public_pem(key)}.get(setting, "wrong")
    handler = bench.superoffice(**{setting: bench.secret("wrong", wrong)})
    with pytest.raises(Permanent):
        await handler.locate(bench.task("locate"))


async def test_an_answer_to_the_login_without_a_signature_is_refused() -> None:
    """Whoever can write to the line can make a token; "none" is no way of signing."""
    head, payload = (
        base64.urlsafe_b64encode(one).rstrip(b"=").decode() for one in (b'{"alg":"none"}', b"{}")
    )
    with pytest.raises(Permanent, match=r"^login_signature_invalid$"):
        superoffice_login.verified_claims(f"{head}.{payload}.", partner_public_pem())


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({superoffice_login.CONTEXT_CLAIM: "Cust99999"}, Permanent("wrong_account")),
        ({superoffice_login.CONTEXT_CLAIM: None}, Permanent("login_incomplete")),
        ({"iss": None}, Permanent("login_incomplete")),
        ({"aud": None}, Permanent("login_incomplete")),
        ({"exp": None}, Permanent("login_incomplete")),
        ({"nbf": None}, Permanent("login_incomplete")),
        ({"exp": START // 1_000_000 - 301}, Retryable("login_answer_expired")),
        ({"nbf": START // 1_000_000 + 301}, Retryable("login_answer_expired")),
    ],
)
async def test_a_login_says_when_by_whom_and_for_which_tenant_it_was_made(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], error: CallFailed
) -> None:
    """What is left out is not taken for right: a ticket for another tenant reads as nobody found."""
    real = superoffice_login.verified_claims

    def claims(token: str, public_key: str) -> dict[str, Any]:
        said = {**real(token, public_key), **changed}
        return {name: value for name, value in said.items() if value is not None}

    monkeypatch.setattr(superoffice_login, "verified_claims", claims)
    with pytest.raises(type(error), match=f"^{error.code}$"):
        await bench.superoffice().locate(bench.task("locate"))


async def test_nothing_is_erased_past_the_commands_time(bench: Bench) -> None:
    """The first deletion takes so long that the second one may not be sent any more."""
    person(bench, tickets=1)
    handler = bench.superoffice(newsletter_purpose=None)
    references = (await handler.locate(bench.task("locate"))).references
    bench.sandbox.fault("slow", vendor="superoffice", method="DELETE", seconds=20)
    with pytest.raises(Expired):
        await handler.erase(bench.task("erase", references=references, life=10_000_000))
    assert 1 == len(bench.effects("superoffice", "ticket_deleted"))
    assert [] == bench.effects("superoffice", "person_soft_deleted")


async def test_a_record_made_after_the_erasure_is_reported_and_an_older_one_reopens(bench: Bench) -> None:
    """New consent is nobody's to erase unasked; a record that was there before was missed."""
    person(bench)
    handler = bench.superoffice(ambiguous="all")
    references = await bench.erased(handler)
    erased_at = bench.clock()
    bench.clock.pass_days(15)
    person(bench)
    again = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    assert isinstance(again, Reappeared)
    assert 1 == again.count
    missed = person(bench, created_at=erased_at - DAY, tickets=[{"registered_at": erased_at - DAY}])
    still = await handler.prove(bench.task("prove", references=references, erased_at=erased_at))
    assert isinstance(still, StillPresent)
    assert [("person", missed), ("ticket", "1")] == [(one.kind, one.id) for one in still.references]


async def test_without_an_address_nobody_is_identifiable(bench: Bench) -> None:
    """A name alone finds nobody in SuperOffice; the answer says what was missing."""
    result = await bench.superoffice().locate(bench.task("locate", Identifier("name", "Anna Ek")))
    assert isinstance(result, NotIdentifiable)
    assert ("email",) == result.missing


async def test_the_purge_webhook_is_believed_when_signed_and_finds_its_request(bench: Bench) -> None:
    """The event's correlation is one that the erasure announced; one letter changed, and it is refused."""
    bench.sandbox.seed(
        {"superoffice": {"webhook": {"url": "https://radera.example.com/hook", "secret": "hook-secret"}}}
    )
    person(bench)
    handler = bench.superoffice()
    located = await handler.locate(bench.task("locate"))
    accepted = await handler.erase(bench.task("erase", references=located.references))
    bench.clock.pass_days(14)
    await bench.sandbox.tick()
    soft, purged = bench.said
    with pytest.raises(Refused, match=r"^event_not_used$"):
        await handler.receive(bench.callback(soft[1], soft[2]))
    received = await handler.receive(bench.callback(purged[1], purged[2]))
    assert isinstance(received.result, VendorPurged)
    assert accepted.correlations == (received.correlation,)
    with pytest.raises(Refused, match=r"^signature_invalid$"):
        await handler.receive(bench.callback(purged[1] + b" ", purged[2]))


async def test_another_tenants_purge_is_not_ours(bench: Bench) -> None:
    """One application has one secret for all its tenants, and each numbers its persons from one."""
    handler = bench.superoffice()

    def signed(tenant: str) -> CallbackBody:
        said = {"Event": "person.deleted", "PrimaryKey": 1, "ContextIdentifier": tenant}
        body = json.dumps(said).encode()
        signature = base64.b64encode(hmac.digest(b"hook-secret", body, "sha256")).decode()
        return bench.callback(body, {"X-SuperOffice-Signature": signature})

    assert isinstance((await handler.receive(signed("Cust12345"))).result, VendorPurged)
    with pytest.raises(Refused, match=r"^wrong_account$"):
        await handler.receive(signed("Cust99999"))


async def test_a_second_deletion_begins_the_wait_for_the_purge_anew(bench: Bench) -> None:
    """A person who was seen in the bin, came back and was deleted again: an empty bin proves nothing yet."""
    id_ = person(bench)
    handler = bench.superoffice()
    references = await bench.erased(handler)
    bench.clock.pass_days(20)
    person(bench, id=int(id_))
    bench.sandbox.fault("no_rights", vendor="superoffice", path="RecyclePerson", times=None)
    accepted = await handler.erase(bench.task("erase", references=references))
    second = bench.clock()
    seen = (*references, *accepted.references)
    task = bench.task("prove", references=seen, erased_at=second, accepted_at=second)
    assert isinstance(await handler.prove(task), Pending)
    bench.clock.pass_days(15)
    proved = await handler.prove(task)
    assert isinstance(proved, Proved)
    assert "vendor_promised" == proved.grade
