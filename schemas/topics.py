"""The topics, by name.

One commands and one callbacks topic for each handler kind, so that one slow vendor holds up nobody else.
Separate topics let ACLs say who may write what: intake writes only requests, a worker only confirmations.
"""

REQUESTS = "erasure.requests.v1"
CONFIRMATIONS = "erasure.confirmations.v1"
DECISIONS = "erasure.decisions.v1"
OUTCOMES = "erasure.outcomes.v1"
#: One record, which says whose installation this Kafka is.
INSTALLATION = "erasure.installation.v1"


def commands(kind: str) -> str:
    """The topic of commands for a handler kind, such as "hubspot"."""
    return f"erasure.commands.{kind}.v1"


def callbacks(kind: str) -> str:
    """The topic of callbacks (webhooks, answers from parties) for a handler kind."""
    return f"erasure.callbacks.{kind}.v1"


def dead_letters(topic: str) -> str:
    """Where records of `topic` go that nobody can read."""
    return f"{topic}.dlq"


def is_ours(topic: str) -> bool:
    """Whether the topic could be one of these: another application's may lie beside ours."""
    return topic.startswith("erasure.") and topic.removesuffix(".dlq").endswith(".v1")


def is_of_callbacks(topic: str) -> bool:
    """Whether `callbacks` could have named the topic."""
    return is_ours(topic) and topic.startswith("erasure.callbacks.") and not is_of_dead_letters(topic)


def kind_of_callbacks(topic: str) -> str | None:
    """Return the kind whose callbacks the topic carries; None where it carries none."""
    if not is_of_callbacks(topic):
        return None
    return topic.removeprefix("erasure.callbacks.").removesuffix(".v1")


def is_of_dead_letters(topic: str) -> bool:
    """Whether `dead_letters` could have named the topic."""
    return is_ours(topic) and topic.endswith(".dlq")
