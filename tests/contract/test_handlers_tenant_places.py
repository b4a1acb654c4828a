"""A tenant's records: where was looked and by what, and records that are another's by now."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typing_extensions import override

from handlers.places import PlaceUnreadable
from handlers.port import Permanent, Reference, Retryable
from handlers.results import (
    Absent,
    Accepted,
    Ambiguous,
    AwaitingParty,
    Located,
    NotIdentifiable,
    Proved,
    Reappeared,
    Result,
    StillAmbiguous,
    StillPresent,
)
from orchestrator.privacy import Identifier
from schemas.messages import Place
from tests.contract.handlers_bench import ANNA, DAY, Bench
from tests.contract.scripted import Scripted

pytestmark = pytest.mark.anyio
TOLD: dict[str, Any] = {"instruction": "erase"}
OLD = "2024-01-01T00:00:00Z"
MINUTE = 60_000_000
EMAIL = Identifier("email", ANNA)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    record = {
        "id": "user-1",
        "identities": [{"type": "email", "value": ANNA}],
        "children": [{"id": "diary-1", "type": "diary"}],
        "created_at": made.clock() - 300 * DAY,
    }
    tenants = [{"tenant": "bygg", "records": [record]}]
    made.sandbox.seed({"controllers": [{"tenant": "bygg"}], "tenants": tenants})
    return made


def row(id_: str, email: str | None = ANNA, **more: Any) -> dict[str, Any]:
    """A record as the product shows it."""
    known = {} if email is None else {"identities": [{"type": "email", "value": email}]}
    return {"id": id_, "type": "user", "created_at": OLD, **known, **more}


def scripted(bench: Bench, *rows: dict[str, Any]) -> Scripted:
    """A product that always shows these, whatever it is asked."""
    script = Scripted(bench)
    script.says("POST", "/subjects/locate$", 200, {"records": list(rows)})
    script.says("POST", "/subjects/prove$", 200, {"present": list(rows)})
    return script


def reference(id_: str) -> Reference:
    return Reference(kind="record", id=id_)


async def test_records_are_reported_with_what_they_were_searched_by(bench: Bench) -> None:
    """Every kind that the product knows, from the look to the proof; a name, which it doesn't know, is not
    told as searched.
    """
    second, phone = Identifier("email", "new@example.com"), Identifier("phone", "+46701234567")
    known = (EMAIL, second, phone, Identifier("name", "Anna Ek"))
    handler = bench.tenant()
    located = await handler.locate(bench.task("locate", *known, **TOLD))
    await handler.erase(bench.task("erase", *known, references=located.references, **TOLD))
    task = bench.task("prove", *known, references=located.references, erased_at=bench.clock(), **TOLD)
    proved = await handler.prove(task)
    assert isinstance(proved, Proved)
    expected = Place(name="records", looked=True, by={"email": 2, "phone": 1}, not_by={"name": 1})
    assert [(expected,)] * 2 == [located.places, proved.places]


async def test_nothing_is_told_as_searched_before_the_controllers_instruction(bench: Bench) -> None:
    """The controller's data is not looked at, and the report says why."""
    waiting = await bench.tenant().locate(bench.task("locate", system="tenant-bygg"))
    assert isinstance(waiting, AwaitingParty)
    assert (Place(name="records", looked=False, reason="not_instructed"),) == waiting.places


async def test_whom_no_identity_names_nobody_looked_for(bench: Bench) -> None:
    """Before the instruction and after it."""
    for told in ({}, TOLD):
        result = await bench.tenant().locate(bench.task("locate", Identifier("name", "Anna"), **told))
        assert isinstance(result, NotIdentifiable)
        assert (Place(name="records", looked=False, reason="no_identifier"),) == result.places


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("verb", ["locate", "prove"])
async def test_records_that_cannot_be_read_are_never_none(bench: Bench, verb: str, status: int) -> None:
    """The step names the place, and the controller is not told that nothing was held."""
    Scripted(bench).says("POST", "/subjects/", status, {"error": {"code": "forbidden"}})
    with pytest.raises(PlaceUnreadable, match=r"^place_unreadable.records$"):
        await getattr(bench.tenant(), verb)(bench.task("locate", **TOLD))
    assert [] == bench.effects("controllers", "confirmation_received")


