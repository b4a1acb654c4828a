"""The trace that a request belongs to, carried from hop to hop after W3C Trace Context.

* What is kept of a `traceparent` is its trace id and flags. Each message and each call that follows names the
  same trace and a parent of its own, derived from what the message is: a repeat has the same one.
* One that is malformed, or of a future version that can't be read as this one, counts as none. `tracestate`
  is not carried: it is free text.

Source: W3C Trace Context, section 3.2, "Traceparent Header".
"""

import hashlib
import re

HEADER = "traceparent"
_FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
#: Of the flags, those that this version knows: sampled, and that the id is random.
_FLAGS = 0b11


def trace_of(header: bytes | None) -> str | None:
    """The trace as it is kept, `<trace id>-<flags>`; None where the header names none."""
    found = None if header is None or len(header) > 512 else _FORM.fullmatch(header)
    if found is None:
        return None
    version, trace, parent, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    if not trace.strip(b"0") or not parent.strip(b"0"):
        return None
    return f"{trace.decode()}-{int(flags, 16) & _FLAGS:02x}"


def traceparent(trace: str, hop: str) -> str:
    """The header of one hop of a trace; `hop` is what tells it from the others, an event's id say."""
    trace_id, _, flags = trace.partition("-")
    parent = hashlib.sha256(f"{trace_id}/{hop}".encode()).hexdigest()[:16]
    return f"00-{trace_id}-{parent if parent.strip('0') else '1'.zfill(16)}-{flags}"
