"""Logs that can be kept for years: one JSON object a line, and no personal data in any.

* A record says what happened by a stable name: `logger.info("mail_sent", extra={"request_id": ...})`. Its
  `action` is that name, or `extra["action"]` where the message is a sentence.
* Only the fields in `FIELDS` are written, and of text only what looks like an id or a name: characters that
  leave little room for an address, a phone number or a sentence. What is left out is named in `dropped`.
* A message's arguments are never put into it. Messages are fixed text, or else they could quote data.
* An exception is its type, its `code` and the lines of ours that it passed through. Its text stays out:
  vendors, drivers and parsers quote what they were given.
* Other people's loggers are heard from WARNING on, by name and level only, for the same reason.
"""

import json
import logging
import re
import sys
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO

from typing_extensions import override

#: What a record may carry besides `at`, `level`, `action`, `message` and `error`.
FIELDS = frozenset(
    {
        "attempt",
        "bytes",
        "code",
        "correlation",
        "count",
        "end",
        "event_id",
        "failures",
        "file",
        "generation",
        "group",
        "host",
        "kind",
        "left",
        "method",
        "offset",
        "partition",
        "port",
        "reason",
        "request_id",
        "role",
        "seconds",
        "status",
        "system",
        "systems",
        "tenant",
        "topic",
        "topics",
        "type",
        "until",
        "verb",
        "version",
    }
)

_OURS = ("orchestrator", "handlers", "schemas", "radera", "__main__")
_ROOT = Path(__file__).resolve().parents[1]
_PACKAGES = ("orchestrator", "handlers", "schemas")
_ACTION = re.compile(r"[a-z0-9][a-z0-9_.-]{0,79}")
_VALUE = re.compile(r"[A-Za-z0-9:._/-]{0,200}")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"action", "message", "asctime", "taskName"}
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

_logger = logging.getLogger(__name__)


def configure(
    level: Literal["debug", "info", "warning", "error"] = "info",
    format: Literal["auto", "json", "text"] = "auto",  # noqa: A002 - the setting's name
    stream: TextIO | None = None,
) -> None:
    """Sends every record of the process to `stream` (stderr) through the rules above, and nowhere else.

    Errors that nobody caught go the same way, since Python would print their text.
    """
    stream = sys.stderr if stream is None else stream
    people = format == "text" or (format == "auto" and stream.isatty())
    handler = _Handler(stream)
    handler.addFilter(_worth_writing)
    handler.setFormatter(_ForPeople() if people else _ForMachines())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(_LEVELS[level])
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


class _Handler(logging.StreamHandler[TextIO]):
    """Writes a line, or nothing."""

    @override
    def handleError(self, record: logging.LogRecord) -> None:
        """The standard one prints the record's arguments to stderr."""


def _is_ours(name: str) -> bool:
    return name.partition(".")[0] in _OURS


def _worth_writing(record: logging.LogRecord) -> bool:
    return _is_ours(record.name) or record.levelno >= logging.WARNING


def _plain(value: object) -> bool:
    if value is None or isinstance(value, bool | int | float):
        return True
    if isinstance(value, str):
        return _VALUE.fullmatch(value) is not None
    return isinstance(value, tuple | list) and all(_plain(inner) for inner in value)


def entry(record: logging.LogRecord) -> dict[str, Any]:
    """What is written of a record, in order."""
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line: dict[str, Any] = {"at": at, "level": record.levelname.lower()}
    if not _is_ours(record.name):
        line |= {"action": "third_party", "logger": record.name}
    else:
        line |= _said(record)
    if record.exc_info and record.exc_info[1] is not None:
        line["error"] = describe(record.exc_info[1])
    return line


def _said(record: logging.LogRecord) -> dict[str, Any]:
    said: dict[str, Any] = {}
    message = record.msg if isinstance(record.msg, str) else ""
    action = vars(record).get("action")
    if isinstance(action, str) and _ACTION.fullmatch(action):
        said["action"] = action
        if message and message != action:
            said["message"] = message
    elif _ACTION.fullmatch(message):
        said["action"] = message
    else:
        said |= {"action": "unnamed", "message": message}
    given = {name: value for name, value in vars(record).items() if name not in _STANDARD}
    kept = {name: value for name, value in given.items() if name in FIELDS and _plain(value)}
    said |= {name: value for name, value in kept.items() if value is not None}
    dropped = sorted(given.keys() - kept.keys())
    if dropped:
        said["dropped"] = dropped
    return said


def describe(error: BaseException) -> dict[str, Any]:
    """An error without its text: type, code, our lines that it passed (innermost last), and its cause."""
    told: dict[str, Any] = {"type": f"{type(error).__module__}.{type(error).__qualname__}"}
    code = getattr(error, "code", None)
    if isinstance(code, str) and _ACTION.fullmatch(code):
        told["code"] = code
    frames = list(_our_lines(error.__traceback__))
    if frames:
        told["lines"] = frames[-20:]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and cause is not error:
        told["from"] = f"{type(cause).__module__}.{type(cause).__qualname__}"
    return told


def _our_lines(traceback: TracebackType | None) -> list[str]:
    lines = []
    while traceback is not None:
        path = Path(traceback.tb_frame.f_code.co_filename)
        if path.is_relative_to(_ROOT) and path.relative_to(_ROOT).parts[0] in _PACKAGES:
            lines.append(f"{path.relative_to(_ROOT).as_posix()}:{traceback.tb_lineno}")
        traceback = traceback.tb_next
    return lines


class _ForMachines(logging.Formatter):
    """One JSON object a line."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(entry(record), ensure_ascii=True, separators=(",", ":"))


class _ForPeople(logging.Formatter):
    """The same facts, on a line to be read in a terminal, in the terminal's own time."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line = entry(record)
        clock = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        head = f"{clock} {line['level']:<7} {line['action']}"
        rest = [_pair(name, value) for name, value in line.items() if name not in ("at", "level", "action")]
        return " ".join([head, *rest])


def _pair(name: str, value: object) -> str:
    if name == "message":
        return f"- {json.dumps(value, ensure_ascii=True)[1:-1]}"
    if isinstance(value, Mapping):
        return " ".join(_pair(f"{name}.{inner}", it) for inner, it in value.items())
    if isinstance(value, list | tuple):
        return f"{name}={','.join(str(inner) for inner in value)}"
    return f"{name}={value}"


def _uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    _logger.error("uncaught", exc_info=(kind, error, traceback))


def _uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None:
        _uncaught(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
