"""`radera keys rotate`, and the other commands for master keys: a new one, and the end of old ones.

Rotating loses nothing under load, and nothing where it fails or dies:

* One rotation runs at a time.
* Which generations it will destroy is fixed first: those that an earlier rotation replaced, and that were
  replaced longer ago than `keep`. Never the one that it replaces itself: a process may be about to store what
  it has just sealed under it, for as long as its database keeps it waiting.
* Then it looks, and changes nothing yet: whether it may write, whether every open key can be opened, whether
  something waits that only those generations open (`service/needed.py`).
* The new generation is on the disk, and is recorded in the database. From here on everything is sealed under
  it.
* Every open request's key is wrapped again and committed.
* With the database's write lock held, so that nobody is about to file a key under them, the generations that
  were fixed are destroyed.

From the next rotation on a backup of the database made before this one opens nothing.
"""

import time
from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import click

from handlers.worker import GROUP as WORKERS
from orchestrator.bus.port import BusUnavailable
from orchestrator.cli.assembly import Ground, load_settings, open_ground, topics_of
from orchestrator.cli.decide import unfit
from orchestrator.cli.report import iso
from orchestrator.privacy import Exchange, Generation, Keyring
from orchestrator.service.needed import Needs, what_needs_keys
from orchestrator.settings import micros
from orchestrator.store.alone import rotating_alone

#: How long to wait, in seconds, until what waits in the outbox and on the bus is read.
PATIENCE = 20.0


def rotate(
    config: Path,
    *,
    keep: timedelta,
    lose_dead_letters: bool = False,
    patience: float = PATIENCE,
) -> int:
    """Rotates; 1 if it could not, and then nothing has changed."""
    ground = _open(config)
    ground.keyring.check_ours()
    with rotating_alone(ground.engine) as is_alone:
        if not is_alone:
            return _refused("another rotation is under way. Let it end")
        now = ground.store.now()
        doomed = _replaced(ground.keyring.generations, before=now - micros(keep))
        with ground.store.begin() as transaction:
            transaction.check_rights_to_rotate()
        why = _hindrance(ground, doomed, lose_dead_letters, patience)
        if why:
            return _refused(why)
        return _rotated(ground, doomed)


def _hindrance(ground: Ground, doomed: Sequence[int], lose_dead_letters: bool, patience: float) -> str | None:
    """What stands in the way of a rotation that will destroy these generations."""
    opened = ground.keys.open_all(ground.generations.lost())
    if opened.unreadable:
        return (
            f"the keys of these requests can't be read: {', '.join(opened.unreadable)}. "
            "Put back the keyring that they were made with"
        )
    if not doomed:
        return None
    try:
        needs = _needs(ground, patience)
    except BusUnavailable as error:
        return f"the bus doesn't tell what waits there that only they can open ({error}). See to the bus"
    if needs.waiting:
        return (
            f"requests or callbacks wait to be read that only old master keys may open "
            f"({', '.join(needs.waiting)}). Start `radera up`"
        )
    letters = needs.letters_of(doomed)
    if letters and not lose_dead_letters:
        return (
            f"{letters} dead letters can be opened only with the master keys that would be destroyed. Replay "
            "or discard them (`radera dlq list`), or lose them with --lose-dead-letters"
        )
    return None


def _rotated(ground: Ground, doomed: Sequence[int]) -> int:
    fresh = ground.keyring.rotate(ground.store.now())
    ground.generations.record({fresh.number: ground.keyring.digest_of(fresh.number)})
    done = ground.keys.rewrap(ground.generations.lost())
    with ground.store.begin() as transaction:
        # Filing a key takes the same lock, and looks at the keyring under it.
        transaction.own_keys()
        in_use = ground.keys.generations()
        gone = [number for number in doomed if number not in in_use]
        ground.keyring.forget(gone, transaction.now())
    ground.keys.shred()
    kept = [one.number for one in ground.keyring.generations if one.number != fresh.number]
    click.echo(
        f"generation {fresh.number} is current; {done.count} open keys wrapped again; "
        f"destroyed: {_listed(gone)}; kept until a later rotation: {_listed(kept)}"
    )
    if len(gone) < len(doomed):
        click.echo("radera: open keys are left under an old master key. Rotate again.", err=True)
        return 1
    return 0


