"""Where the core is written for speed, it does what the library's slower way does."""

import json
import uuid
from dataclasses import FrozenInstanceError
from dataclasses import replace as library_replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.saga.draft import derived_id
from orchestrator.saga.model import Locating, Saga, Step
from orchestrator.saga.replacing import replace
from orchestrator.saga.timeline import canonical

_STEP = Step(system="crm", kind="hubspot", state=Locating(until=3, attempt=1), evidence={"account": "1"})


def test_a_changed_value_is_what_the_library_makes() -> None:
    """The same value, whose original stays, and which is as frozen."""
    made = replace(_STEP, attempt=2, command_id="c")
    assert library_replace(_STEP, attempt=2, command_id="c") == made
    assert (0, None) == (_STEP.attempt, _STEP.command_id)
    with pytest.raises(FrozenInstanceError):
        made.attempt = 3  # type: ignore[misc]  # what must not work


def test_an_unknown_field_is_refused() -> None:
    """A misspelt change must not pass for one that was made."""
    with pytest.raises(TypeError, match="Step has no field attemps"):
        replace(_STEP, attemps=2)


@given(st.text())
def test_derived_ids_are_uuids_of_version_5(name: str) -> None:
    """Ids that are on topics and in databases stay what they were."""
    namespace = uuid.UUID("8d3c8f2a-64d5-5f0f-9f57-5b8f6f0f6a11")
    assert str(uuid.uuid5(namespace, name)) == derived_id(name)


@given(st.dictionaries(st.text(), st.text()))
def test_a_timelines_data_is_the_librarys_json(data: dict[str, str]) -> None:
    """Chains that were written with the library's encoder still hold."""
    assert json.dumps(data, separators=(",", ":"), sort_keys=True) == canonical(data)


def test_the_sagas_own_values_have_no_slots() -> None:
    """`replace` copies the dictionary of a value."""
    for kind in (Saga, Step, Locating):
        assert "__slots__" not in vars(kind)
