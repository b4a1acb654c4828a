"""What the judge says of a mail that came again, which a run seldom has."""

import os
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.chaos.faults import Spell
from tests.chaos.fleet import Change, What
from tests.chaos.installation import NORD
from tests.chaos.mails import Mails

MAIL = "<d.r@radera.controller.example>"
HELD = (
    '{"at": "1970-01-01T00:16:41.000Z", "action": "mail_held", "code": "lost", "partition": 0, "offset": 7}'
)
FAILED = (
    '{"at": "1970-01-01T00:16:41.000Z", "action": "command_done", "request_id": "r", "code": "mail_lost"}'
)


def mails(
    folder: Path,
    *lives: str,
    to: str = "dpo@controller.example",
    changes: Iterable[Change] = (),
    said: Iterable[tuple[str, str]] = (),
    recorded: float = 1010.0,
    away: Iterable[Spell] = (),
    asked_again: Iterable[str] = (),
) -> Mails:
    """The same mail from each of these lives, ten seconds apart; and what is known of it otherwise."""
    (folder / "vendors" / "mail").mkdir(parents=True)
    for number, life in enumerate(lives):
        file = folder / "vendors" / "mail" / f"{number}.eml"
        head = f"Date: {number}\r\nFrom: <{life}@controller.example>\r\nTo: {to}\r\nMessage-ID: {MAIL}"
        file.write_bytes(f"{head}\r\n\r\ntext\r\n".encode())
        os.utime(file, (1000 + 10 * number,) * 2)
    lines = list(said)
    fleet = SimpleNamespace(changes=list(changes), said=lambda: iter(lines))
    made = Mails(SimpleNamespace(directory=folder, fleet=fleet), list(away))  # type: ignore[arg-type] # as much of one as is looked at
    # What a database and a broker would be asked for.
    vars(made).update(_recorded={"e": recorded}, _places={"e": {(0, 7)}}, _asked_again=set(asked_again))
    return made


def change(life: str, what: What, at: float = 1001.0) -> Change:
    return Change(at, life.rpartition("-")[0], life, what)


@pytest.mark.parametrize(
    ("known", "wrong"),
    [
        ({}, 1),
        ({"changes": [change("mailbox-1.1", "killed")]}, 0),
        ({"changes": [change("mailbox-1.1", "ended by itself")]}, 0),
        ({"changes": [change("mailbox-1.1", "killed", 1012.0)]}, 1),
        ({"changes": [change("mailbox-1.1", "killed")], "recorded": 1000.5}, 1),
        ({"changes": [change("mailbox-1.1", "stopped")]}, 1),
        ({"changes": [change("mailbox-1.1", "told to end")]}, 1),
        ({"changes": [change("mailbox-1.2", "killed")]}, 1),
        ({"changes": [change("mailbox-2.3", "killed")]}, 1),
        ({"said": [("mailbox-1", HELD)]}, 0),
        ({"said": [("mailbox-2", HELD)]}, 1),
        ({"said": [("mailbox-1", HELD.replace('"offset": 7', '"offset": 8'))]}, 1),
        ({"said": [("mailbox-1", HELD.replace("lost", "server"))]}, 1),
        ({"said": [("mailbox-1", HELD.replace("00:16:41", "00:16:31"))]}, 1),
        ({"away": [Spell(999.0, 1005.0)]}, 1),
    ],
)
def test_a_mail_that_came_again(tmp_path: Path, known: dict[str, object], wrong: int) -> None:
    """Only its own sender's death, or the lack of an answer to just this mail, makes it right."""
    seen = mails(tmp_path, "mailbox-1.1", "mailbox-2.3", **known)  # type: ignore[arg-type] # one of its words each

    assert wrong == len(list(seen.repeats(MAIL, "e")))


def test_a_mail_that_came_once_needs_no_reason(tmp_path: Path) -> None:
    """Whatever happened, and whatever did not."""
    assert [] == list(mails(tmp_path, "mailbox-1.1").repeats(MAIL, "e"))


def test_a_mail_that_came_again_with_another_text(tmp_path: Path) -> None:
    """It is another mail, whoever was killed; the sender's address and the date are nothing of it."""
    seen = mails(tmp_path, "mailbox-1.1", "mailbox-2.3", changes=[change("mailbox-1.1", "killed")])
    file = tmp_path / "vendors" / "mail" / "1.eml"
    file.write_bytes(file.read_bytes().replace(b"text", b"other"))
    os.utime(file, (1010, 1010))

    assert [f"{MAIL} came with different texts"] == list(seen.repeats(MAIL, "e"))


@pytest.mark.parametrize(
    ("known", "wrong"),
    [
        ({}, 1),
        ({"changes": [change("parties-2.4", "killed")]}, 0),
        ({"changes": [change("crm-1.4", "killed")]}, 1),
        ({"changes": [change("parties-2.4", "killed", 1012.0)]}, 1),
        ({"changes": [change("parties-2.4", "killed", 900.0)]}, 1),
        ({"said": [("parties-1", FAILED)]}, 0),
        ({"said": [("parties-2", FAILED)]}, 1),
        ({"said": [("parties-1", FAILED.replace('"r"', '"s"'))]}, 1),
        ({"away": [Spell(999.0, 1005.0)]}, 0),
        ({"away": [Spell(900.0, 950.0)]}, 1),
        ({"asked_again": ["r"]}, 0),
        ({"asked_again": ["s"]}, 1),
    ],
)
def test_a_mail_that_came_again_to_the_agency(tmp_path: Path, known: dict[str, object], wrong: int) -> None:
    """Commands are repeated, but not without something having happened to this one or to its workers."""
    seen = mails(tmp_path, "parties-1.2", "parties-2.4", to=NORD, **known)  # type: ignore[arg-type] # as above

    assert wrong == len(list(seen.repeats_to_agency(MAIL)))
