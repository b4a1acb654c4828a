"""Stateful stand-ins for the vendors: see README.md beside this file."""

from handlers.sandbox.core import Sandbox
from handlers.sandbox.courier import Deliver
from handlers.sandbox.faults import Fault
from handlers.sandbox.seeds import Seed

__all__ = ["Deliver", "Fault", "Sandbox", "Seed"]