def rewrap(config: Path) -> int:
    """Wraps every open request's key under the current generation; 1 if one can't be read.

    For master keys that somebody else keeps, who adds the new one and takes away the old.
    """
    ground = _open(config)
    done = ground.keys.rewrap(ground.generations.lost())
    ground.keys.shred()
    current = ground.keyring.current.number
    needs = _needs(ground, PATIENCE)
    others = [one.number for one in ground.keyring.generations if one.number != current]
    free = [number for number in others if not needs.is_needed(number)]
    click.echo(
        f"generation {current} is current; {done.count} open keys wrapped again; no longer needed: "
        f"{_listed(free)}"
    )
    for number in others:
        if number not in free:
            click.echo(f"radera: generation {number} is still needed: {_said(needs, number)}", err=True)
    if done.unreadable:
        click.echo(
            f"radera: the keys of these requests can't be read: {', '.join(done.unreadable)}", err=True
        )
        return 1
    return 0


def lost(config: Path, generation: int, *, reason: str, declared_by: str) -> int:
    """Declares a generation lost; 1 if it is not, 2 if the reason can't stay on the record.

    Runs with any keyring: it is for when nothing else starts.
    """
    problem = unfit(reason) or (None if reason.strip() else "say why with --reason; it stays on the record")
    if problem is not None:
        click.echo(f"radera: {problem}", err=True)
        return 2
    ground = _open(config, checked=False)
    needed = ground.keys.generations().get(generation, 0)
    known = ground.generations.all().get(generation)
    if known is None and not needed:
        return _no(f"this database knows no generation {generation}, and no open key needs it")
    if known is not None and known.lost_at is not None:
        return _no(f"generation {generation} was declared lost on {iso(known.lost_at)}, by {known.lost_by}")
    if ground.keys.opens_any(generation) or ground.generations.holds(generation):
        return _no(f"generation {generation} is in the keyring, and is not lost")
    ground.generations.declare_lost(generation, by=declared_by, reason=reason)
    click.echo(
        f"generation {generation} is declared lost; {needed} open keys are concerned; the orchestrator asks "
        "the DPO about each open request among them"
    )
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


def _open(config: Path, *, checked: bool = True) -> Ground:
    ground = open_ground(config, checked=checked)
    for file in ground.keyring.beside:
        click.echo(f"radera: note: {file} lies beside the key file, and is left as it is", err=True)
    return ground


def _replaced(generations: Sequence[Generation], *, before: int) -> list[int]:
    """The generations that an earlier rotation replaced, at `before` or earlier."""
    return [
        old.number
        for old, following in pairwise(generations)
        if following.created_at is None or following.created_at <= before
    ]


def _needs(ground: Ground, patience: float) -> Needs:
    return what_needs_keys(
        ground.store,
        ground.bus,
        ground.keys,
        named=topics_of(ground.settings),
        workers=WORKERS,
        patience=patience,
        now=time.monotonic,
    )


def _said(needs: Needs, number: int) -> str:
    """Why a generation is needed."""
    keys, letters = needs.keys_of([number]), needs.letters_of([number])
    said = [f"unread records of {', '.join(needs.waiting)}"] if needs.waiting else []
    said += [f"{keys} open keys"] if keys else []
    said += [f"{letters} dead letters"] if letters else []
    return "; ".join(said)


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers)) or "none"


def _no(why: str) -> int:
    click.echo(f"radera: {why}", err=True)
    return 1


def _refused(why: str) -> int:
    click.echo(f"radera: nothing was changed: {why}, and rotate again.", err=True)
    return 1
