"""One process, `radera up` on a file: rotations under load, a second process at the same place, and what has
to be put back, by the deployment guide, while requests come in.

The vendors are the stand-ins of the shipped handlers, and the agencies among them answer by themselves. What
was handed in since the backup lies in the database aside alone: the callers hand it in again, as the guide
says.
"""

import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from orchestrator.cli.assembly import open_ground
from orchestrator.cli.submit import identifier_of, submit_to
from orchestrator.privacy import Keyring
from orchestrator.smtp import message_id
from tests.chaos.kept import Opened, Seen, lost
from tests.chaos.play import Broken, Result
from tests.deploy.page import begun, blocks, ended
from tests.integration.people import Person, make_people
from tests.integration.ports import free_port
from tests.integration.processes import Radera, eventually
from tests.integration.settings import DOMAIN, DPO
from tests.integration.world import World, world_in

#: In this order: what is put back in the end is older than what was put back before.
INCIDENTS: Final = ("rotations", "second_process", "old_keyring", "old_database", "old_both")


def endure_alone(
    requests: int, seed: int, directory: Path, *, say: Callable[[str], None] = lambda _: None
) -> Result:
    """One run, in a new folder.

    Raises:
        Broken: something that must hold does not.
    """
    directory.mkdir(parents=True)
    with world_in(directory, seed) as world:
        run = _Alone(world, requests, directory)
        try:
            return run.endured(say)
        except Exception as error:
            text = f"seed {seed}, alone: {type(error).__name__}\n{error}\n{world.report()}"
            (directory / "report.txt").write_text(text)
            raise Broken(text) from error


