"""What a dead letter says of itself, whoever leaves it.

The payload is sealed by whoever leaves it; the headers say why it is here and where it came from, and carry
on how often it was sent
again: a letter that comes back a second time must not pass for the first.
"""

from orchestrator.bus.port import Delivery, Headers

#: The header of a dead letter that was sent again: how often.
REPLAYED = "radera-attempt"


def dead_letter_headers(delivery: Delivery, code: str) -> Headers:
    """The headers of the dead letter for a delivery that failed with `code`."""
    place = {"topic": delivery.topic, "partition": delivery.partition, "offset": delivery.offset}
    again = delivery.header(REPLAYED)
    return (
        ("radera-code", code.encode()),
        *((f"radera-{name}", str(value).encode()) for name, value in place.items()),
        *(((REPLAYED, again),) if again is not None else ()),
    )
