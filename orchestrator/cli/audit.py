"""`radera audit`: what has ended, looked at again by today's rules."""

import json
import sys
from collections.abc import Collection
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from orchestrator.cli.loading import loading
from orchestrator.cli.options import CONFIG

_WHAT_TO_DO = """
The evidence of these is weaker than it was reported to be. Whether data is left, nothing shows.
Their keys are destroyed, so that Radera can't look again. For each of them, note this in your records, or
have the erasure requested anew under a new id. More is in deploy/README.md, "What has ended already"."""


@click.group()
def audit() -> None:
    """What has ended, looked at again by today's rules."""


@audit.command()
@CONFIG
@click.option(
    "--fault", "only", multiple=True, metavar="FAULT", help="List this fault alone; may be repeated."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def recheck(config: Path, only: tuple[str, ...], as_json: bool) -> None:
    """Lists ended requests whose evidence would no longer suffice, with the fault and the date of the end.

    It changes nothing. Exits with 1 if it lists any, or if a request can't be read.
    """
    with loading():
        from orchestrator.service.recheck import FAULTS

    unknown = sorted({*only} - FAULTS.keys())
    if unknown:
        raise click.BadParameter(f"there is no fault {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    sys.exit(_run(config, only or FAULTS, as_json=as_json))


def _run(config: Path, wanted: Collection[str], *, as_json: bool) -> int:
    from rich.console import Console
    from rich.table import Table

    from orchestrator.cli.assembly import load_settings, open_store
    from orchestrator.cli.report import iso
    from orchestrator.saga.clocks import moment
    from orchestrator.service.recheck import FAULTS, Fault, faults_of
    from orchestrator.store import BrokenDocument

    store = open_store(config)
    zone = ZoneInfo(load_settings(config).installation.time_zone)
    found: list[Fault] = []
    broken: list[str] = []
    examined = 0
    for saga in store.ended(broken):
        examined += 1
        entries = store.timeline(saga.request_id)
        found += [one for one in faults_of(saga, entries) if one.fault in wanted]
    for request_id in broken:
        click.echo(f"radera: {BrokenDocument(request_id=request_id)}", err=True)
    if as_json:
        rows = [
            {
                "request_id": one.request_id,
                "system": one.system,
                "fault": one.fault,
                "meaning": FAULTS[one.fault],
                "ended_at": iso(one.ended_at),
            }
            for one in found
        ]
        click.echo(json.dumps(rows, indent=2))
        return int(bool(found or broken))
    console = Console(width=None if sys.stdout.isatty() else 200)
    table = Table("request", "system", "fault", "ended")
    for one in found:
        ended = moment(one.ended_at).astimezone(zone).date().isoformat()
        table.add_row(one.request_id, one.system or "(the request)", one.fault, ended)
    if found:
        console.print(table)
    for fault in FAULTS:
        if any(one.fault == fault for one in found):
            console.print(f"{fault}: {FAULTS[fault]}", highlight=False)
    listed = len({one.request_id for one in found})
    click.echo(f"{examined} ended requests examined, {listed} to look at. Nothing was changed.")
    if found:
        click.echo(_WHAT_TO_DO)
    return int(bool(found or broken))
