"""What the DPO agrees to: exactly the records that he was asked about, in every system that is searched.

Between his question and his answer an address may be given away, and people come and go. Whoever was not
among those asked about is a new question, also when one record alone has the address by then.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handlers.port import Reference, Task
from handlers.results import Absent, Ambiguous, Located, Result, StillAmbiguous
from orchestrator.privacy import Identifier
from schemas.messages import Verb
from tests.contract.handlers_bench import ANNA, DAY, Bench

pytestmark = pytest.mark.anyio
NEW = Identifier("email", "new@example.com")


class Shop:
    """One system with people in it, each with addresses; how its stand-in keeps them is told here."""

    def __init__(self, bench: Bench, kind: str) -> None:
        self.bench, self.kind = bench, kind
        self._records: list[dict[str, Any]] = []
        if kind == "tenant":
            bench.sandbox.seed({"controllers": [{"tenant": "bygg"}], "tenants": [{"tenant": "bygg"}]})

    def handler(self, **changed: Any) -> Any:
        made: dict[str, Callable[..., Any]] = {
            "hubspot": self.bench.hubspot,
            "superoffice": self.bench.superoffice,
            "teamtailor": self.bench.teamtailor,
            "tenant": self.bench.tenant,
        }
        return made[self.kind](**changed)

    def add(self, *emails: str, days: int = 300) -> str:
        """A person with these addresses, made so many days ago; returns the record's id."""
        made = {"created_at": self.bench.clock() - days * DAY}
        id_ = self._add(list(emails), made)
        # HubSpot's search shows what is new after a while.
        self.bench.clock.pass_seconds(60)
        return id_

    def _add(self, emails: list[str], made: dict[str, Any]) -> str:
        seed = self.bench.sandbox.seed
        match self.kind:
            case "hubspot":
                # An address is the first one's own; whoever shares it has it as a further one.
                held = [row["email"] for row in self.bench.sandbox.store.rows("hubspot.contact")]
                if emails[0] in held:
                    emails = [f"own{len(held)}@example.com", *emails]
                contact = {"email": emails[0], "additional_emails": emails[1:], **made}
                return seed({"hubspot": {"contacts": [contact]}})["hubspot.contact"][-1]
            case "superoffice":
                person = {"email": emails[0], "additional_emails": emails[1:], **made}
                return seed({"superoffice": {"persons": [person]}})["superoffice.person"][-1]
            case "teamtailor":
                candidate = {"email": emails[0], **made}
                return seed({"teamtailor": {"candidates": [candidate]}})["teamtailor.candidate"][-1]
            case _:
                id_ = f"user-{len(self._records) + 1}"
                identities = [{"type": "email", "value": email} for email in emails]
                self._records.append({"id": id_, "identities": identities, **made})
                seed({"tenants": [{"tenant": "bygg", "records": self._records[-1:]}]})
                return id_

    def remove(self, id_: str) -> None:
        """The record leaves, as if somebody had given its address away."""
        tables = {
            "hubspot": "hubspot.contact",
            "superoffice": "superoffice.person",
            "teamtailor": "teamtailor.candidate",
            "tenant": "tenant.record",
        }
        key = f"bygg:{id_}" if self.kind == "tenant" else id_
        assert self.bench.sandbox.store.get(tables[self.kind], key) is not None
        self.bench.sandbox.store.drop(tables[self.kind], key)

    async def locate(self, *identifiers: Identifier, **more: Any) -> Result:
        result: Result = await self.handler().locate(self.task(*identifiers, **more))
        return result

    def task(self, *identifiers: Identifier, verb: Verb = "locate", **more: Any) -> Task:
        told: dict[str, Any] = {"instruction": "erase"} if self.kind == "tenant" else {}
        return self.bench.task(verb, *identifiers, **told, **more)


@pytest.fixture(params=["hubspot", "superoffice", "teamtailor", "tenant"])
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Shop:
    return Shop(Bench(tmp_path), request.param)


def whom(result: Result) -> set[str]:
    """The ids of those who are asked about."""
    assert isinstance(result, Ambiguous | StillAmbiguous)
    return {one.id for one in result.asked}


