"""The mail to the data protection officer: what is known, what is not, and what waits for a decision.

The first lines say what happened and by when it must be done; each system has a line; each open question
ends with the commands that answer it, ready to be copied. The head of the request's timeline closes the
mail, so that the timeline can't be rewritten later without the mail in the officer's own mailbox saying so.

No personal data: an outcome holds none but for the free text of a decision's reason, and that is left out
where it looks as if it did.
"""

import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final, get_args
from zoneinfo import ZoneInfo

from orchestrator.mailbox import questions, terms, words
from orchestrator.mailbox.left import Left, left_of
from orchestrator.mailbox.places import Looks, Titles, purge_of, says_where
from orchestrator.mailbox.words import Tongue
from orchestrator.privacy.guard import looks_personal
from orchestrator.settings import Settings
from schemas.messages import ConfirmationKind, EscalationOutcome, Outcome, SystemOutcome

_WIDTH: Final = 100
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_ERASED = ("retained", "partly_retained", "not_identifiable", "refused", "waived", "stopped")
_SHOWN = ("seen_absent", "vendor_stated")
_DONE = ("erased", "absent", "anonymised", "retained")


def subject(outcome: Outcome, language: Tongue) -> str:
    """The request's id and a fixed word."""
    return f"Radera {outcome.request_id}: {words.SUBJECT[language][outcome.kind]}"


def render(outcome: Outcome, settings: Settings, titles: Titles | None = None) -> str:
    """The mail's text. `titles` are those of the places, as the handlers declare them."""
    return _Page(outcome, settings, titles or {}).text()


def plain(outcome: Outcome, language: Tongue) -> str:
    """What is sent if `render` fails: the officer must hear of it all the same."""
    return words.LABEL[language]["broken"].format(request=outcome.request_id) + "\n"


