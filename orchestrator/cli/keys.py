"""`radera keys rotate`: a new master key, and the end of the old ones.

In this order, so that a crash anywhere loses nothing: the new generation is on the disk; every open
request's key is wrapped again and committed; the old generations are destroyed. From then on a backup of
the database made before opens nothing.
"""

from pathlib import Path

import click

from orchestrator.cli.assembly import open_ground


def rotate(config: Path) -> int:
    """Rotates; 1 if a key could not be wrapped again, in which case the old generations are kept."""
    ground = open_ground(config)
    fresh = ground.keyring.rotate(ground.store.now())
    done = ground.keys.rewrap()
    if done.unreadable:
        listed = ", ".join(done.unreadable)
        click.echo(
            f"radera: the keys of these requests can't be read, so the old master keys were kept: {listed}. "
            "Put back the keyring they were made with, and rotate again.",
            err=True,
        )
        return 1
    old = [one.number for one in ground.keyring.generations if one.number != fresh.number]
    in_use = [number for number in old if number in ground.keys.generations()]
    ground.keyring.forget([number for number in old if number not in in_use], ground.store.now())
    ground.keys.shred()
    click.echo(
        f"generation {fresh.number} is current; {done.count} open keys wrapped again; "
        f"destroyed: {', '.join(str(n) for n in old if n not in in_use) or 'none'}"
    )
    return 0
