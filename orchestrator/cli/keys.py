"""`radera keys rotate`: a new master key, and the end of the old ones.

In this order, so that a crash anywhere loses nothing:

1. the new generation is on the disk: from here on everything is sealed under it; 2. every open request's
key is wrapped again and committed; 3. callbacks that were sealed to the installation before are waited for:
they die with their generation; 4. with the database's write lock held, so that nobody is about to file a
key under them, the old generations are destroyed.

From then on a backup of the database made before opens nothing. Whatever stands in the way, the old
generations are kept and the command says why; running it again picks up where it was.
"""

import time
from pathlib import Path

import click

from handlers.worker import GROUP
from orchestrator.cli.assembly import Ground, open_ground
from schemas import topics

#: How long to wait, in seconds, for the workers to read the callbacks that are there.
PATIENCE = 20.0


def rotate(config: Path, *, patience: float = PATIENCE) -> int:
    """Rotates; 1 if the old generations had to be kept."""
    ground = open_ground(config)
    fresh = ground.keyring.rotate(ground.store.now())
    done = ground.keys.rewrap()
    if done.unreadable:
        return _kept(
            f"the keys of these requests can't be read: {', '.join(done.unreadable)}. "
            "Put back the keyring that they were made with"
        )
    if not _callbacks_are_read(ground, patience):
        return _kept("callbacks are waiting to be read that only they can open. Start `radera up`")
    with ground.store.begin() as transaction:
        # Filing a key takes the same lock, and looks at the keyring under it.
        in_use = ground.keys.generations()
        old = [one.number for one in ground.keyring.generations if one.number != fresh.number]
        gone = [number for number in old if number not in in_use]
        ground.keyring.forget(gone, transaction.now())
    ground.keys.shred()
    click.echo(
        f"generation {fresh.number} is current; {done.count} open keys wrapped again; "
        f"destroyed: {', '.join(map(str, gone)) or 'none'}"
    )
    if len(gone) < len(old):
        return _kept("a key was filed under one of them meanwhile")
    return 0


def _callbacks_are_read(ground: Ground, patience: float) -> bool:
    kinds = {system.kind for system in ground.settings.systems.values() if not system.holds_nothing}
    waiting = [topics.callbacks(kind) for kind in kinds]
    until = time.monotonic() + patience
    while ground.bus.backlog(GROUP, waiting):
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def _kept(why: str) -> int:
    click.echo(f"radera: the old master keys were kept: {why}, and rotate again.", err=True)
    return 1
