"""`radera demo`: a real installation carries out a few requests against stand-ins for the vendors.

Nothing is mocked on our side: the settings file, the database, the keys, the mails over SMTP and the
answers over HTTP are those of `radera up`. The vendors are `handlers.sandbox`, on this machine.
"""

import json
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email import policy
from email.parser import BytesParser
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import click
from anyio.from_thread import BlockingPortal, start_blocking_portal
from rich.console import Console
from rich.live import Live
from rich.table import Table

from handlers.sandbox.core import Sandbox
from handlers.sandbox.server import now as wall_clock
from handlers.sandbox.server import say_ready, serve
from orchestrator import log
from orchestrator.cli.assembly import Ground, ground_of, load_settings
from orchestrator.cli.demo_world import DPO, FAULTS, SEED, STORIES, Story, write_settings
from orchestrator.cli.report import grade_of, outcome_of, report
from orchestrator.cli.roles import Roles
from orchestrator.cli.submit import identifier_of, submit_to
from orchestrator.mailbox.words import SUBJECT
from orchestrator.saga.model import Ended, Saga, Step

#: The demonstration gives up after so many seconds, and says so.
LIMIT = 75.0
MARK = "radera-demo"


@dataclass(slots=True)
class _Told:
    """A story and how far it has come."""

    story: Story
    request_id: str
    saga: Saga | None = None

    @property
    def is_over(self) -> bool:
        saga = self.saga
        if saga is None:
            return False
        if self.story.ends == "escalated":
            rest = [step for step in saga.steps if step.state.status != "awaiting_decision"]
            return outcome_of(saga) == "escalated" and all(step.is_ended for step in rest)
        return outcome_of(saga) == self.story.ends


def run(directory: Path, *, as_json: bool) -> int:
    """Runs the demonstration; 1 if it did not end as it should have."""
    _prepare(directory)
    # With --json standard output holds the document and nothing else.
    console = Console(stderr=as_json)
    log.configure("warning", "auto", (directory / "radera.log").open("w"))
    fatal: list[Exception] = []
    with _until_signalled() as stop, _vendors(directory) as (sandbox, vendor_port, smtp_port):
        file = write_settings(
            directory,
            http_port=_free_port(),
            smtp_port=smtp_port,
            vendor_port=vendor_port,
            public_key=sandbox.public_key(),
        )
        ground = ground_of(load_settings(file))

        def on_fatal(error: Exception) -> None:
            fatal.append(error)
            stop.set()

        roles = Roles(ground, on_fatal=on_fatal)
        roles.start()
        try:
            told = [_Told(story, _submit(ground, story)) for story in STORIES]
            in_time = _watch(ground, told, console, directory, stop)
        finally:
            roles.stop()
        ledger = sandbox.ledger()
        interrupted = stop.is_set() and not fatal
    if interrupted:
        click.echo("radera: interrupted", err=True)
        return 1
    mails = _mails(directory)
    if as_json:
        document = {
            "requests": [
                report(one.saga, ground.store.now(), ground.settings.systems)
                for one in told
                if one.saga is not None
            ],
            "mails": mails,
            "ledger": ledger,
        }
        click.echo(json.dumps(document, indent=2))
    else:
        _conclude(console, told, mails, ledger, file)
    for error in fatal:
        click.echo(f"radera: {error}", err=True)
    if not in_time:
        click.echo(
            f"radera: not every story had ended after {LIMIT:.0f} s; see {directory}/radera.log", err=True
        )
    return 0 if in_time and not fatal else 1


def run_sandbox(directory: Path, port: int) -> int:
    """Serves the stand-ins until interrupted."""
    directory.mkdir(parents=True, exist_ok=True)

    async def main() -> None:
        await serve(directory, port=port, smtp_port=0, ready=say_ready)

    try:
        anyio.run(main)
    except KeyboardInterrupt:
        return 0
    return 0


# --- the stage ---


def _prepare(directory: Path) -> None:
    """An empty directory; one that is not a former demonstration's is left alone."""
    if directory.exists() and any(directory.iterdir()):
        if not (directory / MARK).exists():
            raise click.UsageError(f"{directory} holds something else; name another with --directory")
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MARK).touch()


@contextmanager
def _vendors(directory: Path) -> Iterator[tuple[Sandbox, int, int]]:
    """The stand-ins in a thread of their own: the sandbox, its HTTP port and its SMTP port."""
    sandbox = Sandbox(directory, clock=wall_clock)
    sandbox.seed(SEED)
    for fault in FAULTS:
        sandbox.fault(**fault)
    ready = threading.Event()
    ports: list[int] = []

    def on_ready(port: int, smtp_port: int | None) -> None:
        ports.extend((port, smtp_port or 0))
        ready.set()

    async def main() -> None:
        await serve(directory, smtp_port=0, ready=on_ready, sandbox=sandbox)

    with start_blocking_portal() as portal:
        serving = portal.start_task_soon(main)
        if not ready.wait(20):
            raise RuntimeError("the stand-ins did not start")
        try:
            yield sandbox, ports[0], ports[1]
        finally:
            _end(portal, serving)


