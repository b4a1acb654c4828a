"""Recruitment agencies that only read mail: they follow the link, think, erase, and answer on the page.

A mail's scanner opens the link at once, with a GET: a link that acts on a GET has erased, or answered,
by then. The agency answers `delay` later by POSTing the form's fields to the same link: `answer`
(erased, nothing_held, retained, refused) and, where seeded, `legal_basis`, `retained_until`, `reason`.
With the answer "erased" it first removes every candidate it holds whose address or name stands in the
mail, from its own files and from its Teamtailor company. It answers the mail number `ignores + 1` and
those after it, each link once; one seeded without an answer never does.

The link is the only http(s) URL that has a line of the plain text to itself.
"""

import re
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import getaddresses
from pathlib import Path
from urllib.parse import urlencode

from handlers.sandbox.store import Row, Store, normal
from handlers.sandbox.teamtailor import CANDIDATE as TEAMTAILOR_CANDIDATE
from handlers.sandbox.teamtailor import Teamtailor

VENDOR = "agencies"
CANDIDATE = "agency.candidate"
LINK = re.compile(r"^[ \t]*(https?://\S+)[ \t]*\r?$", re.MULTILINE)


def plain_text(message: EmailMessage) -> str:
    part = message.get_body(preferencelist=("plain",))
    return str(part.get_content()) if part is not None else ""


def names(text: str, candidate: Row) -> bool:
    """Whether a text names the candidate: a whole address or name, not a part of another's."""
    known = [re.escape(known) for known in (candidate["email"], candidate["name"]) if known]
    return any(re.search(rf"(?<![\w.+-]){one}(?!\w|[.+-]\w)", text, re.IGNORECASE) for one in known)


class Mailroom:
    """Where mail arrives: kept as .eml files (or in memory), and handed to the agencies it is meant for."""

    def __init__(self, store: Store, teamtailor: Teamtailor, folder: Path | None) -> None:
        self._store = store
        self._teamtailor = teamtailor
        self._folder = folder
        self._kept: list[bytes] = []
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def accept(self, message: bytes, now: int, recipients: list[str] | None = None) -> None:
        """Takes one mail; without an envelope the recipients are those of To and Cc."""
        number = self._store.number("mail")
        if self._folder is None:
            self._kept.append(message)
        else:
            (self._folder / f"{number:06d}.eml").write_bytes(message)
        parsed = BytesParser(EmailMessage, policy=policy.default).parsebytes(message)
        if recipients is None:
            recipients = [
                address for _, address in getaddresses(parsed.get_all("to", []) + parsed.get_all("cc", []))
            ]
        self._store.note(now, "mail", "mailroom", "mail_accepted", record=f"mail-{number}")
        text = plain_text(parsed)
        links = LINK.findall(text)
        for agency in self._store.rows("agency"):
            if normal(agency["address"]) in map(normal, recipients) and len(links) == 1:
                self._receive(agency, links[0], text, now)

    def _receive(self, agency: Row, link: str, text: str, now: int) -> None:
        mails = agency["mails"] + 1
        self._store.put("agency", agency["id"], {**agency, "mails": mails})
        meant = [
            [table, row["id"]]
            for table, account in (
                (CANDIDATE, agency["id"]),
                (TEAMTAILOR_CANDIDATE, agency["teamtailor_company"]),
            )
            for row in self._store.rows(table)
            if row["account"] == account and names(text, row)
        ]
        details = {"vendor": VENDOR, "account": agency["id"], "url": link, "headers": {}}
        if agency["scans"]:
            self._store.later(
                now, "deliver", network=True, method="GET", body="", record=None, said="opened", **details
            )
        if agency["answer"] is not None and mails > agency["ignores"]:
            due_at = now + agency["delay"]
            self._store.later(due_at, "agency.answer", agency=agency["id"], link=link, meant=meant)

    def answer(self, agency_id: str, link: str, meant: list[list[str]], now: int) -> None:
        """The agency does what it will say, and then says it."""
        agency = self._store.get("agency", agency_id)
        if agency is None or agency["answer"] is None or link in agency["answered"]:
            return
        self._store.put("agency", agency_id, {**agency, "answered": [*agency["answered"], link]})
        if agency["answer"] == "erased":
            for table, candidate in meant:
                self._erase(agency, table, candidate, now)
        fields = {"answer": agency["answer"]}
        fields |= {name: agency[name] for name in ("legal_basis", "retained_until", "reason") if agency[name]}
        details = {"vendor": VENDOR, "account": agency_id, "record": None, "said": agency["answer"]}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        self._store.later(
            now, "deliver", network=True, url=link, body=urlencode(fields), headers=headers, **details
        )

    def _erase(self, agency: Row, table: str, candidate: str, now: int) -> None:
        row = self._store.get(table, candidate)
        if row is None:
            return
        if table == TEAMTAILOR_CANDIDATE:
            self._teamtailor.destroy(row, now)
            return
        self._store.drop(table, candidate)
        self._store.note(now, VENDOR, agency["id"], "candidate_erased", record=candidate)

    def messages(self) -> list[bytes]:
        """Every mail accepted, in order."""
        if self._folder is None:
            return list(self._kept)
        return [file.read_bytes() for file in sorted(self._folder.glob("*.eml"))]
