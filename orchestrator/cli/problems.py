"""What a command says when it can't go on: lines that name the mend, and an exit code.

* 2 says that what was given is wrong (a flag, the settings), 1 that something around us is (a database, a
  key file, a port).
* A traceback is for nobody: it can quote whatever was being handled. A fault of ours is told by its type and
  by the line of ours where it came up.
"""

from orchestrator import log


class NoInstallation(Exception):
    """There is nothing yet to be looked at; the text says what makes it."""


def problem(error: Exception) -> tuple[list[str], int]:
    """The lines and the exit code for an error that nobody has dealt with."""
    # A command loads what it needs, and its errors with that; most end without one.
    from sqlalchemy.exc import SQLAlchemyError

    from orchestrator.bus.kafka_owner import BusOfAnother, BusUnclaimed
    from orchestrator.bus.port import BusUnavailable
    from orchestrator.intake.errors import CannotListen
    from orchestrator.privacy.errors import PrivacyError
    from orchestrator.secret import SecretUnavailable
    from orchestrator.settings import ConfigError
    from orchestrator.store import StoreError

    match error:
        case ConfigError():
            return error.problems, 2
        case BusUnavailable(__cause__=StoreError() as cause):
            return [str(cause)], 1
        case PrivacyError() | StoreError() | BusUnavailable() | CannotListen() | SecretUnavailable():
            return [str(error)], 1
        case NoInstallation() | BusOfAnother() | BusUnclaimed():
            return [str(error)], 1
        case SQLAlchemyError():
            kind = type(error).__name__
            return [f"the database refused ({kind}); is it one of Radera's, and of this version?"], 1
        case OSError(filename=str() as name) if error.strerror:
            return [f"{name}: {error.strerror}; see to its rights, or name another place"], 1
        case _:
            told = log.describe(error)
            at = f" at {told['lines'][-1]}" if "lines" in told else ""
            return [f"a fault in Radera: {told['type']}{at}; nothing personal is in this line, report it"], 1
