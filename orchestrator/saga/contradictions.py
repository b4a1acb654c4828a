"""What speaks against an end that was reported."""

from typing import Final

from orchestrator.saga import words
from orchestrator.saga.events import Confirmed
from orchestrator.saga.model import Ended, Step

#: By the end, what a later report says against it.
_AGAINST: Final[dict[str, frozenset[str]]] = {
    "absent": frozenset({"located", "still_present", "reappeared", "retained", "refused"}),
    "erased": frozenset({"located", "still_present", "reappeared", "retained", "refused"}),
    "anonymised": frozenset({"located", "still_present", "reappeared"}),
    "retained": frozenset({"located", "still_present", "reappeared"}),
    "not_identifiable": frozenset({"located", "accepted", "still_present", "reappeared"}),
    "waived": frozenset({"accepted", "party_erased", "instructed"}),
    "refused": frozenset({"accepted", "party_erased", "instructed"}),
    "stopped": frozenset({"accepted", "party_erased", "instructed"}),
}
#: True whenever they are learnt.
_FACTS: Final = frozenset({"located", "accepted", "party_erased"})


def is_seen_gone(ended: Ended) -> bool:
    """Whether an end says that nothing of the person is left to see: a record seen later overturns it.

    What we have seen ourselves to be retained leaves nothing else; what a party retains on its word is there.
    """
    if ended.end == "retained":
        return ended.grade != "party_stated"
    return ended.end in ("erased", "absent", "anonymised", "not_identifiable")


def answered_until(ended: Ended) -> int:
    """Until when an end answers what a proof saw: that nobody could be told apart answers nothing."""
    return 0 if ended.end == "not_identifiable" else ended.at


def contradicts(before: Step, step: Step, event: Confirmed) -> bool:
    """Return whether a confirmation speaks against the step's end; `step` is the one that has taken it in.

    What a worker saw counts if it saw it after the end. A party's word counts whenever it was said: it may
    have been said before the end and read after it.
    """
    state = step.state
    if not isinstance(state, Ended) or event.kind not in _AGAINST.get(state.end, ()):
        return False
    if state.end == "retained" and not is_seen_gone(state):
        return False
    # That records were there before they were erased is no news; that they were there at all may be, and so
    # are records that no erasure has carried.
    is_news = event.kind in _FACTS and state.end not in ("erased", "retained")
    brings = event.kind == "still_present" and step.references != before.references
    return is_news or brings or words.is_word(event) or event.occurred_at > answered_until(state)
