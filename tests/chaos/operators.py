"""The operator, who types the deployment guide's commands, in its order, with this run's places."""

import os
import shlex
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.installation import ACCOUNTS, Installation
from tests.deploy.page import DEPLOY, begun, blocks, ended
from tests.integration.processes import eventually

_UP = 300.0
#: The guide's account for a command that it shows with `radera.toml`.
_ACCOUNTS = {"keys rotate": "orchestrator", "keys public": "serve", "status": "serve", "dlq": "serve"}


@dataclass
class Operator:
    """Works on an installation whose roles it may stop and start."""

    installation: Installation

    def __post_init__(self) -> None:
        for folder in ("backups", "safe", "aside"):
            (self.installation.directory / folder).mkdir(exist_ok=True)

    # --- commands ---

    def typed(self, line: str, *, ends: int | None = 0) -> str:
        """Runs one line of the guide; it must end as it should. Returns what it prints."""
        code, said = ended(self.begun(line))
        assert ends is None or ends == code, (line, code, said)
        return said

    def begun(self, line: str) -> "subprocess.Popen[str]":
        """Starts one line of the guide, and does not wait."""
        url = self.installation.database.url
        programs = str(self.installation.database.programs)
        more = {
            "PGHOST": url.host or "",
            "PGPORT": str(url.port),
            "PGUSER": url.username or "",
            "PATH": os.pathsep.join([programs, os.environ["PATH"]]),
            "PYTHONPATH": os.environ["PYTHONPATH"],
        }
        directory = self.installation.directory
        places = {"/etc/radera": self.installation.config.parent}
        places |= {f"/{name}": directory / name for name in _FOLDERS}
        return begun(self._here(line), places, **more)

    def page(self, page: str, heading: str, *, block: int = 0) -> None:
        """Carries out a block of commands below a heading."""
        for line in blocks(page, heading)[block]:
            self.typed(line)

    def radera(self, account: str, *words: str, ends: int | None = 0) -> str:
        """One command of Radera's."""
        config = self.installation.configs[account]
        return self.typed(shlex.join(["radera", *words, "--config", str(config)]), ends=ends)

    def _here(self, line: str) -> str:
        """The line as it is for PostgreSQL, with the accounts of this run."""
        if line.startswith("sqlite3 "):
            line = _backup_on_postgresql()
        account = next((who for what, who in _ACCOUNTS.items() if line.startswith(f"radera {what}")), "")
        line = line.replace("/etc/radera/radera.toml", f"/etc/radera/{account}.toml")
        # This run's server lets its administrator in alone: the owner's role is put on instead.
        owner = f'--command "SET ROLE {ACCOUNTS["owner"]}" --file'
        return line.replace("--username radera_owner --file", owner)

    # --- roles ---

    def stop(self, *roles: str) -> None:
        """Ends every role, or these; each must end well."""
        fleet = self.installation.fleet
        for process in list(fleet.processes.values()):
            if (not roles or process.role in roles) and process.is_alive and process.is_wanted:
                fleet.end(process)
        fleet.await_ends()

    def up(self, *, orchestrators: int = 2) -> None:
        """The orchestrator first, and the other roles when its `/readyz` says so."""
        for _ in range(orchestrators):
            self.installation.start("orchestrator")
        first = self.installation.fleet.of("orchestrator")[0]
        self._await("the orchestrator is ready", lambda: first.probe("/readyz") == 200)
        for role in ("crm", "parties", "mailbox", "serve"):
            self.installation.start(role)
        self.await_ready()

    def await_ready(self) -> None:
        """Waits until every role says that it is ready."""
        fleet = self.installation.fleet
        self._await("all are ready", lambda: all(one.probe("/readyz") == 200 for one in fleet.victims()))

    def _await(self, what: str, holds: Callable[[], bool]) -> None:
        def supervised() -> bool:
            self.installation.fleet.supervise()
            return holds()

        eventually(what, supervised, within=_UP, every=0.3)

    # --- backups ---

    def backed_up(self) -> float:
        """A backup of the database, as the guide makes it; when, in seconds since the epoch."""
        began = time.time()
        self.typed(_backup_on_postgresql())
        return began


_FOLDERS = ("backups", "safe", "aside")


def _backup_on_postgresql() -> str:
    text = (DEPLOY / "restoring.md").read_text()
    return text.rpartition("is made with `")[2].partition("`")[0]
