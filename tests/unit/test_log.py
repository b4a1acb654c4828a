"""What gets into the logs, and above all what doesn't."""

import io
import json
import logging
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from orchestrator import log, metrics

CANARY = "canary.person@example.org"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leaves the process's logging as it was."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level, sys.excepthook, threading.excepthook)
    yield
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in before[0]:
        root.addHandler(handler)
    root.setLevel(before[1])
    sys.excepthook, threading.excepthook = before[2], before[3]
    logging.captureWarnings(False)


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def _configured(format_: Any = "json", level: Any = "info") -> io.StringIO:
    stream = io.StringIO()
    log.configure(level, format_, stream)
    return stream


def test_a_record_is_one_json_object_with_its_action_and_fields() -> None:
    """A log reader can rely on at, level, action and the fields given."""
    stream = _configured()
    logging.getLogger("orchestrator.mailbox").info(
        "mail_sent", extra={"request_id": "0a1b-2c", "attempt": 2, "systems": ("hubspot", "superoffice")}
    )
    (line,) = _lines(stream)

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("at"))
    assert {
        "level": "info",
        "action": "mail_sent",
        "request_id": "0a1b-2c",
        "attempt": 2,
        "systems": ["hubspot", "superoffice"],
    } == line


def test_fields_that_are_not_allowed_are_dropped_and_named() -> None:
    """An unknown field, or a known one with a value that may be data, never reaches the log."""
    stream = _configured()
    logging.getLogger("handlers.hubspot").warning(
        "call_failed", extra={"email": CANARY, "code": CANARY, "reason": "a whole sentence", "status": 404}
    )
    (line,) = _lines(stream)

    assert ["code", "email", "reason"] == line["dropped"]
    assert 404 == line["status"]
    assert "canary" not in stream.getvalue()


def test_a_message_keeps_its_fixed_text_and_never_its_arguments() -> None:
    """An argument is data; the template is ours."""
    stream = _configured()
    logger = logging.getLogger("orchestrator.x")
    logger.info("looked for %s", CANARY)
    logger.info("The file is made", extra={"action": "file_made"})
    first, second = _lines(stream)

    assert ("unnamed", "looked for %s") == (first["action"], first["message"])
    assert ("file_made", "The file is made") == (second["action"], second["message"])
    assert "canary" not in stream.getvalue()


def test_an_exception_is_its_type_code_and_our_lines_only() -> None:
    """Its text may quote the data that it choked on, and so may its causes."""
    stream = _configured()

    class Odd(Exception):
        code = "odd_answer"

    def choke() -> None:
        try:
            json.loads(CANARY)
        except ValueError as error:
            raise Odd(CANARY) from error

    try:
        choke()
    except Odd:
        logging.getLogger("orchestrator.x").exception("failed")
    (line,) = _lines(stream)

    assert "odd_answer" == line["error"]["code"]
    assert "json.decoder.JSONDecodeError" == line["error"]["from"]
    assert "canary" not in stream.getvalue()


def test_our_lines_of_an_exception_are_given_by_file_and_number() -> None:
    """A fault can be found without its text."""
    stream = _configured()

    def broken() -> metrics.Figures:
        raise RuntimeError(CANARY)

    watched = metrics.Metrics()
    watched.watch(broken)
    page = watched.text()
    (line,) = _lines(stream)

    assert b"radera_store_up 0.0" in page
    assert "figures_unread" == line["action"]
    assert re.fullmatch(r"orchestrator/metrics\.py:\d+", line["error"]["lines"][0])
    assert "canary" not in stream.getvalue()


