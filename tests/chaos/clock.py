"""A database whose machine's clock can be set, as somebody sets the time of a server.

libfaketime (Debian: `libfaketime`) stands before the C library in the server's processes alone. It changes
what the clock on the wall says, by what a file says, and leaves the steady clock as it is. Where it is not
installed, no clock is set, and the run says so.
"""

from collections.abc import Mapping
from pathlib import Path

_LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
_FILE = "clock"


def can_be_set() -> bool:
    """Whether this machine has what it takes."""
    return bool(_LIBRARIES)


def settable_clock(home: Path) -> Mapping[str, str]:
    """Return the variables for a server whose home this is."""
    file = home / _FILE
    file.write_text("+0")
    file.chmod(0o644)
    return {
        "LD_PRELOAD": str(_LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


def put_clock(variables: Mapping[str, str], seconds: float) -> None:
    """Has the server's clock say so many seconds more than it is."""
    Path(variables["FAKETIME_TIMESTAMP_FILE"]).write_text(f"{seconds:+.0f}")