@pytest.mark.parametrize(
    "rows",
    [
        [row("user-9", "beata@example.com")],
        [row("user-9", None)],
        [row("user-1"), row("diary-9", None, parent="user-9")],
        [row("user-1"), row("a", None, parent="b"), row("b", None, parent="a")],
    ],
)
@pytest.mark.parametrize("verb", ["locate", "erase", "prove"])
async def test_a_record_that_nothing_of_the_persons_leads_to_is_never_taken(
    bench: Bench, verb: str, rows: list[dict[str, Any]]
) -> None:
    """A product that ignores what it is asked would have us erase somebody else."""
    script = scripted(bench, *rows)
    task = bench.task("prove", references=(reference("user-1"),), **TOLD)
    with pytest.raises(Permanent, match=r"^filter_not_honoured$"):
        await getattr(bench.tenant(), verb)(task)
    assert [] == [path for path in script.paths("POST") if path.endswith("/erase")]


async def test_a_record_is_reached_through_those_above_it(bench: Bench) -> None:
    """A note hangs on a diary, which hangs on the user, who has the address; in whatever order they come."""
    rows = [
        row("note", None, parent="diary"),
        row("diary", None, parent="user-1"),
        row("user-1", "Anna@Example.com"),
    ]
    scripted(bench, *rows)
    located = await bench.tenant().locate(bench.task("locate", **TOLD))
    assert {"note", "diary", "user-1"} == {one.id for one in located.references}


async def test_a_child_is_reached_by_the_reference_of_a_parent_that_is_gone(bench: Bench) -> None:
    """Erased half: the user went, the diary stayed. It is still the person's."""
    scripted(bench, row("diary-1", None, parent="user-1"))
    references = (reference("user-1"), reference("diary-1"))
    still = await bench.tenant().prove(bench.task("prove", references=references, erased_at=1, **TOLD))
    assert isinstance(still, StillPresent)
    assert ["diary-1"] == [one.id for one in still.references]


async def test_a_record_that_is_another_persons_by_now_is_asked_about(bench: Bench) -> None:
    """The product merged two users: under the located id there is somebody else, with the diary. The DPO's
    "erase" counts for what it was when he was asked.
    """
    references = (reference("user-1"), reference("diary-1"))
    known: dict[str, Any] = {"references": references, **TOLD}
    script = scripted(bench, row("user-1", "beata@example.com"), row("diary-1", None, parent="user-1"))
    handler = bench.tenant()
    accepted = await handler.erase(bench.task("erase", **known))
    assert isinstance(accepted, Accepted)
    assert (0, {"records_changed": "2"}) == (accepted.erased, accepted.evidence)
    assert [] == [path for path in script.paths("POST") if path.endswith("/erase")]
    asked = await handler.prove(bench.task("prove", erased_at=bench.clock(), **known))
    assert isinstance(asked, StillAmbiguous)
    assert 2 == asked.count
    assert isinstance(await handler.locate(bench.task("locate", **known)), Ambiguous)
    agreed = await handler.locate(bench.task("locate", takes_all=2, **known))
    assert isinstance(agreed, Located)
    script.says("POST", "/subjects/erase$", 200, {"erased": ["user-1", "diary-1"], "missing": []})
    told = bench.task("erase", references=agreed.references, **TOLD)
    assert 2 == getattr(await handler.erase(told), "erased", None)


