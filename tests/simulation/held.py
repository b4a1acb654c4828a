"""Whether a system that is reported as done still holds the person: what the vendors hold against the end.

Judged record by record, and place by place: what was there at the beginning, and what came while we were at
work, up to the last look.
"""

from typing import NamedTuple, cast

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
        merged = merges(world).get(place)
        if merged is not None and merged.away in person.records:
            if merged.at >= _last_look_began(world, saga, step) or merged.away in person.given_away:
                continue
            if merged.forgets and not _has_led(world, saga, step, merged.away, place):
                continue
        elif place in arrived:
            # What comes after the last look began can't have been seen by it.
            if arrived[place] >= _last_look_began(world, saga, step):
                continue
        elif place not in person.records:
            continue
        if line["state"] in ("purging", "submitted") or _is_out_of_reach(world, person, line):
            continue
        if _is_excused(world, saga, step, person, line):
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


class Merged(NamedTuple):
    """A record that became a part of another; `forgets` if that one lost its addresses."""

    away: tuple[str, str]
    at: int
    forgets: bool


def merges(world: World) -> dict[tuple[str, str], Merged]:
    """What became a part of each record that others were merged into."""
    ledger = world.sandbox.ledger(effect="merged_into")
    return {
        (line["vendor"], line["record"]): Merged((line["vendor"], line["other"]), line["at"], line["forgets"])
        for line in ledger
    }


def _has_led(world: World, saga: Saga, step: Step, *places: tuple[str, str]) -> bool:
    """Whether something that was given led to one of these throughout a look."""
    looks = world.looks.get((saga.request_id, step.system), ())
    return any(not look.leads.to.isdisjoint(places) for look in looks)


def _last_look_began(world: World, saga: Saga, step: Step) -> int:
    looks = world.looks.get((saga.request_id, step.system), ())
    return max((look.began for look in looks), default=0)


def _owner(world: World, line: Row) -> tuple[str, str]:
    """The person of a record: itself, or in SuperOffice whom it hangs on."""
    kind = {"form_submission": "formsubmission", "chat": "chatsession"}.get(line["kind"], line["kind"])
    row = world.sandbox.store.get(f"{line['vendor']}.{kind}", line["record"])
    hangs_on = (row or {}).get("person")
    return line["vendor"], line["record"] if hangs_on is None else str(hangs_on)


def _is_out_of_reach(world: World, person: Person, line: Row) -> bool:
    """Whether its address, or that of the person it hangs on, went to somebody else, so that nothing that was
    given leads to it any more.
    """
    return _owner(world, line) in person.given_away


def _is_never_led_to(world: World, saga: Saga, step: Step, person: Person, line: Row) -> bool:
    """Whether it is of somebody with another address, and nothing that was given led to them in any look: the
    form that did may have gone with an earlier request.

    What carries the address itself is found by it, whatever its person's name is.
    """
    owner = _owner(world, line)
    is_known_otherwise = owner in person.renamed or (bool(person.known_as) and owner[0] == "superoffice")
    if not is_known_otherwise or line["kind"] == "form_submission":
        return False
    return not _has_led(world, saga, step, owner)


def _is_excused(world: World, saga: Saga, step: Step, person: Person, line: Row) -> bool:
    state = cast(Ended, step.state)
    if state.end in ("absent", "erased") and _is_never_led_to(world, saga, step, person, line):
        return True
    if state.end == "absent" and step.found == 0 and _is_unlinked(line, _owner(world, line)):
        return True
    if (
        state.end == "erased"
        and _is_unlinked(line, _owner(world, line))
        and _was_taken_by_others(world, person)
    ):
        return True
    if state.end == "retained" and (line["state"] == "bookkeeping" or state.grade == "party_stated"):
        return True
    # The settings keep documents, for a law.
    if state.end == "retained" and line["kind"] == "document":
        return True
    # Where we can't look, a party's word is all there is, and is reported as such.
    told = state.grade == "party_stated"
    return told and (line["vendor"] == "agencies" or (step.system == "agency_tt" and state.end == "absent"))


def _is_unlinked(line: Row, owner: tuple[str, str]) -> bool:
    """Whether nothing leads to it any more, but for what the vendor doesn't let us search for."""
    return owner == ("superoffice", "0") and line["kind"] != "form_submission"


def _was_taken_by_others(world: World, person: Person) -> bool:
    """Whether the person went from SuperOffice by a colleague's hand and never by ours: what hung on them was
    cut off before any look.
    """
    effects = {
        line["effect"]
        for line in world.sandbox.ledger()
        if line["vendor"] == "superoffice" and ("superoffice", line["record"]) in person.records
    }
    return "person_deleted_by_colleague" in effects and "person_soft_deleted" not in effects
