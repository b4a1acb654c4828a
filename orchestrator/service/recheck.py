"""Whether the evidence of an ended request would still suffice.

The rules of what counts as proof became stricter than those by which older requests ended. This reads what is
kept of an ended request, its state and its timeline, and names each fault that can be told from it. It knows
no person and changes nothing. What can't be told from what is kept is written in `deploy/README.md`.

How an answer is placed: an answer to a command is about what was known when the command was sent, so it
counts from there; a word that answers no command counts from where it stands.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.saga.model import Ended, Finished, Saga, Step
from orchestrator.saga.records import AMBIGUOUS
from orchestrator.saga.timeline import Entry

#: What each fault means, for the DPO.
FAULTS: Final[Mapping[str, str]] = {
    "answer_about_less": (
        "More identifiers were added after the system had been asked. It answered about fewer than are known."
    ),
    "seen_after_erasure": "Records were seen after the last erasure that the system accepted.",
    "erased_after_refusal": "The controller's last word was a refusal. An erasure was ordered after it.",
    "acted_then_not_erased": (
        "The person was told that it was under way. Later the records were still there, and they stayed."
    ),
    "erased_unasked": "The DPO agreed to erase some records. More than these were erased.",
    "lead_not_followed": "Only form submissions were found. Nobody looked for the person whom they name.",
    "bin_never_seen": "The recycle bin was said to be empty. No record was ever seen in it.",
    "proof_without_time": (
        "The proof did not know the time of the erasure, so it could not tell new records from old ones."
    ),
    "places_unsaid": "The system was searched, and nothing shows in which places.",
    "verified_about_less": (
        "The DPO confirmed who the person is. Identifiers had been added since that question was put."
    ),
    "words_set_aside": (
        "A message that may have been a controller's or an agency's word was set aside, and not applied."
    ),
    "told_by_one_decision": (
        "One decision of the DPO's marked several letters to the person as told. It named one of them."
    ),
}

_GONE: Final = ("erased", "absent", "anonymised")
#: Grades of a look or of a bin; the others rest on a word.
_LOOKED: Final = ("seen_absent", "vendor_stated")
#: Kinds of systems of which a party speaks, and not a vendor.
_PARTIES: Final = ("tenant", "recruitment")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that would no longer do. `system` is None where it concerns the request."""

    request_id: str
    system: str | None
    fault: str
    ended_at: int


def faults_of(saga: Saga, entries: Sequence[Entry]) -> list[Fault]:
    """Return the faults of an ended request, by system; none for one that is still open."""
    if not isinstance(saga.state, Finished):
        return []
    at = saga.state.at
    found: list[tuple[str | None, str, int]] = []
    for step in saga.steps:
        if isinstance(step.state, Ended):
            told = _Told(step.system, entries)
            found += [(step.system, one, step.state.at) for one in _of_step(step, step.state, told)]
    found += [(None, one, at) for one in _of_request(saga, entries)]
    return [
        Fault(request_id=saga.request_id, system=system, fault=fault, ended_at=ended)
        for system, fault, ended in found
    ]


class _Told:
    """What the timeline tells of one system. A place in it is an entry's number."""

    def __init__(self, system: str, entries: Sequence[Entry]) -> None:
        self.entries = [one for one in entries if one.data.get("system") in (None, system)]
        own = [one for one in self.entries if one.data.get("system") == system]
        self.confirmed = [one for one in own if one.action == "confirmed"]
        self.sent = [one for one in own if one.action == "command_sent"]
        self._sent_at = {one.data.get("attempt"): one.seq for one in self.sent}
        self.supplemented = max((one.seq for one in entries if one.action == "supplemented"), default=0)

    def about(self, answer: Entry) -> int:
        """Return the place from which an answer counts."""
        return self._sent_at.get(answer.data.get("attempt"), answer.seq)

    def latest(self, counts: Callable[[Entry], bool]) -> int:
        """Return the place from which the latest answer counts of those that do; 0 if none does."""
        return max((self.about(one) for one in self.confirmed if counts(one)), default=0)


def _count(entry: Entry, name: str) -> int:
    return int(entry.data.get(name) or 0)


def _accepts(answer: Entry) -> bool:
    """Whether the answer says that what was known has been erased."""
    trigger, verb = answer.data.get("trigger"), answer.data.get("verb")
    return trigger in ("accepted", "party_erased") or (trigger == "absent" and verb == "erase")


def _sees(answer: Entry) -> bool:
    return answer.data.get("trigger") in ("located", "still_present") and _count(answer, "found") > 0