async def test_a_record_with_another_address_goes_and_the_changed_one_stays(bench: Bench) -> None:
    """Of two that were located, one is still the person's."""
    script = scripted(bench, row("user-1"), row("user-2", "beata@example.com"))
    script.says("POST", "/subjects/erase$", 200, {"erased": ["user-1"], "missing": []})
    references = (reference("user-1"), reference("user-2"))
    accepted = await bench.tenant().erase(bench.task("erase", references=references, **TOLD))
    assert isinstance(accepted, Accepted)
    assert (1, {"records_changed": "1"}) == (accepted.erased, accepted.evidence)


async def test_records_of_several_people_are_the_dpos_to_decide(bench: Bench) -> None:
    """The product says whose they are. The DPO's word is about the people who were there then: neither
    about one more nor about another in the place of one who left.
    """
    rows = [row("u1", person="anna"), row("o1", person="anna"), row("u2", person="beata")]
    scripted(bench, *rows)
    handler = bench.tenant()
    asked = await handler.locate(bench.task("locate", **TOLD))
    assert isinstance(asked, Ambiguous)
    assert (2, "2") == (asked.count, asked.evidence["persons_of_one_address"])
    taken = await handler.locate(bench.task("locate", takes_all=2, **TOLD))
    assert isinstance(taken, Located)
    assert 3 == len(taken.references)
    scripted(bench, *rows, row("u3", person="cecilia"))
    handler = bench.tenant()
    assert isinstance(await handler.locate(bench.task("locate", takes_all=2, **TOLD)), Ambiguous)
    decided = bench.task("locate", takes_all=2, asked=asked.asked, **TOLD)
    scripted(bench, *rows[:2], row("u3", person="cecilia"))
    assert isinstance(await bench.tenant().locate(decided), Ambiguous)
    scripted(bench, *rows, row("o2", person="beata"))
    assert isinstance(await bench.tenant().locate(decided), Located)
    scripted(bench, *rows, row("u3", person="cecilia"))
    handler = bench.tenant(ambiguous="all")
    assert isinstance(await handler.locate(bench.task("locate", **TOLD)), Located)


async def test_records_that_the_product_says_are_one_persons_are_not_asked_about(bench: Bench) -> None:
    """And what hangs on a record is its person's, without a word of the product's."""
    scripted(bench, row("u1", person="anna"), row("o1", person="anna"), row("d1", None, parent="u1"))
    located = await bench.tenant().locate(bench.task("locate", **TOLD))
    assert 3 == len(located.references)


async def test_a_product_that_tells_nobody_apart_has_the_dpo_asked(bench: Bench) -> None:
    """Two records with one address, and no word whether they are one person's: an instruction to erase says
    nothing of that.
    """
    scripted(bench, row("u1"), row("u2"))
    assert isinstance(await bench.tenant().locate(bench.task("locate", **TOLD)), Ambiguous)
    processor = bench.task("locate", capacity="processor", tenant="bygg")
    assert isinstance(await bench.tenant().locate(processor), Ambiguous)


async def test_several_people_whom_the_look_missed_are_asked_about(bench: Bench) -> None:
    """After the erasure two older users turn up; the one that was located is gone."""
    scripted(bench, row("u8", person="anna"), row("u9", person="beata"))
    task = bench.task("prove", references=(reference("user-1"),), erased_at=bench.clock(), **TOLD)
    asked = await bench.tenant().prove(task)
    assert isinstance(asked, StillAmbiguous)
    assert 2 == asked.count


@pytest.mark.parametrize(
    ("created_at", "expected"),
    [
        ("2026-08-31T23:54:59Z", StillPresent),
        ("2026-08-31T23:56:00Z", Reappeared),
        ("2026-09-01T00:04:00Z", Reappeared),
        (None, Reappeared),
    ],
)
async def test_only_a_record_that_is_surely_older_is_erased_again(
    bench: Bench, created_at: str | None, expected: type[Result]
) -> None:
    """The clocks may differ by five minutes, and an unknown age is no age."""
    scripted(bench, row("u9", created_at=created_at))
    result = await bench.tenant().prove(bench.task("prove", erased_at=bench.clock(), **TOLD))
    assert expected is type(result)


