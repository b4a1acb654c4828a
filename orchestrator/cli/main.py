"""The command `radera`: the one place where everything is put together.

Commands load what they need when they run, so that `radera status` doesn't pay for a web server.
"""

import re
import sys
from datetime import timedelta
from pathlib import Path

import click

from orchestrator.cli.audit import audit
from orchestrator.cli.loading import loading
from orchestrator.cli.options import CONFIG
from orchestrator.cli.problems import problem


def _short_name(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """A name as messages carry it."""
    if value is not None and re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,79}", value) is None:
        raise click.BadParameter("not a short name; use lower-case letters, digits, '_', '-' and '.'")
    return value


class _Group(click.Group):
    """Turns whatever goes wrong into a clear line and an exit code, never a traceback."""

    def main(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]  # passes all of it on
        try:
            return super().main(*args, **kwargs)  # type: ignore[call-overload]  # click's own signature
        except Exception as error:
            lines, code = problem(error)
            for line in lines:
                click.echo(f"radera: {line}", err=True)
            sys.exit(code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="radera")
def main() -> None:
    """Erases a person's data from every system that holds it, and proves it (GDPR Art. 17)."""


@main.command()
@CONFIG
def up(config: Path) -> None:
    """Runs everything in this process: orchestrator, workers, mailbox, HTTP."""
    with loading():
        from orchestrator.cli.up import run

    sys.exit(run(config))


@main.command()
@CONFIG
def orchestrator(config: Path) -> None:
    """Runs the orchestrator alone: events, timers, outbox."""
    with loading():
        from orchestrator.cli.up import run

    sys.exit(run(config, ("orchestrator",)))


@main.command()
@CONFIG
@click.option("--systems", help="The systems to serve, with commas; all of them when left out.")
def worker(config: Path, systems: str | None) -> None:
    """Runs the handlers alone, for all systems or for those named."""
    with loading():
        from orchestrator.cli.up import run

    named = None if systems is None else [name.strip() for name in systems.split(",") if name.strip()]
    sys.exit(run(config, ("worker",), systems=named))


@main.command()
@CONFIG
def mailbox(config: Path) -> None:
    """Runs the mailbox alone: outcomes to mail."""
    with loading():
        from orchestrator.cli.up import run

    sys.exit(run(config, ("mailbox",)))


@main.command()
@CONFIG
def serve(config: Path) -> None:
    """Runs the HTTP side alone: answers, callbacks, health, metrics."""
    with loading():
        from orchestrator.cli.up import run

    sys.exit(run(config, ("serve",)))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Ends with one JSON document on standard output.")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("radera-demo"),
    show_default=True,
    help="Where the demonstration keeps its database and the mails; made anew each time.",
)
def demo(as_json: bool, directory: Path) -> None:
    """Shows requests being carried out against stand-ins for the vendors; ends by itself."""
    with loading():
        from orchestrator.cli.demo import run

    sys.exit(run(directory, as_json=as_json))


@main.command()
@CONFIG
@click.option("--email", multiple=True, help="An e-mail address of the person.")
@click.option("--phone", multiple=True, help="A telephone number of the person.")
@click.option("--name", multiple=True, help="The person's name.")
@click.option(
    "--ga-client-id", multiple=True, help="The value of the _ga cookie; VALUE@SITE for one site only."
)
@click.option("--customer-id", multiple=True, help="Our own id of the person.")
@click.option("--tenant-user-id", multiple=True, help="The person's id with a tenant.")
@click.option("--notice-to", multiple=True, help="The e-mail address that the person is told at, once.")
@click.option(
    "--id", "request_id", help="The request's id (UUID); a repeat of the same request keeps its id."
)
@click.option("--scope", multiple=True, help="A system to erase from; all of them when none is named.")
@click.option("--tenant", callback=_short_name, help="The tenant (controller) whose data it is.")
@click.option(
    "--capacity",
    type=click.Choice(["controller", "processor"]),
    default="controller",
    show_default=True,
    help="Whether the person turned to us (controller) or a controller did (processor).",
)
@click.option("--language", type=click.Choice(["en", "sv", "nb"]), help="The person's language.")
@click.option(
    "--unverified", is_flag=True, help="Nobody has verified the person's identity: the DPO is asked first."
)
@click.option("--received-at", type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]))
def submit(config: Path, **options: object) -> None:
    """Submits a request.

    Identifiers come by flag, or else (better: flags show in the list of processes) on standard input, one
    KIND=VALUE a line, with the flags' names as kinds.
    """
    with loading():
        from orchestrator.cli.submit import run

    sys.exit(run(config, options))


