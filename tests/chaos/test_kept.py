"""What the judge says of a request, an answer or a key that is gone, which no run should have."""

from typing import Any

import pytest

from tests.chaos.kept import Opened, Seen, lost

COMPLETED = Opened("completed", answers=1, events={"e1": "acted", "e2": "completed"})
ASKED = Opened("in_progress", questions=("key_lost",), answers=1, events={"e1": "escalated"})


def seen(**changed: Any) -> Seen:
    """A request that was taken, of whose end the officer was told, and whose party's answer is noted."""
    given: dict[str, Any] = {"taken": ["r"], "thanked": ["r"], "opened": {"r": COMPLETED}}
    return Seen(**given | {"mailed": ["e1", "e2"]} | changed)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"opened": {"r": ASKED}},
        {"opened": {"r": Opened("completed", events={"e2": "completed"})}, "thanked": []},
        {"opened": {"r": Opened("completed", events={"e2": "completed"})}, "kept": ["r"]},
        {"held": {"r": []}},
        {"held": {"another": ["record"]}},
    ],
)
def test_nothing_is_lost(changed: dict[str, Any]) -> None:
    """It has ended, or the officer is asked; the answer is in the timeline, or among the dead letters."""
    assert [] == list(lost(seen(**changed)))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"opened": {}}, "r: was taken, and never opened"),
        ({"mailed": ["e1"]}, "r: has ended, and the officer has no mail about it"),
        (
            {"opened": {"r": Opened("in_progress", answers=1)}},
            "r: is in_progress, and nobody is asked about it",
        ),
        (
            {"opened": {"r": ASKED}, "mailed": []},
            "r: waits for the officer (key_lost), who has no mail about it",
        ),
        (
            {"opened": {"r": Opened("completed", events=COMPLETED.events)}},
            "r: an answer was thanked, and is missing",
        ),
        (
            {"opened": {"r": Opened("completed", events=COMPLETED.events)}, "kept": ["another"]},
            "r: an answer was thanked, and is missing",
        ),
        ({"unreadable": ["r"]}, "r: its key is gone"),
        ({"held": {"r": ["crm/1"]}}, "r: is called completed, and 1 records are still held"),
        ({"taken": [], "thanked": []}, "r: opened, and nobody made it"),
        (
            {"thanked": ["r", "s"]},
            "s: an answer was thanked about a request that nobody made",
        ),
        ({"bystanders": ["crm/9"]}, "crm/9 is gone, of somebody who did not ask"),
    ],
)
def test_what_is_lost_is_found(changed: dict[str, Any], said: str) -> None:
    """Each thing that can be missing is named, and nothing else."""
    assert [said] == list(lost(seen(**changed)))