def _of_step(step: Step, state: Ended, told: _Told) -> Iterator[str]:
    is_erased = state.end in ("erased", "anonymised") or (state.end == "retained" and step.erased > 0)
    answered = told.latest(_accepts if is_erased else lambda one: one.data.get("trigger") == state.end)
    if is_erased or state.end == "absent" or (state.end == "not_identifiable" and state.reason is None):
        if told.supplemented > answered:
            yield "answer_about_less"
        elif state.end != "not_identifiable" and told.latest(_sees) > answered:
            yield "seen_after_erasure"
    if step.kind == "tenant" and _was_refused(told):
        yield "erased_after_refusal"
    if state.end not in (*_GONE, "not_identifiable") and _was_there_after_acting(told):
        yield "acted_then_not_erased"
    says_where = any(one.looked for one in step.places)
    if not says_where and _was_erased_unasked(told):
        yield "erased_unasked"
    if (is_erased or state.end == "absent") and state.grade in _LOOKED and not says_where:
        yield from _of_old_proof(step, state, is_erased=is_erased)
        yield "places_unsaid"


def _of_old_proof(step: Step, state: Ended, *, is_erased: bool) -> Iterator[str]:
    """What only a handler that does not say where it looked can have got wrong."""
    evidence = step.evidence
    if is_erased and step.erased_at is None:
        yield "proof_without_time"
    if step.kind != "superoffice":
        return
    if is_erased and _number(evidence, "locate.submissions") and not _number(evidence, "locate.persons"):
        yield "lead_not_followed"
    was_seen = _number(evidence, "prove.in_recycle_bin") or "answer.vendor_event" in evidence
    if is_erased and state.grade == "vendor_stated" and not was_seen:
        yield "bin_never_seen"


def _number(evidence: Mapping[str, str], name: str) -> int:
    value = evidence.get(name, "")
    return int(value) if value.isascii() and value.isdecimal() else 0


def _was_refused(told: _Told) -> bool:
    words = [one for one in told.confirmed if one.data.get("trigger") in ("instructed", "refused")]
    # Numbered words count in their order; those from before they were numbered came first, as they were read.
    last = max(words, key=lambda one: (_count(one, "order"), one.seq), default=None)
    if last is None or last.data.get("trigger") != "refused":
        return False
    return any(one.seq > last.seq and one.data.get("verb") == "erase" for one in told.sent)


def _was_there_after_acting(told: _Told) -> bool:
    acted = max((one.seq for one in told.entries if one.action == "acted"), default=None)
    withdrawn = max((one.seq for one in told.entries if one.action == "acted_withdrawn"), default=0)
    if acted is None or withdrawn > acted:
        return False
    return any(one.seq > acted and one.data.get("trigger") == "still_present" for one in told.confirmed)


def _was_erased_unasked(told: _Told) -> bool:
    """Whether more records were located after the DPO's "erase" than at the first look that followed it."""
    asked = {
        one.data.get("escalation")
        for one in told.entries
        if one.action == "escalated" and one.data.get("reason") == "ambiguous"
    }
    agreed: int | None = None
    is_decided = False
    for one in told.entries:
        if one.action == "decided" and one.data.get("action") == "erase":
            if one.data.get("escalation") in asked:
                is_decided, agreed = True, None
        elif is_decided and one.action == "confirmed" and one.data.get("trigger") == "located":
            if one.data.get("code") == AMBIGUOUS:
                is_decided = False  # asked anew
                continue
            count = _count(one, "found")
            if agreed is not None and count > agreed:
                return True
            agreed = count if agreed is None else agreed
    return False


def _of_request(saga: Saga, entries: Sequence[Entry]) -> Iterator[str]:
    if _was_verified_about_less(entries):
        yield "verified_about_less"
    has_parties = saga.capacity == "processor" or any(step.kind in _PARTIES for step in saga.steps)
    # Since words are kept the timeline says what else it was that could not be applied.
    if has_parties and any(one.action in ("parked", "quarantined") and not one.data for one in entries):
        yield "words_set_aside"
    if _was_told_by_one_decision(entries):
        yield "told_by_one_decision"


def _was_verified_about_less(entries: Sequence[Entry]) -> bool:
    asked = supplemented = 0
    for one in entries:
        match one.action:
            case "escalated" if one.data.get("reason") == "identity_unverified":
                asked = one.seq
            case "supplemented":
                supplemented = one.seq
            case "decided" if one.data.get("action") == "verify":
                return supplemented > asked > 0
            case _:
                pass
    return False


def _was_told_by_one_decision(entries: Sequence[Entry]) -> bool:
    told = 0
    for one in entries:
        if one.action == "decided":
            told = 0
        elif one.action == "notice_given" and one.data.get("how") == "otherwise":
            told += 1
        if told > 1:
            return True
    return False
