"""Whether each configured system could be erased from, as its handler finds without touching anybody's data.

It needs the settings and the secrets, no database and no running installation, so that credentials can be
tried before anything is started. A line for each system; what fails names its settings. No vendor's words, no
secret and no identifier is in it.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import anyio
import click

from handlers.checking import Finding
from handlers.registry import Checkable, Context, find
from orchestrator.cli.assembly import load_settings
from orchestrator.http import Clients
from orchestrator.settings import ConfigError, Settings

_WORDS: Mapping[str, str] = {"reachable": "reachable", "control": "control record"}


@dataclass(frozen=True, slots=True)
class Checked:
    """What became of one system. `note` is for one that there is nothing to check of."""

    system: str
    kind: str
    findings: tuple[Finding, ...] = ()
    note: str = ""

    @property
    def is_ok(self) -> bool:
        return all(one.state != "failed" for one in self.findings)

    def line(self) -> str:
        """What a person reads."""
        if failed := [one for one in self.findings if one.state == "failed"]:
            return "; ".join(self._failure(one) for one in failed)
        shown = [_WORDS.get(one.aspect, one.aspect) for one in self.findings if one.state == "ok"]
        said: dict[tuple[bool, str], list[str]] = {}
        for one in self.findings:
            if one.text:
                words = said.setdefault((one.state == "ok", one.text), [])
                words.append(_WORDS.get(one.aspect, one.aspect))
        notes = [
            f"{', '.join(about)}{'' if is_shown else ' not shown'}: {text}"
            for (is_shown, text), about in said.items()
        ]
        return "; ".join(part for part in (", ".join(shown), *notes, self.note) if part)

    def _failure(self, one: Finding) -> str:
        keys = ", ".join(f"systems.{self.system}.{key}" for key in one.settings)
        mend = f"; see {keys}" if keys else ""
        return f"{_WORDS.get(one.aspect, one.aspect)}: {one.text} ({one.code}){mend}"

    def document(self) -> dict[str, Any]:
        return {
            "system": self.system,
            "kind": self.kind,
            "ok": self.is_ok,
            "findings": [asdict(one) for one in self.findings],
            "note": self.note,
        }


def run(config: Path, names: Sequence[str], *, as_json: bool) -> int:
    """Checks the systems of these names, or all of them; 1 if any fails."""
    settings = load_settings(config)
    checked = anyio.run(_check_all, settings, names)
    if as_json:
        ok = all(one.is_ok for one in checked)
        click.echo(json.dumps({"ok": ok, "systems": [one.document() for one in checked]}, indent=2))
    else:
        width = max(len(one.system) for one in checked)
        for one in checked:
            click.echo(f"{one.system:<{width}}  {'ok    ' if one.is_ok else 'FAILED'}  {one.line()}")
    return 0 if all(one.is_ok for one in checked) else 1


async def _check_all(settings: Settings, names: Sequence[str]) -> list[Checked]:
    clients = Clients(clock=lambda: time.time_ns() // 1000)
    try:
        return await check(settings, names, clients)
    finally:
        await clients.aclose()


async def check(settings: Settings, names: Sequence[str], clients: Clients) -> list[Checked]:
    """All of them at once, told in the settings' order. Raises ConfigError for a name that is none."""
    if unknown := [name for name in names if name not in settings.systems]:
        known = ", ".join(settings.systems)
        raise ConfigError([f"systems.{name}: there is no such system; there are {known}" for name in unknown])
    wanted = [name for name in settings.systems if not names or name in names]
    done: dict[str, Checked] = {}

    async def one(name: str) -> None:
        done[name] = await _check(settings, name, clients.of(name))

    async with anyio.create_task_group() as group:
        for name in wanted:
            group.start_soon(one, name)
    return [done[name] for name in wanted]


async def _check(settings: Settings, name: str, clients: Clients) -> Checked:
    system = settings.systems[name]
    if system.holds_nothing:
        return Checked(name, system.kind, note=f"holds nothing: {system.reason}")
    context = Context(
        system=name,
        clock=lambda: time.time_ns() // 1000,
        clients=clients,
        public_url=settings.installation.public_url,
        controller=settings.installation.name,
        domain=settings.installation.domain,
        sender=settings.smtp.sender,
    )
    handler = find()[system.kind](system.own, context)
    if not isinstance(handler, Checkable):
        return Checked(name, system.kind, note="not checked: its handler has no check")
    try:
        with anyio.fail_after(settings.waits.call_limit.total_seconds()):
            return Checked(name, system.kind, await handler.check())
    except TimeoutError:
        late = Finding(aspect="reachable", state="failed", code="call_limit", text="no answer in time")
        return Checked(name, system.kind, (late,))
    except Exception as error:
        # Of a handler's own fault the type is told, and nothing of its text: it can quote anything.
        fault = Finding(aspect="reachable", state="failed", code="handler_error", text=type(error).__name__)
        return Checked(name, system.kind, (fault,))
