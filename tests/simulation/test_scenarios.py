"""Lives that are written down, each as it went wrong once: none of them is drawn."""

import logging
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from handlers.superoffice_records import Child, Records
from orchestrator.saga.model import Ended, Escalation, Saga, Step
from tests.simulation.people import Person
from tests.simulation.quick import quick
from tests.simulation.robots import Asked
from tests.simulation.scenario import Scenario
from tests.simulation.schedule import Schedule
from tests.simulation.violations import Violated
from tests.simulation.world import World

DAY = 86_400_000_000
OLD, NEW = "kanarie.gammal@people.example", "kanarie.ny@people.example"
PERSON, TICKET, SUBMISSION = 7_100_000, 7_100_100, 7_100_200
REQUEST = str(uuid.UUID(int=7, version=4))


class Life:
    """A calm world, in which what is stated happens and nothing else."""

    def __init__(self) -> None:
        self.world = World(0, Scenario(requests=0))
        self.schedule = Schedule(self.world)
        self._level = logging.getLogger().level

    def held(self, **seed: Any) -> None:
        """What the vendors hold."""
        self.world.sandbox.seed(seed)

    def ask(self, email: str, *scope: str) -> Person:
        """Somebody asks to be erased who gives this one address."""
        person = Person(
            number=0,
            email=email,
            phone="+46701234567",
            name="Kanarie",
            client_id="1.1",
            tenant_id="t",
            held=(),
        )
        asked = Asked(
            request_id=REQUEST,
            person=person,
            kinds=("email",),
            scope=scope,
            verified=True,
            capacity="controller",
            tenant=None,
            at=self.world.clock(),
        )
        self.world.keys.insert(REQUEST, b"k" * 32)
        self.schedule.requester.send(asked)
        self.schedule.requester.asked.append(asked)
        return person

    @property
    def saga(self) -> Saga:
        return self.world.sagas[REQUEST]

    def step(self, system: str) -> Step:
        found = self.saga.step(system)
        assert found is not None
        return found

    def question(self) -> Escalation | None:
        """The next question that is put to the DPO; None when the request ends without one."""
        for _ in range(3000):
            if self.schedule.has_work():
                self.schedule.one_step()
            elif REQUEST in self.world.sagas and self.saga.escalations:
                return self.saga.escalations[0]
            elif REQUEST in self.world.sagas and self.saga.is_finished:
                return None
            else:
                self.schedule.pass_time()
        raise AssertionError("nothing came of it")

    def decide(self, question: Escalation, action: str) -> None:
        self.schedule.dpo.decide(self.saga, question.id, question.version, action)

    def states(self) -> dict[str, str]:
        """What SuperOffice holds of the three records, and how; a record that isn't there isn't named."""
        lines = self.world.sandbox.holds(OLD, NEW)
        return {line["kind"]: line["state"] for line in lines if line["vendor"] == "superoffice"}


@pytest.fixture
def life() -> Iterator[Life]:
    made = Life()
    root = logging.getLogger()
    level = root.level
    root.addHandler(made.world.log)
    root.setLevel(logging.INFO)
    try:
        with quick():
            yield made
    finally:
        root.setLevel(level)
        made.world.close()


def moved_on(life: Life) -> None:
    """A form was sent with an address that its person, who has a request open, has changed since."""
    made = life.world.clock() - 100 * DAY
    ticket = {"id": TICKET, "registered_at": made}
    person = {"id": PERSON, "name": "Kanarie Ny", "email": NEW, "created_at": made, "tickets": [ticket]}
    submission = {"id": SUBMISSION, "email": OLD, "person": PERSON, "registered_at": made}
    life.held(superoffice={"persons": [person], "submissions": [submission]})


def test_a_submission_leads_to_its_person(life: Life) -> None:
    """The old address is found on a form alone, which names a person with another one: the DPO is asked.

    Nothing is reported erased or absent while the person and the request are there. When the DPO says so,
    both go with the form.
    """
    moved_on(life)
    life.ask(OLD, "superoffice")
    question = life.question()
    assert question is not None
    assert "superoffice" == question.system
    assert "ambiguous" == question.reason
    assert {"person": "live", "ticket": "live", "form_submission": "live"} == life.states()
    life.decide(question, "erase")
    while (question := life.question()) is not None:
        life.decide(question, "waive")
    state = life.step("superoffice").state
    assert isinstance(state, Ended)
    assert ("erased", {}) == (state.end, life.states())


def test_a_person_who_is_led_to_is_never_nothing(life: Life) -> None:
    """If the DPO leaves them, the step ends as the DPO's and not as an erasure."""
    moved_on(life)
    life.ask(OLD, "superoffice")
    while (question := life.question()) is not None:
        life.decide(question, "waive")
    state = life.step("superoffice").state
    assert isinstance(state, Ended)
    assert "waived" == state.end
    assert {"person": "live", "ticket": "live", "form_submission": "live"} == life.states()


def renamed(life: Life, *, person: int) -> Person:
    """SuperOffice knows somebody under a new address alone. They ask with the old one, which is on a form.

    `person` is whom the form names; 0 for nobody.
    """
    made = life.world.clock() - 100 * DAY
    known = {"id": PERSON, "name": "Kanarie Ny", "email": OLD, "created_at": made}
    submission = {"id": SUBMISSION, "email": OLD, "person": person, "registered_at": made}
    life.held(superoffice={"persons": [known], "submissions": [submission]})
    life.world.sandbox.happens("renamed", vendor="superoffice", record=str(PERSON), email=NEW)
    asked = life.ask(OLD, "superoffice")
    asked.records |= {("superoffice", str(PERSON)), ("superoffice", str(SUBMISSION))}
    asked.renamed.add(("superoffice", str(PERSON)))
    return asked


def test_who_cannot_be_found_is_not_missed(life: Life) -> None:
    """A form that names nobody is all that carries the address: the step ends erased, and rightly so."""
    renamed(life, person=0)
    assert life.question() is None
    state = life.step("superoffice").state
    assert isinstance(state, Ended)
    assert ("erased", {"person": "live"}) == (state.end, life.states())


def test_who_is_named_by_a_form_is_missed(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the form asked for and left out, the judge would not take the new address for an excuse."""
    real = Records.children_by_address

    async def left_out(self: Records, kind: str, email: str) -> AsyncIterator[tuple[Child, bool]]:
        async for found in real(self, kind, email):
            if found[0].owner == 0:
                yield found

    monkeypatch.setattr(Records, "children_by_address", left_out)
    renamed(life, person=PERSON)
    with pytest.raises(Violated, match=r"superoffice is reported absent .* and the vendor holds a person"):
        life.question()
