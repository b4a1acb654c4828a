"""What can go wrong between a message and its bytes.

None of these errors quotes the payload, not even in its cause: the bytes may be anything, a person's data
included. The docstring is the message; what is particular to the case follows it.
"""


class CodecError(Exception):
    """A message could not be turned into bytes, or bytes into a message."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        said = self.__doc__ or type(self).__name__  # python -OO takes the docstrings away
        super().__init__(f"{' '.join(said.split())} {detail}")


class UnknownSchema(CodecError):
    """The message was written with a schema that we don't have or can't read.

    Upgrade the readers before the writers, or mend the registry.
    """


class MalformedMessage(CodecError):
    """The bytes are not a message of the type that this topic carries. Its producer is at fault."""


class MessageTooLarge(MalformedMessage):
    """The message is larger than any of ours may be. Its producer is at fault."""


class UnfitMessage(CodecError):
    """The message does not fit its own schema, which is our fault.

    Build messages by their constructor, never by model_construct or model_copy.
    """
