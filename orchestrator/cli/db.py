"""`radera db`: the database's tables, and bringing them to this version.

On a server this is run as the owner of the tables, which no role is: `RADERA_DATABASE__URL` gives the
owner's address for the one command.
"""

from pathlib import Path

import click
from sqlalchemy.engine import make_url

from orchestrator.cli.assembly import load_settings
from orchestrator.store import migrations
from orchestrator.store.engine import database_name
from orchestrator.store.tables import REVISION


def upgrade(config: Path) -> int:
    """Applies what is missing. Raises one of `store.errors`, and then nothing was changed."""
    database = load_settings(config).database
    url = database.url
    done = migrations.upgrade(url, password=database.password)
    name = database_name(make_url(url))
    if done.before == done.after:
        click.echo(f"{name}: schema {done.after}; nothing to do")
    else:
        click.echo(f"{name}: from schema {done.before or 'none'} to {done.after}")
    return 0


def current(config: Path) -> int:
    """Says where the database is; 1 if that is not where this version has to have it."""
    database = load_settings(config).database
    url = database.url
    found = migrations.current(url, password=database.password)
    click.echo(f"{database_name(make_url(url))}: schema {found or 'none'}; this version needs {REVISION}")
    return 0 if found == REVISION else 1