class _Alone:
    def __init__(self, world: World, requests: int, directory: Path) -> None:
        self._world = world
        self._rng = random.Random(world.seed)
        self._directory = directory
        world.settle_bystanders(self._rng, 2)
        world.settle(make_people(self._rng, requests))
        for number, person in enumerate(world.people):
            person.request_id = f"{number:08x}-0000-4000-8000-{self._rng.randrange(16**12):012x}"
        self._waiting = list(world.people)
        self._share = requests // (len(INCIDENTS) + 1)
        self._taken: dict[str, Person] = {}
        self._counted = {"handed in again": 0}
        for name in ("safe", "backups", "aside"):
            (directory / name).mkdir()

    def endured(self, say: Callable[[str], None]) -> Result:
        world, began = self._world, time.monotonic()
        world.radera.start(120.0)
        for name in INCIDENTS:
            self._hand_in(self._share // 2)
            say(f"alone, {name}: {len(self._taken)} requests taken, {self._open()} open")
            world.note(f"incident: {name}")
            incident: Callable[[], None] = getattr(self, f"_{name}")
            incident()
            self._count(name)
        self._hand_in(len(self._waiting))
        eventually("all have ended, or the officer is asked", self._rests, within=600, every=0.5)
        world.await_mails(120)
        world.radera.stop()
        wrong = list(lost(self._seen()))
        if wrong:
            raise AssertionError("\n".join(wrong))
        asked = world.open_people()
        world.people = [person for person in world.people if person not in asked]
        world.check_nobody_is_held()
        world.check_records()
        figures = {"taken": len(self._taken), "asked about": len(asked)}
        return Result(time.monotonic() - began, dict(self._counted), dict(figures))

    def _rests(self) -> bool:
        """A controller whose answer was lost with a database doesn't say it twice: the officer is asked."""
        open_ = {person.request_id for person in self._world.open_people()}
        sagas = self._world.ground.store.sagas(limit=10_000)
        return open_ <= {saga.request_id for saga in sagas if saga.escalations}

    def _open(self) -> int:
        return sum(person.request_id in self._taken for person in self._world.open_people())

    # --- incidents ---

    def _rotations(self) -> None:
        """Three in a row, each destroying what the one before replaced, while requests come in."""
        for _ in range(3):
            rotating = begun(self._line("radera keys rotate") + " --keep 0", self._places)
            left = self._share // 4
            while rotating.poll() is None:
                self._hand_in(1 if left > 0 else 0)
                left -= 1
                time.sleep(0.5)
            code, said = ended(rotating)
            assert code == 0 or "nothing was changed" in said, said
            self._count("rotations done" if code == 0 else "rotations refused, since something waited")
            opened = self._world.ground.keys.open_all()
            assert not opened.unreadable, f"keys were destroyed that are needed: {opened.unreadable}"
            self._count("keys opened after a rotation", opened.count)

    def _second_process(self) -> None:
        """Another `radera up` at the same file is refused, and the first one goes on."""
        world = self._world
        config = world.directory / "second.toml"
        text = world.config.read_text().replace(f"port = {world.http_port}", f"port = {free_port()}")
        config.write_text(text)
        for number in range(2):
            second = Radera(config, self._directory / f"second-{number}.log")
            second.spawn()
            code = second.wait(120.0)
            assert code == 1, code
            assert b"Another `radera`" in second.said()
            self._hand_in(1)
        assert world.radera.is_alive

    def _old_keyring(self) -> None:
        """A keyring from before the last rotation: it is refused, and the right one is put back."""
        keys, old = self._keys, self._directory / "old.keys"
        shutil.copy2(keys, old)
        self._typed(self._line("radera keys rotate"))
        shutil.copy2(keys, self._directory / "safe" / "radera.keys")
        self._world.radera.stop()
        self._hand_in(2)
        shutil.copy2(old, keys)
        self._world.radera.spawn()
        code = self._world.radera.wait(120.0)
        assert code == 1, code
        assert b"is not in the keyring" in self._world.radera.said()
        self._put_keyring_back()
        self._world.radera.start(120.0)

    def _old_database(self) -> None:
        """The database of a while ago is put back, by the page, after the process was killed."""
        self._back_up()
        self._hand_in(self._share // 3)
        time.sleep(self._rng.uniform(2.0, 5.0))
        self._world.radera.kill()
        self._put_database_back()
        self._world.radera.start(120.0)
        self._hand_in_again()

    def _old_both(self) -> None:
        """Database and keyring from before a rotation. They fit each other; what came later is handed in
        again.
        """
        self._back_up()
        old = self._directory / "old.keys"
        shutil.copy2(self._keys, old)
        self._typed(self._line("radera keys rotate"))
        self._hand_in(self._share // 3)
        self._world.radera.stop()
        shutil.copy2(self._keys, self._directory / "safe" / "radera.keys")
        shutil.copy2(old, self._keys)
        self._put_database_back()
        self._world.radera.start(120.0)
        self._hand_in_again()
        self._world.radera.stop()
        self._put_keyring_back()
        assert len(Keyring.from_file(self._keys).generations) > 1
        self._world.radera.start(120.0)

    # --- the operator ---

    @property
    def _keys(self) -> Path:
        return self._world.directory / "radera.keys"

    @property
    def _places(self) -> dict[str, Path]:
        places = {f"/{name}": self._directory / name for name in ("safe", "backups", "aside")}
        return places | {"/etc/radera": self._world.directory}

    def _line(self, command: str) -> str:
        return f"{command} --config {self._world.config}"

    def _typed(self, line: str) -> None:
        code, said = ended(begun(line, self._places))
        assert code == 0, (line, code, said)

    def _back_up(self) -> None:
        line = next(one for one in blocks("README.md", "Rotating them")[0] if one.startswith("sqlite3"))
        (self._directory / "backups" / "radera.db").unlink(missing_ok=True)
        self._typed(line)

    def _put_database_back(self) -> None:
        self._world.ground.close()
        for line in blocks("restoring.md", "A file of SQLite")[0]:
            self._typed(line)
        self._world.ground = open_ground(self._world.config)

    def _put_keyring_back(self) -> None:
        (self._keys.parent / "radera.keys.wrong").unlink(missing_ok=True)
        for line in blocks("README.md", "Putting the keyring back")[0]:
            self._typed(line)

    # --- the callers ---

    def _hand_in(self, count: int) -> None:
        for person in self._waiting[:count]:
            self._submit(person)
        del self._waiting[:count]

    def _hand_in_again(self) -> None:
        """What the database doesn't know was handed in since the backup."""
        known = {saga.request_id for saga in self._world.ground.store.sagas(limit=10_000)}
        known |= set(self._world.ground.store.unopened())
        for request_id, person in self._taken.items():
            if request_id not in known:
                self._submit(person)
                self._count("handed in again")

    def _submit(self, person: Person) -> None:
        submit_to(
            self._world.ground,
            [identifier_of(kind, value) for kind, value in person.identifiers],
            request_id=person.request_id,
            scope=person.scope,
            tenant=person.tenant,
            source="test",
        )
        self._taken[person.request_id] = person

    # --- the judge ---

    def _seen(self) -> Seen:
        world = self._world
        events: dict[str, dict[str, str]] = {}
        for one in world.outcomes():
            events.setdefault(one.request_id, {})[one.event_id] = one.kind
        mailed = {str(mail["message-id"]) for mail in world.mails() if str(mail["to"]) == DPO}
        return Seen(
            taken=set(self._taken),
            thanked=(),
            opened={
                saga.request_id: Opened(
                    saga.status,
                    tuple(one.reason for one in saga.escalations),
                    events=events.get(saga.request_id, {}),
                )
                for saga in world.ground.store.sagas(limit=10_000)
            },
            mailed={
                event_id
                for request_id, its in events.items()
                for event_id in its
                if message_id(DOMAIN, request_id, event_id) in mailed
            },
        )

    def _count(self, what: str, times: int = 1) -> None:
        self._counted[what] = self._counted.get(what, 0) + times
