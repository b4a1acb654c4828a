"""Google Analytics: a service account's token, the property's name, and user deletions.

    /google/token                                            the token endpoint
    /google/v1alpha/properties/{id}                          GET, to see which property this is
    /google/v1alpha/properties/{id}:submitUserDeletion       POST

The rules that matter to an erasure:

* Exactly one of `userId`, `clientId`, `appInstanceId`, `userProvidedData`; another field is refused.
* The answer is the same whether anybody was known by that id or not: `deletionRequestTime`. Nothing can
  be looked up.
* `userProvidedData` that isn't normalised the way Google asks matches nobody and is accepted all the
  same, which is our assumption: only what is neither an address nor a number is refused.
* `daily_quota` deletions a day for a property (Google's day: midnight in California); then 429 until the
  next.
* Data leaves at `purge` after the request.

The stand-in keeps a visitor's client id as Google would, and calls the visitor by a number in the
ledger.
"""

import re
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

from handlers.sandbox.faults import google_error
from handlers.sandbox.signing import read_jwt
from handlers.sandbox.store import Row, Store, normal
from handlers.sandbox.web import Call, Refusal, Reply, document, moment

VENDOR = "google"
VISITOR = "google.visitor"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
EDIT = "https://www.googleapis.com/auth/analytics.edit"
AUDIENCE = "https://oauth2.googleapis.com/token"
FIELDS = {
    "userId": "user_id",
    "clientId": "client_id",
    "appInstanceId": "app_instance_id",
    "userProvidedData": "provided",
}
EMAIL = re.compile(r"^\S+@\S+$")
PHONE = re.compile(r"^\+\d{7,15}$")
PACIFIC = ZoneInfo("America/Los_Angeles")
LIFE = 3600
ELSEWHERE = "999999999"


def refused(status: int, reason: str, message: str) -> Refusal:
    return Refusal(google_error(status, reason, message=message))


class Google:
    def __init__(self, store: Store) -> None:
        self._store = store

    def answer(self, call: Call) -> Reply:
        match call.method, list(call.segments):
            case "POST", ["token"]:
                return self._token(call)
            case "GET", ["v1alpha" | "v1beta", "properties", number]:
                shown = self._property(call, number)
                identity = ELSEWHERE if call.elsewhere else number
                name = "elsewhere" if call.elsewhere else shown["name"]
                return document(
                    200,
                    {"name": f"properties/{identity}", "displayName": name, "timeZone": "Europe/Stockholm"},
                )
            case "POST", ["v1alpha", "properties", named] if named.endswith(":submitUserDeletion"):
                return self._submit(call, self._property(call, named.partition(":")[0]))
        raise refused(404, "notFound", "No such method.")

    def _token(self, call: Call) -> Reply:
        form = {name: values[0] for name, values in parse_qs(call.body.decode("utf-8", "replace")).items()}
        if form.get("grant_type") != GRANT:
            return self._no_grant(
                "unsupported_grant_type", "The grant type is not that of a signed assertion."
            )
        unchecked = read_jwt(form.get("assertion", ""), None)
        account = self._store.get("google.service_account", str((unchecked or {}).get("iss")))
        if unchecked is None or account is None:
            return self._no_grant("invalid_grant", "Not a valid assertion of a known service account.")
        claims = read_jwt(form["assertion"], account["public_key"])
        if claims is None:
            return self._no_grant("invalid_grant", "Invalid JWT signature.")
        now = call.now // 1_000_000
        issued, ends = claims.get("iat"), claims.get("exp")
        if not isinstance(issued, int) or not isinstance(ends, int) or issued > now + 120 or now >= ends:
            return self._no_grant(
                "invalid_grant", "The token must be short-lived and in a reasonable timeframe."
            )
        if ends - issued > LIFE:
            return self._no_grant("invalid_grant", "The token must live for an hour at most.")
        if claims.get("aud") not in (AUDIENCE, f"{call.origin}/google/token"):
            return self._no_grant("invalid_grant", "The audience is not the token endpoint.")
        if EDIT not in str(claims.get("scope", "")).split():
            return self._no_grant("invalid_scope", "The scope does not allow deletions.")
        token = f"ya29.sandbox{self._store.number('google.token'):08d}"
        ends_at = call.now + LIFE * 1_000_000
        self._store.put("google.token", token, {"id": token, "account": account["id"], "ends_at": ends_at})
        return document(200, {"access_token": token, "expires_in": LIFE - 1, "token_type": "Bearer"})

    def _no_grant(self, error: str, description: str) -> Reply:
        return document(400, {"error": error, "error_description": description})

    def _property(self, call: Call, number: str) -> Row:
        scheme, _, token = call.headers.get("authorization", "").partition(" ")
        held = self._store.get("google.token", token) if scheme.lower() == "bearer" else None
        if held is None or held["ends_at"] <= call.now:
            raise refused(401, "authError", "Request had invalid authentication credentials.")
        account = self._store.get("google.service_account", held["account"])
        shown = self._store.get("google.property", number)
        allowed = account["properties"] if account else []
        if shown is None or call.blind or (allowed is not None and number not in allowed):
            raise refused(403, "forbidden", "User does not have sufficient permissions for this property.")
        return shown

    def _submit(self, call: Call, shown: Row) -> Reply:
        if call.elsewhere:  # the address names a property, and another account has no rights to it
            raise refused(403, "forbidden", "User does not have sufficient permissions for this property.")
        asked = call.json()
        if asked is None or set(asked) - set(FIELDS):
            raise refused(400, "badRequest", "Invalid JSON payload received: unknown name.")
        given = {name: value for name, value in asked.items() if value not in (None, "")}
        if len(given) != 1 or not all(isinstance(value, str) for value in given.values()):
            raise refused(400, "badRequest", "Exactly one user identifier must be set.")
        (name, value), *_ = given.items()
        if name == "userProvidedData" and not (EMAIL.match(value) or PHONE.match(value)):
            raise refused(
                400, "badRequest", "userProvidedData is neither an email address nor a phone number."
            )
        self._spend(call, shown)
        self._mark(call, shown, FIELDS[name], value)
        return document(200, {"deletionRequestTime": call.stamp(call.now)})

    def _spend(self, call: Call, shown: Row) -> None:
        day = moment(call.now).astimezone(PACIFIC).date().isoformat()
        spent = shown["spent"] if shown["day"] == day else 0
        if spent >= shown["daily_quota"]:
            raise Refusal(google_error(429, "quota", message="Daily limit of user deletions exhausted."))
        self._store.put("google.property", shown["id"], {**shown, "day": day, "spent": spent + 1})

    def _mark(self, call: Call, shown: Row, field: str, value: str) -> None:
        candidates = self._store.concerning(VISITOR, normal(value))
        found = [row for row in candidates if row["account"] == shown["id"] and value in row[field]]
        account = shown["id"]
        for row in found:
            repeated = row["submitted_at"] is not None
            if not repeated:
                due_at = call.now + shown["purge"]
                self._store.put(VISITOR, row["id"], {**row, "submitted_at": call.now})
                self._store.later(due_at, "google.purge", visitor=row["id"])
            self._store.note(
                call.now, VENDOR, account, "deletion_submitted", record=row["id"], repeated=repeated
            )
        if not found:
            self._store.note(call.now, VENDOR, account, "deletion_submitted")

    def purge(self, visitor: str, now: int) -> None:
        row = self._store.get(VISITOR, visitor)
        if row is not None:
            self._store.drop(VISITOR, visitor)
            self._store.note(now, VENDOR, row["account"], "visitor_purged", record=visitor)
