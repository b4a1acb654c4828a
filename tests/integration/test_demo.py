"""`radera demo`: every story reaches its end, what is printed is what happened, and progress is seen."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from email import policy
from email.parser import BytesParser
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.demo_world import DPO, STORIES

DEMO = [sys.executable, "-c", "from orchestrator.cli.main import main; main()", "demo"]

#: Each story's end: the request's outcome and weakest grade, and each system's status and grade.
ENDS: list[tuple[str, str | None, dict[str, tuple[str, str | None]]]] = [
    (
        "completed",
        "vendor_promised",
        {
            "superoffice": ("erased", "vendor_stated"),
            "hubspot": ("erased", "seen_absent"),
            "web_analytics": ("erased", "vendor_promised"),
            "agency_nord": ("erased", "party_stated"),
            "survey": ("not_identifiable", None),
        },
    ),
    (
        "completed",
        "seen_absent",
        {"superoffice": ("absent", "seen_absent"), "hubspot": ("erased", "seen_absent")},
    ),
    ("completed", "seen_absent", {"hubspot": ("erased", "seen_absent")}),
    (
        "completed",
        "vendor_stated",
        {"superoffice": ("retained", "vendor_stated"), "hubspot": ("erased", "seen_absent")},
    ),
    (
        "completed",
        "seen_absent",
        {"hubspot": ("erased", "seen_absent"), "web_analytics": ("not_identifiable", None)},
    ),
    ("completed", "seen_absent", {"tenant_byggab": ("erased", "seen_absent")}),
    (
        "escalated",
        "seen_absent",
        {"hubspot": ("erased", "seen_absent"), "agency_syd": ("awaiting_decision", None)},
    ),
]

#: How many records of each kind the vendors hold of the stories' people.
ERASED = {
    ("superoffice", "person_soft_deleted"): 2,
    ("superoffice", "ticket_deleted"): 3,
    ("superoffice", "formsubmission_deleted"): 1,
    ("hubspot", "gdpr_deleted"): 6,
    ("google", "deletion_submitted"): 1,
    ("agencies", "candidate_erased"): 1,
    ("tenant-api", "record_erased"): 2,
}


@pytest.mark.timeout(480)
def test_every_story_reaches_its_end(tmp_path: Path) -> None:
    """One JSON document on standard output and nothing else; plain lines of progress on standard error; the
    mails are files; nothing that was printed or logged names a person.
    """
    directory = tmp_path / "demo"
    done = subprocess.run(
        [*DEMO, "--json", "--directory", str(directory)], capture_output=True, text=True, check=False
    )
    assert 0 == done.returncode, done.stderr
    document = json.loads(done.stdout)
    assert ["requests", "mails", "ledger"] == list(document)
    check_requests(document["requests"])
    check_mails(document["mails"], document["requests"], directory)
    check_ledger(document["ledger"])
    check_progress(done.stderr, document["requests"])
    check_nobody_is_named(done.stdout + done.stderr + (directory / "radera.log").read_text())


def check_requests(requests: list[dict[str, Any]]) -> None:
    """Each request has its fields, and ended as its story says."""
    wanted = {"request_id", "status", "outcome", "due_at", "escalations", "acted_at", "systems"}
    assert [] == [one for one in requests if not wanted <= one.keys()]
    systems = [system for one in requests for system in one["systems"].values()]
    wanted = {"status", "grade", "found", "erased", "evidence"}
    assert [] == [one for one in systems if not wanted <= one.keys()]
    assert ENDS == [
        (
            one["outcome"],
            one["grade"],
            {name: (system["status"], system["grade"]) for name, system in one["systems"].items()},
        )
        for one in requests
    ]
    assert [[]] * 6 + [["party_refused"]] == [[e["reason"] for e in one["escalations"]] for one in requests]
    first, nothing_held, *_ = (one["systems"] for one in requests)
    assert (4, 4) == (first["superoffice"]["found"], first["superoffice"]["erased"])
    assert (0, 0) == (nothing_held["superoffice"]["found"], nothing_held["superoffice"]["erased"])
    assert "account_and_record" == nothing_held["superoffice"]["evidence"]["locate.control"]
    assert [None] == [one["acted_at"] for one in requests if one["outcome"] != "completed"]


def check_mails(mails: list[dict[str, str]], requests: list[dict[str, Any]], directory: Path) -> None:
    """Each is a file that holds what is said of it, once; the DPO has one about each end."""
    for mail in mails:
        assert ["to", "subject", "message_id", "path"] == list(mail)
        path = Path(mail["path"])
        kept = BytesParser(policy=policy.default).parsebytes(path.read_bytes())
        assert (directory / "mail", ".eml") == (path.parent, path.suffix)
        assert (mail["subject"], mail["message_id"]) == (str(kept["subject"]), str(kept["message-id"]))
    ids = [mail["message_id"] for mail in mails]
    assert sorted(set(ids)) == sorted(ids)
    subjects = [mail["subject"] for mail in mails if mail["to"] == DPO]
    ends = {"completed": "completed", "escalated": "decision needed"}
    wanted = [f"Radera {one['request_id']}: {ends[one['outcome']]}" for one in requests]
    assert [] == [subject for subject in wanted if subjects.count(subject) != 1]


def check_ledger(ledger: list[dict[str, Any]]) -> None:
    """What the vendors were made to erase: every record of the stories' people, each once."""
    erased = [
        (line["vendor"], line["effect"], line["record"])
        for line in ledger
        if (line["vendor"], line["effect"]) in ERASED
    ]
    assert ERASED == Counter((vendor, effect) for vendor, effect, _ in erased)
    assert sorted(set(erased)) == sorted(erased)


def check_progress(printed: str, requests: list[dict[str, Any]]) -> None:
    """A line for each change, with no control sequences in it: nobody sits at a terminal."""
    lines = printed.splitlines()
    assert "\x1b" not in printed
    for story, one in zip(STORIES, requests, strict=True):
        assert f"{one['request_id'][:8]} {story.ends}" in lines
    assert len(set(lines)) == len(lines)


def check_nobody_is_named(printed: str) -> None:
    """Nothing that the demonstration shows has an address or a name of its people in it."""
    values = [value for story in STORIES for _, value in story.identifiers]
    names = [value.partition("@")[0].replace(".", " ").title() for value in values if "@" in value]
    assert [] == [value for value in [*values, *names] if value in printed]


@pytest.mark.timeout(60)
def test_progress_is_live_on_a_terminal_and_can_be_interrupted(tmp_path: Path) -> None:
    """A table is drawn and redrawn in place; Ctrl-C ends it soon, with no traceback, the cursor back."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*DEMO, "--directory", str(tmp_path / "demo")],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "50"},
    )
    os.close(slave)
    try:
        seen = read_until(master, lambda text: "hubspot: " in text and text.count("radera demo") > 1, 40)
        process.send_signal(signal.SIGINT)
        seen += read_until(master, lambda _: process.poll() is not None, 15)
    finally:
        process.kill()
        process.wait()
        os.close(master)
    assert "\x1b[?25l" in seen
    assert "\x1b[?25h" in seen
    assert "Traceback" not in seen
    assert 1 == process.returncode


def read_until(terminal: int, met: Any, limit: float) -> str:
    """What the terminal shows until something is met in it."""
    seen = ""
    end = time.monotonic() + limit
    while not met(seen):
        assert time.monotonic() < end, seen[-2000:]
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                seen += os.read(terminal, 65536).decode(errors="replace")
            except OSError:  # the other end is closed
                return seen
    return seen
