"""What those who run the installation do, and what befalls its machines, while requests are open.

Each does what the pages below `deploy/` say, by the product's own code; where a page asks for people's hands,
those who handed something in hand it in again.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Final, cast
from unittest.mock import patch

import click
import sqlalchemy as sa

from orchestrator.cli import keys as commands
from orchestrator.cli.assembly import Ground
from orchestrator.privacy import keyring
from orchestrator.store import Installations, KnownGenerations, StoredKeys
from tests.simulation import installation
from tests.simulation.lives import Fuse, Killed, Life
from tests.simulation.ports import LivingStore, OneConnection
from tests.simulation.world import World

#: What may happen; a scenario may name some of it.
KINDS: Final = ("rotation",)
TROUBLES: Final = (
    "operating: a rotation",
    "operating: a rotation that is refused",
    "operating: a rotation that dies",
    "operating: a rotation while something comes in",
    "operating: a master key is destroyed",
)
_CONFIG: Final = Path("radera.toml")


class Operating:
    """Whoever runs the installation, and fate."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self._rng = rng
        self._kinds = world.scenario.operating or KINDS
        if world.scenario.operations:
            world.take_generations()
            world.doors.between = self._between

    def act(self) -> None:
        """One of the things that may happen."""
        kind = self._rng.choice(self._kinds)
        acts: dict[str, Callable[[], None]] = {"rotation": self.rotate}
        acts[kind]()

    def _count(self, what: str) -> None:
        self._world.counts[f"operating: {what}"] += 1
        self._world.tell(f"operating: {what}")

    # --- rotating the master keys ---

    def rotate(self) -> None:
        """`radera keys rotate`, in a process of its own; the keyrings of all others stay open."""
        rng = self._rng
        keep = timedelta(days=rng.choice((0, 0, 1, 7)))
        fuse = Fuse()
        fuse.left = rng.randrange(12) if rng.random() < 0.2 else None
        before = {one.number for one in self._world.key_file.material.generations}
        with self._console(fuse):
            try:
                code = commands.rotate(_CONFIG, keep=keep, patience=-1.0)
            except Killed:
                self._count("a rotation that dies")
                return
        self._count("a rotation that is refused" if code else "a rotation")
        if before - {one.number for one in self._world.key_file.material.generations}:
            self._count("a master key is destroyed")

    def _between(self) -> None:
        """Something is sealed and not yet stored: whoever takes it in waits for the database."""
        if "rotation" in self._kinds and self._rng.random() < 0.2:
            self._count("a rotation while something comes in")
            self.rotate()

    @contextmanager
    def _console(self, fuse: Fuse) -> Iterator[None]:
        """Where commands run: a process with a life, a store, a keyring and a chance of its own."""
        world, rng = self._world, self._rng
        life = Life("console", fuse)
        fuse.kills = lambda role: setattr(life, "is_alive", False)
        chance = SimpleNamespace(randbelow=rng.randrange)
        world.key_file.around = (lambda: life.before("keys"), lambda: life.after("keys"))
        try:
            with (
                patch.object(
                    commands, "open_ground", lambda config, checked=True: self._ground(life, checked)
                ),
                patch.object(click, "echo", lambda *said, **how: None),
                patch.object(keyring, "secrets", chance),
                patch.object(keyring, "new_key", lambda: rng.randbytes(32)),
            ):
                yield
        finally:
            world.key_file.around = (lambda: None, lambda: None)

    def _ground(self, life: Life, checked: bool) -> Ground:
        world = self._world
        store = LivingStore(world.engine, world.clock, life, lambda saga: None)
        store.reading = cast(sa.Engine, OneConnection(store))
        opened = world.key_file.keyring()
        keys = StoredKeys(store, opened)
        generations = KnownGenerations(store, opened, keys)
        opened.learn_of_losses(generations.lost)
        if checked:
            generations.check()
        return Ground(
            settings=installation.settings(),
            engine=world.engine,
            store=store,
            bus=world.bus.of(life),
            keyring=opened,
            keys=keys,
            generations=generations,
            installations=Installations(store, opened, "(the simulated one)"),
            digests=installation.digests(),
            links=installation.links(),
        )
