"""What must hold when all is over, judged by what is outside: the vendors' ledger, the mails as they came,
the topics as they are. Each rule gives what is wrong, in lines.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from orchestrator.smtp import message_id
from schemas import topics
from schemas.codec import schema_id_of
from schemas.messages import Outcome
from tests.chaos.disorder import Disorder
from tests.chaos.faults import Trouble
from tests.chaos.fleet import Fleet
from tests.chaos.installation import DOMAIN, DPO, GROUPS, READ, Installation, patiently
from tests.chaos.mails import Mails
from tests.chaos.people import Person
from tests.chaos.records import MARK

_SHOWN = 12
#: The outcomes that a request has, and those that one which came in disorder may have as well.
_KINDS = {"completed", "acted", "notice"}
_MORE = {"decided": {"escalated"}, "supplemented": {"escalated", "corrected"}}
#: Log records that only a fault of ours can make.
_OURS = re.compile(
    r"saga_quarantined|batch_failed|event_failed|timers_failed|worker_error|handler_error|"
    r"role_failed_at_the_end|outcome_without_words|Fatal Python error"
)


@dataclass
class Judgement:
    """Of one run, when everything is quiet."""

    installation: Installation
    trouble: Trouble
    bystanders: list[Person]
    disorder: Disorder

    def wrong(self) -> list[str]:
        """Every rule that does not hold, in lines."""
        rules: list[Callable[[], Iterator[str]]] = [
            self.ends,
            self.effects,
            self.outcomes,
            self.completions,
            self.mails,
            self.poison,
            self.framing,
            self.disorder.wrong,
            self.timelines,
            self.keys,
            self.rest,
            self.processes,
            self.logs,
        ]
        found: list[str] = []
        for rule in rules:
            lines = list(rule())
            more = len(lines) - _SHOWN
            found += [f"{rule.__name__}: {line}" for line in lines[:_SHOWN]]
            found += [f"{rule.__name__}: and {more} more"] if more > 0 else []
        return found

    # --- requests and vendors ---

    def ends(self) -> Iterator[str]:
        """Every request is completed, each step with the end that the person's records call for."""
        sagas = self.installation.sagas()
        for person in self.installation.people:
            saga = sagas.get(person.request_id)
            if saga is None:
                yield f"{person.request_id} was never begun"
                continue
            ends = {step.system: getattr(step.state, "end", step.state.status) for step in saga.steps}
            if ("completed", person.ends) != (saga.status, ends):
                yield f"{person.request_id} is {saga.status} with {ends}, not completed with {person.ends}"
            if saga.escalations:
                yield f"{person.request_id} has questions: {[one.reason for one in saga.escalations]}"

    def effects(self) -> Iterator[str]:
        """The vendors did all that had to be done, each once, and nothing else: what they hold is what those
        have who asked for nothing. The agency was written to about everybody.
        """
        for system, vendor in self.installation.vendors.items():
            done = Counter(record for record, _, repeated in vendor.ledger() if not repeated)
            expected = {record for person in self.installation.people for record in person.records[system]}
            yield from (f"missing {record}" for record in sorted(expected - set(done)))
            yield from (f"not asked for {record}" for record in sorted(set(done) - expected))
            yield from (f"{times} times {record}" for record, times in done.items() if times > 1)
            kept = {record for person in self.bystanders for record in person.records[system]}
            if kept != set(vendor.left()):
                yield f"{system} holds {set(vendor.left()) ^ kept} too much or too little"
        said = sum(line["effect"] == "said_erased" for line in self.installation.outside.ledger())
        # One whose mail was lost on the way is written to again, and answers both.
        if said < len(self.installation.people):
            yield f"the agency has answered {said} times"

    # --- outcomes and mails ---

    def outcomes(self) -> Iterator[str]:
        """One completion for each request, and nothing that calls for the officer but what is unreadable."""
        of_people = {
            person.request_id: _KINDS | _MORE.get(person.comes, set()) for person in self.installation.people
        }
        said = self._outcomes()
        completed = Counter(one.request_id for one in said if one.kind == "completed")
        for request_id in of_people:
            if completed[request_id] != 1:
                yield f"{request_id} has {completed[request_id]} completions"
        yield from (f"completion of a stranger: {one}" for one in completed if one not in of_people)
        for one in said:
            expected = of_people.get(one.request_id)
            if expected is not None and one.kind not in expected:
                yield f"{one.request_id}: an outcome {one.kind}, {one.code}"

    def completions(self) -> Iterator[str]:
        """Nothing was called complete before it was done."""
        last: dict[str, int] = {}
        for system, vendor in self.installation.vendors.items():
            whose = {
                record: person.request_id
                for person in self.installation.people
                for record in person.records[system]
            }
            for record, at, repeated in vendor.ledger():
                if not repeated and record in whose:
                    last[whose[record]] = max(last.get(whose[record], 0), at)
        for one in self._outcomes():
            if one.kind == "completed" and one.occurred_at < last.get(one.request_id, 0):
                yield f"{one.request_id} was completed before the last of it was erased"

    def mails(self) -> Iterator[str]:
        """Each outcome one mail; a second is the same, and had a reason. So had a second to the agency."""
        mails = Mails(self.installation, self.trouble.away)
        wanted = {message_id(DOMAIN, one.request_id, one.event_id): one for one in self._outcomes()}
        for message, outcome in wanted.items():
            if message not in mails.copies:
                yield f"{outcome.request_id}: no mail of its {outcome.kind}"
            else:
                yield from mails.repeats(message, outcome.event_id)
        for message, copies in mails.copies.items():
            if message not in wanted:
                if copies[0].to == DPO:
                    yield f"a mail to the officer of no outcome: {message}"
                else:
                    yield from mails.repeats_to_agency(message)

    def _outcomes(self) -> list[Outcome]:
        if self._said is None:
            self._said = patiently(self.installation.outcomes)
        return self._said

    _said: list[Outcome] | None = None

    # --- poison ---

    def poison(self) -> Iterator[str]:
        """Every poison record is in a DLQ, under where it came from; of a request, it has a saga, and the
        officer is asked.
        """
        places, requests = self._poisoned()
        kept = set(self._dead())
        yield from (f"not in a DLQ: {place}" for place in sorted(places - kept))
        mine = {person.request_id for person in self.installation.people}
        strangers = [saga for key, saga in self.installation.sagas().items() if key not in mine]
        if len(strangers) != requests:
            yield f"{len(strangers)} sagas of unreadable requests, and {requests} such requests"
        yield from (
            f"{saga.request_id}: nobody is asked about it" for saga in strangers if not saga.escalations
        )
        asked = {one.request_id for one in self._outcomes() if one.kind == "escalated"}
        yield from (
            f"{saga.request_id}: the officer has not been told"
            for saga in strangers
            if saga.request_id not in asked
        )

    def _poisoned(self) -> tuple[set[tuple[str, int, int]], int]:
        places: set[tuple[str, int, int]] = set()
        for delivery in self.installation.ground.bus.browse(READ):
            if delivery.header(MARK) is not None:
                places.add((delivery.topic, delivery.partition, delivery.offset))
        return places, sum(topic == topics.REQUESTS for topic, _, _ in places)

    def _dead(self) -> Iterator[tuple[str, int, int]]:
        for delivery in self.installation.ground.bus.browse([topics.dead_letters(one) for one in READ]):
            said = {name: value.decode() for name, value in delivery.headers}
            yield said["radera-topic"], int(said["radera-partition"]), int(said["radera-offset"])

    def framing(self) -> Iterator[str]:
        """Where there is a registry, every record names its schema there."""
        ground = self.installation.ground
        if ground.resolver is not None:
            unframed = {
                one.topic
                for one in ground.bus.browse(READ)
                if one.header(MARK) is None and schema_id_of(one.value) is None
            }
            yield from sorted(unframed)

    # --- ourselves ---

    def timelines(self) -> Iterator[str]:
        """Every chain is whole."""
        for person in self.installation.people:
            check = self.installation.ground.store.verify_timeline(person.request_id)
            if not check.is_intact:
                yield f"{person.request_id} is broken at {check.broken_at}"

    def keys(self) -> Iterator[str]:
        """Each rotation said how it went, and every key that is still open can be opened."""
        for code, said in self.trouble.rotations:
            if code not in (0, 1) or "Traceback" in said:
                yield f"a rotation ended with {code}: {said[-300:]}"
        opened = self.installation.ground.keys.open_all()
        yield from (f"{request_id}: its key can't be opened" for request_id in opened.unreadable)

    def rest(self) -> Iterator[str]:
        """Nothing is stuck: no outbox, no backlog, no timer that should have fired, no vendor's job."""
        store = self.installation.ground.store
        if unsent := store.figures().unsent:
            yield f"{unsent} records in the outbox"
        for group, backlog in self.installation.backlog().items():
            if backlog:
                yield f"the group {group} is {backlog} records behind"
        if due := store.due(store.now(), 10):
            yield f"timers are due: {[saga.request_id for saga in due]}"
        positions = store.positions("orchestrator")
        held = self.installation.ground.bus.browse(GROUPS["orchestrator"])
        behind = {
            (one.topic, one.partition)
            for one in held
            if one.offset >= positions.get((one.topic, one.partition), 0)
        }
        yield from (f"the database's position is behind on {place}" for place in sorted(behind))

    def processes(self) -> Iterator[str]:
        """Who was asked to end ended well."""
        yield from self.installation.fleet.bad_ends

    def logs(self) -> Iterator[str]:
        """The product logs no error of its own making."""
        yield from own_errors(self.installation.fleet)


def own_errors(fleet: Fleet) -> Iterator[str]:
    """Yield what the logs say that only a fault of ours can make them say."""
    for name, line in fleet.said():
        if _OURS.search(line):
            yield f"{name}: {_short(line)}"


def _short(line: str) -> str:
    try:
        said = json.loads(line)
    except ValueError:
        return line[:300]
    return str({name: value for name, value in said.items() if name != "exception"})[:300]
