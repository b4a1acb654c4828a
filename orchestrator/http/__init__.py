"""Outgoing HTTP: one client with the rules built in (`client`), a guard for addresses from outside
(`guard`), a breaker for each system (`breaker`), and what the answers prove (`calls`).
"""

from orchestrator.http.breaker import Breaker, State
from orchestrator.http.calls import Calls, recorded
from orchestrator.http.client import Answer, Client, Limits
from orchestrator.http.credentials import Authority, StaticAuthority
from orchestrator.http.errors import CIRCUIT_OPEN, CallFailed, Expired, NotAsked, Permanent, Permit, Retryable
from orchestrator.http.factory import Clients
from orchestrator.http.guard import Guard, GuardedTransport
from orchestrator.http.sending import about_to_send
from orchestrator.http.tracing import in_trace

__all__ = [
    "CIRCUIT_OPEN",
    "Answer",
    "Authority",
    "Breaker",
    "CallFailed",
    "Calls",
    "Client",
    "Clients",
    "Expired",
    "Guard",
    "GuardedTransport",
    "Limits",
    "NotAsked",
    "Permanent",
    "Permit",
    "Retryable",
    "State",
    "StaticAuthority",
    "about_to_send",
    "in_trace",
    "recorded",
]