@pytest.mark.parametrize("said", [{"errors": [{"code": "locked"}]}, {"error": {"code": "locked"}}])
async def test_a_yes_that_tells_errors_is_none(bench: Bench, said: dict[str, Any]) -> None:
    """200, with every record named as erased, and an error beside it."""
    script = scripted(bench, row("user-1"))
    script.says("POST", "/subjects/erase$", 200, {"erased": ["user-1"], "missing": [], **said})
    task = bench.task("erase", references=(reference("user-1"),), **TOLD)
    with pytest.raises(Retryable, match=r"^vendor_error$"):
        await bench.tenant().erase(task)


@pytest.mark.parametrize(
    ("erased", "missing"),
    [(["user-1"], []), ([], ["user-1"]), ([], []), (["user-1", "user-2", "user-3"], [])],
)
async def test_a_product_that_erases_some_has_not_erased_all(
    bench: Bench, erased: list[str], missing: list[str]
) -> None:
    """Each record that was to go is named as erased or as gone before, and no other is. What is left out is
    still there.
    """
    script = scripted(bench, row("user-1"), row("user-2"))
    script.says("POST", "/subjects/erase$", 200, {"erased": erased, "missing": missing})
    references = (reference("user-1"), reference("user-2"))
    with pytest.raises(Retryable, match=r"^malformed_answer$"):
        await bench.tenant().erase(bench.task("erase", references=references, **TOLD))


async def test_a_proof_looks_past_every_cache(bench: Bench) -> None:
    """Also where nothing was located before: what a first look has in a cache proves nothing."""
    script = scripted(bench)
    await bench.tenant().prove(bench.task("prove", erased_at=bench.clock(), **TOLD))
    asked = [path for path in script.paths("POST") if "/subjects/" in path]
    assert ["prove"] == [path.rpartition("/")[2] for path in asked]


async def test_a_control_record_must_be_the_one_that_was_asked_for(bench: Bench) -> None:
    """A product that ignores what it is asked shows a record for any address."""
    scripted(bench, row("user-1"))
    handler = bench.tenant(control_email="control@example.com")
    with pytest.raises(Permanent, match=r"^filter_not_honoured$"):
        await handler.locate(bench.task("locate", **TOLD))


async def test_identities_are_compared_as_we_know_them(bench: Bench) -> None:
    """A product that keeps numbers and addresses as people typed them answers about the same person."""
    identities = [{"type": "phone", "value": "+46 70-123 45 67"}]
    scripted(bench, {"id": "u1", "identities": identities, "created_at": OLD})
    located = await bench.tenant().locate(bench.task("locate", Identifier("phone", "+46701234567"), **TOLD))
    assert isinstance(located, Located)
    scripted(bench)
    absent = await bench.tenant().locate(bench.task("locate", **TOLD))
    assert isinstance(absent, Absent)
    assert {"control": "account"} == absent.control.evidence()


def hang(bench: Bench, record: str, on: str, email: str = ANNA) -> None:
    """A record with an address of its own, that hangs on another."""
    identities = [{"type": "email", "value": email}]
    known = {"id": record, "identities": identities, "created_at": bench.clock() - 300 * DAY}
    bench.sandbox.seed({"tenants": [{"tenant": "bygg", "records": [known]}]})
    row = bench.sandbox.store.get("tenant.record", f"bygg:{record}")
    assert row is not None
    bench.sandbox.store.put("tenant.record", f"bygg:{record}", {**row, "parent": on})


def rename(bench: Bench, record: str, email: str) -> None:
    """The product knows the record's person by another address from now on."""
    for key in (record, "diary-1"):
        row = bench.sandbox.store.get("tenant.record", f"bygg:{key}")
        assert row is not None
        changed = {"identities": [{"type": "email", "value": email}], "about": [email, f"#email:{email}"]}
        bench.sandbox.store.put("tenant.record", f"bygg:{key}", {**row, **changed})