class _Page:
    """One mail in the making."""

    def __init__(self, outcome: Outcome, settings: Settings, titles: Titles) -> None:
        self._outcome = outcome
        self._settings = settings
        self._titles = titles
        self._language: Tongue = settings.dpo.language
        self._zone = ZoneInfo(settings.installation.time_zone)
        self._label = words.LABEL[self._language]

    def text(self) -> str:
        blocks = [self._opening(), self._facts(), self._systems(), self._questions(), self._closing()]
        return "\n\n".join("\n".join(block) for block in map(list, blocks) if block) + "\n"

    # --- what happened ---

    def _opening(self) -> Iterator[str]:
        outcome = self._outcome
        yield from _wrapped(words.HEADLINE[self._language][outcome.kind])
        if outcome.kind in ("acted", "rejected") and self._settings.notices.subject == "none":
            yield from _wrapped(self._label["not_told"])
        if outcome.kind in ("decision_refused", "corrected") and outcome.code is not None:
            yield from _wrapped(words.CODE[self._language].get(outcome.code, outcome.code))
        if outcome.kind == "escalated" and outcome.code is not None:
            yield from _wrapped(questions.AGAIN[self._language].get(outcome.code, ""))
        if outcome.kind in ("acted", "completed", "corrected") and outcome.systems:
            yield from _wrapped(words.GRADE[self._language][self._weakest()])
            if any(map(self._is_not_erased, outcome.systems)):
                yield from _wrapped(self._label["not_everywhere"])

    def _weakest(self) -> str:
        grade = self._outcome.grade or "none"
        is_said = all(says_where(one) for one in self._outcome.systems)
        return "unsaid" if grade == "seen_absent" and not is_said else grade

    def _is_not_erased(self, system: SystemOutcome) -> bool:
        """Whether something of the person is, or may be, still there."""
        return bool(
            self._meaning(system) in _NOT_ERASED
            or self._left_in(system)
            or purge_of(system, self._outcome.occurred_at)
        )

    def _facts(self) -> Iterator[str]:
        outcome, label = self._outcome, self._label
        due = label["due_by"].format(day=terms.day(outcome.due_at, self._zone, self._language))
        rows = {
            "request": outcome.request_id,
            "received": terms.clock(outcome.received_at, self._zone, self._language),
            "due": f"{due}; {self._standing()}",
        }
        width = max(len(label[name]) for name in rows) + 2
        for name, value in rows.items():
            yield f"{label[name]:<{width}}{value}"

    def _standing(self) -> str:
        outcome, label = self._outcome, self._label
        if outcome.acted_at is not None:
            word = "met" if outcome.acted_at <= outcome.due_at else "late"
            return label[word].format(at=terms.clock(outcome.acted_at, self._zone, self._language))
        if outcome.occurred_at > outcome.due_at:
            return label["overdue"]
        days = (self._date(outcome.due_at) - self._date(outcome.occurred_at)).days
        return {0: label["left_none"], 1: label["left_one"]}.get(days, label["left"].format(count=days))

    def _date(self, at: int) -> datetime:
        local = (_EPOCH + timedelta(microseconds=at)).astimezone(self._zone)
        return datetime(local.year, local.month, local.day, tzinfo=UTC)

    # --- the systems ---

    def _systems(self) -> Iterator[str]:
        if not self._outcome.systems:
            return
        yield self._label["systems"]
        titles = [self._title(one.system) for one in self._outcome.systems]
        width = min(max(map(len, titles)), 34)
        for title, system in zip(titles, self._outcome.systems, strict=True):
            below = " " * (width + 4)
            yield from _wrapped(self._line(system), f"  {title:<{width}}  ", below)
            for line in (*self._left(system), *self._looks(system)):
                yield from _wrapped(line, below)

    def _title(self, system: str) -> str:
        numbered = questions.numbered(system)
        if numbered is not None:
            return questions.NUMBERED[self._language].format(**numbered)
        known = self._settings.systems.get(system)
        return known.title if known is not None and known.title is not None else system

    def _meaning(self, system: SystemOutcome) -> str:
        """The status, told apart where one status means two things."""
        known = self._settings.systems.get(system.system)
        if system.status == "retained" and system.erased:
            return "partly_retained"
        if system.status == "not_identifiable" and known is not None and known.holds_nothing:
            return "holds_nothing"
        return system.status

    def _line(self, system: SystemOutcome) -> str:
        label, purge = self._label, purge_of(system, self._outcome.occurred_at)
        parts = [self._standing_of(system)]
        if system.found:
            parts.append(label["found"].format(count=system.found))
        if system.erased:
            # A vendor's yes is counted as that until somebody has looked, or the vendor's record says so.
            is_shown = system.status in _DONE and system.grade in _SHOWN and purge is None
            word = "erased" if is_shown else "accepted"
            parts.append(label[word].format(count=system.erased))
        if system.status == "retained" or system.legal_basis is not None:
            parts += self._kept(system)
        if system.missing:
            names = terms.MISSING[self._language]
            parts.append(label["needs"].format(what=", ".join(names.get(one, one) for one in system.missing)))
        if system.reason is not None:
            parts.append(self._reason(system, system.reason))
        return "; ".join(parts)

    def _standing_of(self, system: SystemOutcome) -> str:
        """The status in words, no stronger than what is known of it."""
        status, meaning = words.STATUS[self._language], self._meaning(system)
        grade = system.grade if says_where(system) else "unsaid"
        told = status.get(f"{meaning}.{grade}") or status.get(meaning, meaning)
        purge = purge_of(system, self._outcome.occurred_at)
        if purge is None:
            return told
        name = "purge" if purge.at is not None else "purge_unknown"
        ahead = self._label[name].format(day=terms.day(purge.at or 0, self._zone, self._language))
        return f"{told}; {ahead}" if system.status == "retained" else ahead

    def _looks(self, system: SystemOutcome) -> Iterator[str]:
        """Where was looked and by what, and where not."""
        yield from Looks(system, self._settings, self._titles, self._language).told(self._label)

    def _left(self, system: SystemOutcome) -> Iterator[str]:
        """What the line above must not be read to cover."""
        left = self._left_in(system)
        if left.records:
            yield self._label["left_records"].format(what=left.counted(self._language))
        for one in left.reasoned(self._language):
            yield self._label["kept_records"].format(what=one)
        if left.unsubmitted:
            word = "unsubmitted_one" if left.unsubmitted == 1 else "unsubmitted"
            yield self._label[word].format(count=left.unsubmitted)
        if left.out_of_scope:
            yield self._label["out_of_scope"].format(count=left.out_of_scope)

    def _left_in(self, system: SystemOutcome) -> Left:
        return left_of(system.evidence, [one.system for one in self._outcome.systems])

    def _kept(self, system: SystemOutcome) -> Iterator[str]:
        if system.legal_basis is not None:
            yield terms.BASIS[self._language].get(system.legal_basis, system.legal_basis)
        if system.retained_until is not None:
            yield self._label["until"].format(
                day=terms.day(system.retained_until, terms.UTC_ZONE, self._language)
            )
        else:
            yield self._label["until_unknown"]

    def _reason(self, system: SystemOutcome, reason: str) -> str:
        if system.status in _DONE and reason in get_args(ConfirmationKind):
            return self._label["contradicted"].format(code=reason)
        return self._label["reason"].format(text=harmless(reason) or self._label["withheld"])

    # --- the questions ---

    def _questions(self) -> Iterator[str]:
        outcome = self._outcome
        if not outcome.escalations:
            if outcome.kind in ("acted", "decision_refused"):
                yield self._label["no_questions"]
            return
        yield self._label["questions"]
        for one in sorted(outcome.escalations, key=lambda one: one.escalation_id != outcome.concerns):
            yield from self._question(one)

    def _question(self, one: EscalationOutcome) -> Iterator[str]:
        label = self._label
        about = [f"{one.escalation_id}@{one.version}"]
        if one.system is not None:
            about.append(label["about"].format(system=self._title(one.system)))
        about.append(label["since"].format(at=terms.clock(one.raised_at, self._zone, self._language)))
        if one.code is not None:
            about.append(label["code"].format(code=one.code))
        yield f"  {', '.join(about)}"
        yield from _wrapped(self._asked(one), "  ")
        yield from _wrapped(self._failure(one), "  ")
        if one.reason == "ambiguous":
            yield from _wrapped(self._several(one.system), "  ")
        if not one.actions:
            yield from _wrapped(label["not_yet"], "  ")
        for action in one.actions:
            # On one line, however long: it is there to be copied.
            yield (
                f"    radera decide {self._outcome.request_id} {action}"
                f' --escalation {one.escalation_id}@{one.version} --reason "…"'
            )

    def _asked(self, one: EscalationOutcome) -> str:
        numbered = questions.numbered(one.system or "")
        if one.reason == "unknown_system" and numbered is not None:
            return questions.NAMED_BY_CONTROLLER[self._language].format(**numbered)
        return questions.QUESTION[self._language].get(one.reason, one.reason)

    def _failure(self, one: EscalationOutcome) -> str:
        """What the question's code means; nothing where it has no words."""
        code, _, place = (one.code or "").partition(".")
        told = words.FAILURE[self._language].get(code, "")
        if not place:
            return told if "{" not in told else ""
        system = SystemOutcome(system=one.system or "", status="awaiting_decision")
        return told.format(place=Looks(system, self._settings, self._titles, self._language).title(place))

    def _several(self, system: str | None) -> str:
        """What records can be told apart by without a word about whose they are."""
        evidence = next((one.evidence for one in self._outcome.systems if one.system == system), {})
        facts = {fact.rpartition(".")[2]: value for fact, value in sorted(evidence.items())}
        counts = {
            "several": facts.get("persons_of_one_address"),
            "led_to": facts.get("persons_led_to"),
            "changed": facts.get("records_changed"),
        }
        told = "; ".join(
            self._label[name].format(count=count)
            for name, count in counts.items()
            if count not in (None, "0")
        )
        if not told or "created_first" not in facts:
            return told
        first, last = facts["created_first"], facts.get("created_last", facts["created_first"])
        return f"{told}, {self._label['created'].format(first=first, last=last)}"

    def _closing(self) -> Iterator[str]:
        yield f"{self._label['head']} {self._outcome.timeline_head}"
        yield self._label["zone"].format(zone=self._settings.installation.time_zone)


def harmless(text: str) -> str | None:
    """A free text on one line, or None where it looks as if it named a person."""
    line = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return None if looks_personal(line) else line


def _wrapped(text: str, indent: str = "", below: str | None = None) -> list[str]:
    """The text in lines; those after the first begin with `below`, where it is given."""
    further = indent if below is None else below
    return textwrap.wrap(
        text, _WIDTH, initial_indent=indent, subsequent_indent=further, break_on_hyphens=False
    )