def _end(portal: BlockingPortal, serving: Any) -> None:
    serving.cancel()
    portal.call(anyio.sleep, 0)


@contextmanager
def _until_signalled() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, the first time; the second time they end the process.

    As an exception Ctrl-C would come up wherever the program happens to be, and be lost in some callbacks.
    """
    stop = threading.Event()
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_signal(number: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(number, former[signal.Signals(number)])

    for number in former:
        signal.signal(number, on_signal)
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _submit(ground: Ground, story: Story) -> str:
    return submit_to(
        ground,
        [identifier_of(kind, value) for kind, value in story.identifiers],
        scope=story.scope,
        tenant=story.tenant,
        language=story.language,
        source="demo",
    )


# --- what is seen ---


def _watch(
    ground: Ground, told: list[_Told], console: Console, directory: Path, stop: threading.Event
) -> bool:
    """Shows progress until every story is over and its mails are there; whether that came in time."""
    until = time.monotonic() + LIMIT
    seen: dict[tuple[str, str], str] = {}
    live = Live(console=console, refresh_per_second=8) if console.is_terminal else None
    if live is not None:
        live.start()
    try:
        while time.monotonic() < until and not stop.is_set():
            for one in told:
                one.saga = ground.store.saga(one.request_id)
            if live is not None:
                live.update(_table(told))
            else:
                _print_changes(told, seen, console)
            if all(one.is_over for one in told) and _mails_are_there(told, directory):
                return True
            time.sleep(0.1)
    finally:
        if live is not None:
            live.stop()
    return False


def _mails_are_there(told: list[_Told], directory: Path) -> bool:
    """Whether the DPO has the mail about each story's end."""
    arrived = {mail["subject"] for mail in _mails(directory) if mail["to"] == DPO}
    return all(f"Radera {one.request_id}: {SUBJECT['en'][one.story.ends]}" in arrived for one in told)


def _table(told: list[_Told]) -> Table:
    table = Table("request", "story", "status", "systems", title="radera demo", title_justify="left")
    for one in told:
        if one.saga is None:
            table.add_row(one.request_id[:8], one.story.title, "submitted", "")
            continue
        systems = "\n".join(f"{step.system}: {_word(step)}" for step in one.saga.steps)
        status = outcome_of(one.saga) or one.saga.status
        table.add_row(one.request_id[:8], one.story.title, status, systems, end_section=True)
    return table


def _word(step: Step) -> str:
    state = step.state
    if isinstance(state, Ended):
        return f"{state.end} ({state.grade})" if state.grade else state.end
    return f"{state.status}, attempt {step.attempt}"


def _print_changes(told: list[_Told], seen: dict[tuple[str, str], str], console: Console) -> None:
    for one in told:
        if one.saga is None:
            continue
        news = {("", "request"): outcome_of(one.saga) or one.saga.status}
        news |= {(step.system, "step"): _word(step) for step in one.saga.steps}
        for (system, _), word in news.items():
            if seen.get((one.request_id, system)) != word:
                seen[one.request_id, system] = word
                where = f" {system}" if system else ""
                console.print(
                    f"{one.request_id[:8]}{where} {word}", highlight=False, markup=False, soft_wrap=True
                )


def _mails(directory: Path) -> list[dict[str, str]]:
    """The mails that arrived. Only the DPO's and the agencies' recipients are named: a notice goes to the
    person.
    """
    found = []
    for file in sorted((directory / "mail").glob("*.eml")):
        mail = BytesParser(policy=policy.default).parsebytes(file.read_bytes())
        to = str(mail["to"] or "")
        found.append(
            {
                "to": "(the person)" if "@people.example" in to else to,
                "subject": str(mail["subject"]),
                "message_id": str(mail["message-id"]),
                "path": str(file),
            }
        )
    return found


def _conclude(
    console: Console,
    told: list[_Told],
    mails: list[dict[str, str]],
    ledger: Sequence[Mapping[str, Any]],
    file: Path,
) -> None:
    for one in told:
        if one.saga is None:
            continue
        grade = grade_of(one.saga)
        console.print(
            f"{one.story.title:<40} {outcome_of(one.saga) or one.saga.status:<12} {grade or ''}",
            highlight=False,
        )
    console.print(
        f"\n{len(mails)} mails in {file.parent}/mail, {len(ledger)} effects at the vendors", highlight=False
    )
    console.print("Look further with:", highlight=False)
    for one in told:
        if one.story.ends == "escalated":
            console.print(
                f"  radera status --config {file} {one.request_id}", highlight=False, soft_wrap=True
            )
            console.print(
                f"  radera timeline --config {file} {one.request_id}", highlight=False, soft_wrap=True
            )
    sys.stdout.flush()
