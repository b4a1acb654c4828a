"""The saga's README is drawn from its tables, and stays true."""

from orchestrator.saga import diagram
from orchestrator.saga.escalations import REASONS
from orchestrator.saga.table import LATE_ANSWERS, REQUEST_TABLE, STEP_TABLE


def test_the_page_is_true() -> None:
    """`python -m orchestrator.saga.diagram --write` has nothing to change."""
    text = diagram.README.read_text()
    assert text == diagram.drawn(text)


def test_every_way_is_drawn_once() -> None:
    """Each pair of statuses has one arrow, which names all the triggers that are drawn."""
    lines = [line.strip() for line in diagram.steps_diagram().splitlines() if "-->" in line]
    arrows = [line.partition(":")[0] for line in lines]
    assert len(set(arrows)) == len(arrows)
    for status, rows in STEP_TABLE.items():
        for trigger, row in rows.items():
            late = trigger in LATE_ANSWERS and status in ("retrying", "awaiting_decision")
            if late or trigger in ("waive", "stop", "supplement"):
                continue
            for target in row.targets:
                line = lines[arrows.index(f"{status} --> {target}")]
                assert trigger in line.partition(": ")[2].split(", ")
    assert all(
        f"closing --> {end}" in diagram.requests_diagram() for end in REQUEST_TABLE["closing"]["quiet"]
    )


def test_every_question_is_listed() -> None:
    """The table of questions names each reason and its decisions."""
    rows = diagram.questions_table().splitlines()[2:]
    assert [f"| `{reason}` |" for reason in REASONS] == [row[: row.index("|", 1) + 1] for row in rows]


def test_a_page_that_is_out_of_date_is_noticed() -> None:
    """The check can fail."""
    text = diagram.README.read_text().replace("waiting --> locating", "waiting --> nowhere")
    assert text != diagram.drawn(text)