def test_other_peoples_loggers_are_heard_by_name_only_and_from_warning_on() -> None:
    """httpx logs whole URLs at INFO; what it warns of is counted, not quoted."""
    stream = _configured(level="debug")
    logging.getLogger("httpx").info("HTTP Request: GET https://x/%s", CANARY)
    logging.getLogger("sqlalchemy.engine").warning(CANARY)
    logging.getLogger("asyncio").error("Task exception: %s", CANARY, exc_info=ValueError(CANARY))
    first, second = _lines(stream)

    assert ("third_party", "sqlalchemy.engine") == (first["action"], first["logger"])
    assert ("third_party", "asyncio", "builtins.ValueError") == (
        second["action"],
        second["logger"],
        second["error"]["type"],
    )
    assert "canary" not in stream.getvalue()


def test_python_warnings_and_uncaught_errors_go_the_same_way() -> None:
    """What Python itself would print is reduced too."""
    stream = _configured()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn(CANARY, stacklevel=1)

    def die() -> None:
        raise RuntimeError(CANARY)

    thread = threading.Thread(target=die)
    thread.start()
    thread.join()
    sys.excepthook(ValueError, ValueError(CANARY), None)

    assert ["py.warnings", None, None] == [line.get("logger") for line in _lines(stream)]
    assert ["third_party", "uncaught", "uncaught"] == [line["action"] for line in _lines(stream)]
    assert "canary" not in stream.getvalue()


def test_a_record_that_cannot_be_written_is_not_printed_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    """Python's own fallback would print the arguments to stderr."""
    stream = _configured()
    stream.close()
    logging.getLogger("orchestrator.x").error("failed %s", CANARY)

    assert "" == capsys.readouterr().err


def test_people_get_the_same_facts_on_a_readable_line() -> None:
    """A terminal shows time, level, action and the fields, on one line whatever the message holds."""
    stream = _configured("text")
    logging.getLogger("orchestrator.x").info(
        "two\nlines", extra={"action": "tried", "system": "hubspot", "count": 2, "systems": ["a", "b"]}
    )

    assert re.fullmatch(
        r"\d\d:\d\d:\d\d info    tried - two\\nlines count=2 system=hubspot systems=a,b\n"
        r"|\d\d:\d\d:\d\d info    tried - two\\nlines system=hubspot count=2 systems=a,b\n",
        stream.getvalue(),
    )


def test_metrics_have_labels_from_closed_sets_only() -> None:
    """Whatever is passed by mistake is counted as "other", so that no data becomes a label."""
    ours = metrics.Metrics(kinds=("hubspot",))
    ours.command_done("hubspot", "erase", "accepted", 0.3)
    ours.command_done(CANARY, CANARY, CANARY, 1.0)
    ours.mail("completed", "dpo", "sent")
    ours.mail(CANARY, CANARY, CANARY)
    ours.event_handled(CANARY)
    ours.dead_letter("erasure.commands.hubspot.v1")
    ours.dead_letter(CANARY)
    ours.decision_refused(CANARY)
    ours.callback(CANARY, "accepted")
    page = ours.text().decode()

    assert 'radera_commands_total{kind="hubspot",result="accepted",verb="erase"} 1.0' in page
    assert 'radera_mails_total{about="completed",result="sent",to="dpo"} 1.0' in page
    assert 'radera_dead_letters_total{topic="erasure.commands.hubspot.v1"} 1.0' in page
    assert 'radera_dead_letters_total{topic="other"} 1.0' in page
    assert "canary" not in page


def test_the_stores_figures_are_read_when_asked_for() -> None:
    """The page shows the present figures, and leaves out what doesn't exist."""
    ours = metrics.Metrics()
    left = [3600.0]
    ours.watch(
        lambda: metrics.Figures(
            open_requests=2,
            oldest_open_age=60.0,
            least_time_left=left[0],
            open_escalations=1,
            outbox_size=0,
            outbox_age=None,
            quarantined=0,
        )
    )
    left[0] = -1.0
    page = ours.text().decode()

    assert "radera_store_up 1.0" in page
    assert "radera_least_time_left_seconds -1.0" in page
    assert "radera_open_requests 2.0" in page
    assert "radera_outbox_oldest_seconds" not in page
