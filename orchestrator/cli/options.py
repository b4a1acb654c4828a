"""The options that most commands share."""

from pathlib import Path

import click

CONFIG = click.option(
    "--config",
    "-c",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("radera.toml"),
    envvar="RADERA_CONFIG",
    show_default=True,
    show_envvar=True,
    help="The settings file.",
)