class Orphans(Scripted):
    """A product that shows of a record both its own addresses and what it hangs on."""

    def __init__(self, bench: Bench, record: str, on: str) -> None:
        super().__init__(bench)
        self._record, self._on = record, on

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        said = json.loads(await response.aread() or b"{}")
        for row in [*said.get("records", ()), *said.get("present", ())]:
            if row["id"] == self._record:
                row |= {"parent": self._on, "identities": [{"type": "email", "value": ANNA}]}
        return httpx.Response(response.status_code, json=said, request=request)


async def test_a_lead_is_followed_up_to_a_person_with_another_address(bench: Bench) -> None:
    """A form with the old address hangs on the user, whose address was changed since. Nothing is erased
    before the DPO has decided; then the user goes with all that hangs on them.
    """
    hang(bench, "form-1", on="user-1")
    rename(bench, "user-1", "new@example.com")
    Orphans(bench, "form-1", "user-1")
    handler = bench.tenant()
    asked = await handler.locate(bench.task("locate", **TOLD))
    assert isinstance(asked, Ambiguous)
    assert (2, "1") == (asked.count, asked.evidence["persons_led_to"])
    agreed = await handler.locate(bench.task("locate", takes_all=2, **TOLD))
    assert {"form-1", "user-1", "diary-1"} == {one.id for one in agreed.references}
    await handler.erase(bench.task("erase", references=agreed.references, **TOLD))
    assert {"form-1", "user-1", "diary-1"} == set(bench.effects("tenant-api", "record_erased"))
    task = bench.task("prove", references=agreed.references, erased_at=bench.clock(), **TOLD)
    assert isinstance(await handler.prove(task), Proved)


async def test_what_leads_to_another_person_stays_until_the_dpo_has_decided(bench: Bench) -> None:
    """The user's address was changed after the look. If the form went now, nothing would lead to them."""
    hang(bench, "form-1", on="user-1")
    Orphans(bench, "form-1", "user-1")
    references = (reference("form-1"),)
    rename(bench, "user-1", "new@example.com")
    handler = bench.tenant()
    accepted = await handler.erase(bench.task("erase", references=references, **TOLD))
    assert isinstance(accepted, Accepted)
    assert (0, {"persons_led_to": "1"}) == (accepted.erased, accepted.evidence)
    assert [] == bench.effects("tenant-api", "record_erased")
    asked = await handler.prove(bench.task("prove", references=references, erased_at=bench.clock(), **TOLD))
    assert isinstance(asked, StillAmbiguous)
    assert "1" == asked.evidence["persons_led_to"]


async def test_a_lead_to_the_same_person_is_no_question(bench: Bench) -> None:
    """The user has the address, and was only left out of the list."""
    row_of = row("form-1", parent="user-1")
    script = Scripted(bench)
    script.says("POST", "/subjects/locate$", 200, {"records": [row_of]})
    above = [row("user-1"), row("diary-1", None, parent="user-1"), row_of]
    script.says("POST", "/subjects/prove$", 200, {"present": above})
    located = await bench.tenant().locate(bench.task("locate", **TOLD))
    assert isinstance(located, Located)
    assert {"form-1", "user-1", "diary-1"} == {one.id for one in located.references}


async def test_leads_without_an_end_are_not_followed_for_ever(bench: Bench) -> None:
    """Each record hangs on another that was never heard of."""
    script = Scripted(bench)

    def another(request: httpx.Request) -> httpx.Response:
        (asked,) = json.loads(request.content).get("records") or ["r0"]
        number = int(asked.removeprefix("r"))
        said = row(asked, parent=f"r{number + 1}")
        return httpx.Response(200, json={"records": [said], "present": [said]}, request=request)

    script.answers("POST", "/subjects/", another)
    with pytest.raises(Permanent, match=r"^too_many_pages$"):
        await bench.tenant().locate(bench.task("locate", **TOLD))
