"""`radera up`: everything in one process, until a signal says stop."""

import logging
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

import click

from orchestrator import log
from orchestrator.cli.assembly import ground_of, load_settings
from orchestrator.cli.roles import Roles

_logger = logging.getLogger(__name__)


def run(config: Path) -> int:
    """Runs until SIGTERM or SIGINT (0), or until an error that nothing here can mend (1)."""
    settings = load_settings(config)
    log.configure(settings.log.level, settings.log.format)
    stop = threading.Event()
    fatal: list[Exception] = []

    def on_signal(number: int, _: FrameType | None) -> None:
        stop.set()

    def on_fatal(error: Exception) -> None:
        fatal.append(error)
        stop.set()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    roles = Roles(ground_of(settings), on_fatal=on_fatal)
    roles.start()
    click.echo(f"radera: up, http://{settings.http.host}:{settings.http.port}", err=True)
    # A bare wait() would not be interrupted by a signal that another thread got.
    while not stop.wait(0.5):
        pass
    ended = roles.stop()
    _logger.info("stopped", extra={"code": "clean" if ended else "cut_short"})
    for error in fatal:
        click.echo(f"radera: {error}", err=True)
    sys.stderr.flush()
    return 1 if fatal or not ended else 0
