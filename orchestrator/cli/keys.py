"""`radera keys create` and `public`, and `radera keys rotate`: a new master key, and the end of the old ones.

Rotating goes in this order, so that a crash anywhere loses nothing:

* The new generation is on the disk: from here on everything is sealed under it.
* Every open request's key is wrapped again and committed.
* Requests and callbacks that were sealed to the installation before are waited for: they die with their
  generation.
* With the database's write lock held, so that nobody is about to file a key under them, the old generations
  are destroyed; with `keep`, those that were replaced longer ago, because producers outside may still seal
  to the others.

From then on a backup of the database made before opens nothing. Whatever stands in the way, the old
generations are kept and the command says why; running it again picks up where it was.
"""

import time
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import click

from handlers.worker import GROUP as WORKERS
from orchestrator.bus.port import BusUnavailable
from orchestrator.cli.assembly import Ground, kinds_of, load_settings, open_ground
from orchestrator.privacy import Exchange, Generation, Keyring
from orchestrator.service.dead_letters import open_letters
from orchestrator.service.orchestrator import GROUP as ORCHESTRATORS
from orchestrator.settings import micros
from schemas import topics

#: How long to wait, in seconds, until what waits in the outbox and on the bus is read.
PATIENCE = 20.0


def rotate(
    config: Path,
    *,
    keep: timedelta = timedelta(0),
    lose_dead_letters: bool = False,
    patience: float = PATIENCE,
) -> int:
    """Rotates; 1 if generations that should have gone had to be kept."""
    ground = _open(config)
    fresh = ground.keyring.rotate(ground.store.now())
    done = ground.keys.rewrap()
    if done.unreadable:
        return _kept(
            f"the keys of these requests can't be read: {', '.join(done.unreadable)}. "
            "Put back the keyring that they were made with"
        )
    try:
        if not _all_is_read(ground, patience):
            return _kept("requests or callbacks wait to be read that only they can open. Start `radera up`")
        letters = (
            [] if lose_dead_letters else [letter.name for letter in open_letters(ground.store, ground.bus)]
        )
    except BusUnavailable as error:
        return _kept(
            f"the bus doesn't tell what waits there that only they can open ({error}). See to the bus"
        )
    if letters:
        return _kept(
            f"{len(letters)} dead letters can be opened only with them. Replay or discard them "
            "(`radera dlq list`), or lose them with --lose-dead-letters"
        )
    with ground.store.begin() as transaction:
        # Filing a key takes the same lock, and looks at the keyring under it.
        transaction.own_keys()
        in_use = ground.keys.generations()
        old = _replaced(ground.keyring.generations, before=transaction.now() - micros(keep))
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


def rewrap(config: Path) -> int:
    """Wraps every open request's key under the current generation; 1 if one can't be read.

    For master keys that somebody else keeps, who adds the new one and takes away the old.
    """
    ground = _open(config)
    done = ground.keys.rewrap()
    ground.keys.shred()
    in_use = ground.keys.generations()
    current = ground.keyring.current.number
    free = [
        one.number for one in ground.keyring.generations if one.number not in in_use and one.number != current
    ]
    click.echo(
        f"generation {current} is current; {done.count} open keys wrapped again; no key needs any more: "
        f"{', '.join(map(str, free)) or 'none'}"
    )
    if done.unreadable:
        click.echo(
            f"radera: the keys of these requests can't be read: {', '.join(done.unreadable)}", err=True
        )
        return 1
    return 0


def create(config: Path) -> int:
    """Makes the key file that the settings name. Raises KeyFileExists: keys are never replaced."""
    file = load_settings(config).keys.file
    Keyring.create(file, time.time_ns() // 1000)
    click.echo(f"{file}: made; back it up, never together with the database")
    return 0


def public(config: Path) -> int:
    """Prints the present public key, as JSON."""
    click.echo(Exchange(_open(config).keyring).public_key().to_json())
    return 0


def _open(config: Path) -> Ground:
    ground = open_ground(config)
    for file in ground.keyring.beside:
        click.echo(f"radera: note: {file} lies beside the key file, and is left as it is", err=True)
    return ground


def _replaced(generations: Sequence[Generation], *, before: int) -> list[int]:
    """The generations that another one followed at `before` or earlier; where the time is not known, all
    but the last.
    """
    return [
        old.number
        for old, following in pairwise(generations)
        if following.created_at is None or following.created_at <= before
    ]


def _all_is_read(ground: Ground, patience: float) -> bool:
    callbacks = [topics.callbacks(kind) for kind in kinds_of(ground.settings)]
    until = time.monotonic() + patience
    # In the order in which they travel: what has left one place is looked for in the next.
    while (
        ground.store.has_unsent([topics.REQUESTS, *callbacks])
        or ground.bus.backlog(WORKERS, callbacks)
        or ground.bus.backlog(ORCHESTRATORS, [topics.REQUESTS])
    ):
        if time.monotonic() > until:
            return False
        time.sleep(0.2)
    return True


def _kept(why: str) -> int:
    click.echo(f"radera: the old master keys were kept: {why}, and rotate again.", err=True)
    return 1
