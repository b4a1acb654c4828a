"""The mailbox: each outcome is mailed once, to whom it is for, and says what is so."""

from typing import Final

from tests.planted.fault import Fault, fault

_BOX: Final = "orchestrator.mailbox.mailbox"
_DPO: Final = "orchestrator.mailbox.dpo"

FAULTS: Final[tuple[Fault, ...]] = (
    fault(
        "a mail that was sent is released",
        f"{_BOX}:Mailbox._release",
        "held.claimed and not held.sent",
        "held.claimed",
        "tests/unit/test_mailbox_claims.py::test_a_mail_that_went_and_is_not_recorded_yet_stays_in_hand",
    ),
    fault(
        "what went to another mailbox is held for ever",
        f"{_BOX}:Mailbox._let_go",
        "if held.sent or holds(held.delivery)",
        "",
        "tests/unit/test_mailbox_claims.py::test_what_went_to_another_takes_no_room",
    ),
    fault(
        "what was sent and not recorded is forgotten with its partition",
        f"{_BOX}:Mailbox._let_go",
        "if held.sent or holds(held.delivery)",
        "if holds(held.delivery)",
        "tests/unit/test_mailbox_claims.py::test_a_mail_that_went_is_recorded_though_its_partition_went_too",
    ),
    fault(
        "a decision's reason may name the person in a mail",
        f"{_DPO}:harmless",
        "None if looks_personal(line) else line",
        "line",
    ),
)