@main.command()
@CONFIG
@click.argument("request_id", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--all", "everything", is_flag=True, help="Finished requests, too.")
def status(config: Path, request_id: str | None, as_json: bool, everything: bool) -> None:
    """Shows one request, or the open ones."""
    with loading():
        from orchestrator.cli.status import run

    sys.exit(run(config, request_id, as_json=as_json, everything=everything))


@main.command()
@CONFIG
@click.argument("request_id")
def timeline(config: Path, request_id: str) -> None:
    """Shows what happened to a request, and verifies the chain that it hangs on."""
    with loading():
        from orchestrator.cli.status import run_timeline

    sys.exit(run_timeline(config, request_id))


@main.command()
@CONFIG
@click.argument("request_id")
@click.argument(
    "action", type=click.Choice(["verify", "retry", "erase", "waive", "extend", "reject", "cancel"])
)
@click.option("--escalation", help="The question it answers, as ID@VERSION; needed where several fit.")
@click.option("--reason", default="", help="Why; it stays on the record, so it must not name the person.")
@click.option(
    "--by",
    "decided_by",
    callback=_short_name,
    default="dpo",
    show_default=True,
    help="Who decides (a short name).",
)
def decide(
    config: Path, request_id: str, action: str, escalation: str | None, reason: str, decided_by: str
) -> None:
    """Decides on an escalation, or on the request as a whole."""
    with loading():
        from orchestrator.cli.decide import run

    sys.exit(run(config, request_id, action, escalation=escalation, reason=reason, decided_by=decided_by))


main.add_command(audit)


@main.group("config")
def config_group() -> None:
    """The settings."""


@config_group.command("check")
@CONFIG
def config_check(config: Path) -> None:
    """Reads the settings, and the secrets and certificates that they name, and says everything that is wrong
    with them.
    """
    with loading():
        from orchestrator.cli.assembly import load_settings
        from orchestrator.cli.secrets import unavailable
        from orchestrator.intake.errors import CannotListen
        from orchestrator.intake.tls import Tls
        from orchestrator.settings import ConfigError

    settings = load_settings(config)
    problems = unavailable(settings)
    if settings.opendsr is not None and settings.opendsr.mutual_tls is not None:
        try:
            Tls(settings.opendsr.mutual_tls)
        except CannotListen as error:
            problems.append(str(error))
    if problems:
        raise ConfigError([f"{config}: {one}" for one in problems])
    click.echo(f"{config}: all right; {len(settings.systems)} systems: {', '.join(settings.systems)}")


@main.group()
def systems() -> None:
    """The systems that hold data."""


@systems.command("check")
@CONFIG
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def systems_check(config: Path, names: tuple[str, ...], as_json: bool) -> None:
    """Tries each system, or those named: reachable, credentials, account, rights, control record.

    Nobody's data is touched. Exits with 1 if any fails.
    """
    with loading():
        from orchestrator.cli.systems import run

    sys.exit(run(config, names, as_json=as_json))


@main.group()
def dlq() -> None:
    """Records that could not be read or applied."""


@dlq.command("list")
@CONFIG
def dlq_list(config: Path) -> None:
    """Lists those that nobody has dealt with."""
    with loading():
        from orchestrator.cli.dlq import run_list

    sys.exit(run_list(config))


@dlq.command("show")
@CONFIG
@click.argument("name")
def dlq_show(config: Path, name: str) -> None:
    """Shows where one came from and why it is here; never what it holds."""
    with loading():
        from orchestrator.cli.dlq import run_show

    sys.exit(run_show(config, name))


@dlq.command("replay")
@CONFIG
@click.argument("name")
def dlq_replay(config: Path, name: str) -> None:
    """Sends one to its topic again, once what was wrong is mended."""
    with loading():
        from orchestrator.cli.dlq import run_replay

    sys.exit(run_replay(config, name))


@dlq.command("discard")
@CONFIG
@click.argument("name")
def dlq_discard(config: Path, name: str) -> None:
    """Says that nothing is to be done about one."""
    with loading():
        from orchestrator.cli.dlq import run_discard

    sys.exit(run_discard(config, name))


@main.group()
def db() -> None:
    """The database's tables."""


@db.command("upgrade")
@CONFIG
def db_upgrade(config: Path) -> None:
    """Makes the tables, or brings those of an older version to this one."""
    with loading():
        from orchestrator.cli.db import upgrade

    sys.exit(upgrade(config))


@db.command("current")
@CONFIG
def db_current(config: Path) -> None:
    """Shows which schema the database has; exits with 1 if it isn't this version's."""
    with loading():
        from orchestrator.cli.db import current

    sys.exit(current(config))


@main.group()
def keys() -> None:
    """The master keys."""


@keys.command("create")
@CONFIG
def keys_create(config: Path) -> None:
    """Makes the keyring of a new installation. On SQLite `radera up` does it by itself."""
    with loading():
        from orchestrator.cli.keys import create

    sys.exit(create(config))


@keys.command("public")
@CONFIG
def keys_public(config: Path) -> None:
    """Prints the public key that a producer outside seals requests to."""
    with loading():
        from orchestrator.cli.keys import public

    sys.exit(public(config))


@keys.command("lost")
@CONFIG
@click.argument("generation", type=click.IntRange(min=1, max=2**31 - 1))
@click.option("--reason", default="", help="Why; it stays on the record, so it must not name anybody.")
@click.option(
    "--by",
    "declared_by",
    callback=_short_name,
    default="dpo",
    show_default=True,
    help="Who declares it (a short name).",
)
def keys_lost(config: Path, generation: int, reason: str, declared_by: str) -> None:
    """Declares a master key lost that can't be put back; the DPO is asked about each request concerned."""
    with loading():
        from orchestrator.cli.keys import lost

    sys.exit(lost(config, generation, reason=reason, declared_by=declared_by))


@keys.command("rewrap")
@CONFIG
def keys_rewrap(config: Path) -> None:
    """Wraps the open requests' keys under the current master key, where others keep those."""
    with loading():
        from orchestrator.cli.keys import rewrap

    sys.exit(rewrap(config))


@keys.command("rotate")
@CONFIG
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    default=7,
    show_default=True,
    metavar="DAYS",
    help="Keep master keys for so long after they were replaced: producers may still seal to them. The one "
    "that is replaced now stays until the next rotation in any case.",
)
@click.option(
    "--lose-dead-letters", is_flag=True, help="Go on although dead letters can't be opened afterwards."
)
def keys_rotate(config: Path, keep: int, lose_dead_letters: bool) -> None:
    """Makes a new master key, wraps the open requests' keys again, destroys the old master keys."""
    with loading():
        from orchestrator.cli.keys import rotate

    sys.exit(rotate(config, keep=timedelta(days=keep), lose_dead_letters=lose_dead_letters))


@main.group()
def topics() -> None:
    """The topics on Kafka."""


@topics.command("check")
@CONFIG
def topics_check(config: Path) -> None:
    """Says how the topics differ from what the settings ask for, and changes nothing."""
    with loading():
        from orchestrator.cli.topics import check

    sys.exit(check(config))


@topics.command("apply")
@CONFIG
def topics_apply(config: Path) -> None:
    """Makes the topics that are missing, and says how the others differ."""
    with loading():
        from orchestrator.cli.topics import apply

    sys.exit(apply(config))


@main.command()
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), required=True)
@click.option("--port", type=click.IntRange(1, 65535), required=True)
def sandbox(directory: Path, port: int) -> None:
    """Runs the stand-ins for the vendors on this machine, for trying things out and for tests."""
    with loading():
        from orchestrator.cli.demo import run_sandbox

    sys.exit(run_sandbox(directory, port))
