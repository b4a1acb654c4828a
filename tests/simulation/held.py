"""Whether a system that is reported as done still holds the person: what the vendors hold against the end.

Judged record by record, and place by place: what was there at the beginning, and what came while we were at
work, up to the last look.
"""

from typing import cast

from handlers.sandbox.store import Row
from orchestrator.saga.model import Ended, Saga, Step
from tests.simulation import installation
from tests.simulation.people import Person
from tests.simulation.violations import Violated
from tests.simulation.world import World

#: What a step says that leaves nothing of the person behind, or only what is kept by right.
_DONE = ("erased", "absent", "anonymised", "retained")


def still_held(world: World, saga: Saga, step: Step, person: Person) -> None:
    """A step that says it is done may leave nothing at its vendor."""
    state = cast(Ended, step.state)
    if state.end not in _DONE:
        return
    known = {"email": person.email, "phone": person.phone, "ga_client_id": person.client_id}
    known |= {"tenant_user_id": person.tenant_id, "name": person.name}
    given = [known[kind] for kind in saga.identifier_kinds]
    if "email" in saga.identifier_kinds:
        given += person.known_as
    arrived = arrivals(world)
    for line in world.sandbox.holds(*given):
        place = (line["vendor"], line["record"])
        if (line["vendor"], line["account"]) not in installation.VENDORS[step.system]:
            continue
        if place in arrived:
            # What comes after the last look began can't have been seen by it.
            if arrived[place] >= world.looks.get((saga.request_id, step.system), 0):
                continue
        elif place not in person.records:
            continue
        if line["state"] in ("purging", "submitted") or _is_out_of_reach(person, line):
            continue
        if _is_excused(world, step, state, person, line):
            continue
        raise Violated(
            "completion",
            f"{step.system} is reported {state.end} ({state.grade}) and the vendor holds a {line['kind']} "
            f"({line['state']})",
        )


def arrivals(world: World) -> dict[tuple[str, str], int]:
    """The records that came while we were at work, and when."""
    ledger = world.sandbox.ledger(effect="arrived")
    return {(line["vendor"], line["record"]): line["at"] for line in ledger}


def _is_out_of_reach(person: Person, line: Row) -> bool:
    """Whether its address, or that of the person it hangs on, went to somebody else, so that nothing that was
    given leads to it any more.
    """
    if (line["vendor"], line["record"]) in person.given_away:
        return True
    hung = line["vendor"] == "superoffice" and line["kind"] != "person"
    return hung and any(vendor == "superoffice" for vendor, _ in person.given_away)


def _is_excused(world: World, step: Step, state: Ended, person: Person, line: Row) -> bool:
    place = (line["vendor"], line["record"])
    hung = line["vendor"] == "superoffice" and line["kind"] != "person"
    # Who is under another address by the time of the look can't be found, nor what hangs on them.
    renamed = place in person.renamed
    renamed |= hung and line["vendor"] in {vendor for vendor, _ in person.renamed}
    if state.end == "absent" and step.found == 0 and (renamed or (hung and _is_unlinked(world, line))):
        return True
    if state.end == "retained" and (line["state"] == "bookkeeping" or state.grade == "party_stated"):
        return True
    # The settings keep documents, for a law.
    if state.end == "retained" and line["kind"] == "document":
        return True
    # Where we can't look, a party's word is all there is, and is reported as such.
    told = state.grade == "party_stated"
    return told and (line["vendor"] == "agencies" or (step.system == "agency_tt" and state.end == "absent"))


def _is_unlinked(world: World, line: Row) -> bool:
    """Whether nothing leads to it any more, but for what the vendor doesn't let us search for."""
    kind = {"form_submission": "formsubmission", "chat": "chatsession"}.get(line["kind"], line["kind"])
    row = world.sandbox.store.get(f"superoffice.{kind}", line["record"])
    return row is not None and row["person"] == "0" and kind != "formsubmission"
