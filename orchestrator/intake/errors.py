"""What can go wrong before anything is served."""


class CannotListen(Exception):
    """The address can't be listened on; the text says which and what to do."""
