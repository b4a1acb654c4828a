"""Outgoing HTTP: one client with the rules built in (`client`), a guard for addresses from outside
(`guard`).
"""

from orchestrator.http.client import Answer, Authority, Client, Limits, StaticAuthority
from orchestrator.http.errors import CallFailed, Expired, Permanent, Permit, Retryable
from orchestrator.http.factory import Clients
from orchestrator.http.guard import Guard, GuardedTransport
from orchestrator.http.tracing import in_trace

__all__ = [
    "Answer",
    "Authority",
    "CallFailed",
    "Client",
    "Clients",
    "Expired",
    "Guard",
    "GuardedTransport",
    "Limits",
    "Permanent",
    "Permit",
    "Retryable",
    "StaticAuthority",
    "in_trace",
]
