"""`python -m handlers.sandbox --directory D --port P`: the vendors' stand-ins on loopback."""

import json
from pathlib import Path
from typing import Any

import anyio
import click

from handlers.sandbox.server import say_ready, serve


@click.command()
@click.option(
    "--directory", type=click.Path(path_type=Path), help="Where everything is kept; memory without it."
)
@click.option("--port", type=int, default=0, show_default="any free one")
@click.option("--smtp-port", type=int, help="Catches mail on this port, too (0: any free one).")
@click.option(
    "--smtp-tls/--no-smtp-tls", default=False, help="Requires STARTTLS, with a certificate made for the run."
)
@click.option(
    "--seed", "seed_file", type=click.Path(exists=True, path_type=Path), help="A JSON file of seeds."
)
def main(
    directory: Path | None, port: int, smtp_port: int | None, smtp_tls: bool, seed_file: Path | None
) -> None:
    """Serves the stand-ins until interrupted."""
    seed: dict[str, Any] | None = None if seed_file is None else json.loads(seed_file.read_text())

    async def run() -> None:
        await serve(directory, port=port, smtp_port=smtp_port, smtp_tls=smtp_tls, seed=seed, ready=say_ready)

    anyio.run(run)


if __name__ == "__main__":
    main()