async def test_an_address_that_was_given_away_is_a_new_question(shop: Shop) -> None:
    """Both who were asked about have left, and one whom nobody asked about has the address alone. His
    "erase" was not about that one.
    """
    first, second = shop.add(ANNA), shop.add(ANNA)
    asked = await shop.locate()
    assert isinstance(asked, Ambiguous)
    assert {first, second} == whom(asked)
    shop.remove(first)
    shop.remove(second)
    third = shop.add(ANNA)
    again = await shop.locate(takes_all=2, asked=asked.asked)
    assert {third} == whom(again)
    assert () == again.references
    assert isinstance(again, Ambiguous)
    agreed = await shop.locate(takes_all=1, asked=again.asked)
    assert isinstance(agreed, Located)
    assert [third] == [one.id for one in agreed.references]
    everybody = await shop.handler(ambiguous="all").locate(shop.task(takes_all=2, asked=asked.asked))
    assert isinstance(everybody, Located)


async def test_who_is_left_of_those_asked_about_is_taken(shop: Shop) -> None:
    """One has left: the DPO agreed to the other, who is no new question."""
    first, second = shop.add(ANNA), shop.add(ANNA)
    asked = await shop.locate()
    assert isinstance(asked, Ambiguous)
    shop.remove(second)
    taken = await shop.locate(takes_all=2, asked=asked.asked)
    assert isinstance(taken, Located)
    assert [first] == [one.id for one in taken.references]


async def test_nobody_left_is_nothing_to_agree_to(shop: Shop) -> None:
    """All who were asked about have left, and nobody came."""
    asked_ids = shop.add(ANNA), shop.add(ANNA)
    asked = await shop.locate()
    assert isinstance(asked, Ambiguous)
    for id_ in asked_ids:
        shop.remove(id_)
    assert isinstance(await shop.locate(takes_all=2, asked=asked.asked), Absent)


async def test_the_question_is_about_all_that_would_go(shop: Shop) -> None:
    """Two share one address, and a third has another of the person's alone. All three would be erased, so
    all three are asked about, and one answer does.
    """
    ids = {shop.add(ANNA), shop.add(ANNA), shop.add(NEW.value)}
    both = (Identifier("email", ANNA), NEW)
    asked = await shop.locate(*both)
    assert ids == whom(asked)
    assert isinstance(asked, Ambiguous)
    assert "3" == asked.evidence["persons_of_one_address"]
    taken = await shop.locate(*both, takes_all=3, asked=asked.asked)
    assert isinstance(taken, Located)
    assert ids == {one.id for one in taken.references}


async def test_who_was_located_before_needs_no_answer(shop: Shop) -> None:
    """They are the person's without a question, and an answer about others is no word against them."""
    mine = shop.add(NEW.value)
    known = (await shop.locate(NEW)).references
    pair = {shop.add(ANNA), shop.add(ANNA)}
    both = (Identifier("email", ANNA), NEW)
    asked = await shop.locate(*both, references=known)
    assert isinstance(asked, Ambiguous)
    assert pair <= whom(asked)
    taken = await shop.locate(*both, references=known, takes_all=asked.count, asked=asked.asked)
    assert isinstance(taken, Located)
    assert {mine, *pair} == {one.id for one in taken.references if one.id in {mine, *pair}}


async def test_a_look_without_an_answer_is_a_first_look(shop: Shop) -> None:
    """A retry agrees to nothing: it asks where several share the address, and where one alone has it there
    is nothing to ask.
    """
    first, second = shop.add(ANNA), shop.add(ANNA)
    assert {first, second} == whom(await shop.locate())
    assert {first, second} == whom(await shop.locate())
    shop.remove(second)
    located = await shop.locate()
    assert isinstance(located, Located)
    assert [first] == [one.id for one in located.references]


async def test_an_answer_to_a_proof_is_no_word_on_who_came_since(shop: Shop) -> None:
    """The proof asked about one whom the search had missed. By the DPO's "erase" another has come, who may
    be new consent: not erased on the strength of it.
    """
    kind = {"hubspot": "contact", "superoffice": "person", "teamtailor": "candidate", "tenant": "record"}
    gone = (Reference(kind=kind[shop.kind], id="99"),)
    missed = {shop.add(ANNA), shop.add(ANNA)}
    proof = shop.task(verb="prove", references=gone, erased_at=shop.bench.clock())
    still = await shop.handler().prove(proof)
    assert missed == whom(still)
    assert isinstance(still, StillAmbiguous)
    came = shop.add(NEW.value, days=0)
    again = await shop.locate(Identifier("email", ANNA), NEW, references=gone, takes_all=2, asked=still.asked)
    assert came in whom(again)
