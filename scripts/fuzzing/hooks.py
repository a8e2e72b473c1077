"""Hooks of schemathesis: the caller's token, ids of somebody else, and a check that these bring nothing."""

import atexit
import collections
import json
import os
import random
import sys
from pathlib import Path

import schemathesis

sys.path.insert(0, str(Path(__file__).parent))
from api import BARCODE, Api  # noqa: E402

STATE = json.loads(Path(os.environ["FUZZ_STATE"]).read_text())
CALLER = os.environ["FUZZ_CALLER"]
API = Api(STATE["base"])
OWN, OTHER = STATE["own"], STATE["other"]

# How often an id is replaced by that of the other person, and by the caller's own.
OTHER_ID, OWN_ID = 0.3, 0.4

# Texts that only the other person and operators may see.
PRIVATE = [OTHER["email"], OTHER["mac_address"], OTHER["order_id"], OTHER["key_id"], OTHER["session_id"]]


def token():
    if CALLER == "person":
        # A request may have changed the address.
        operator = API.exchange("operator", STATE["clients"]["operator"])
        email = API.call("GET", f"/api/users/{OWN['user_id']}", operator)["email"]
        return API.sign_in({**OWN, "email": email})
    if CALLER == "device":
        return API.exchange(f"ssd-{OWN['ssd_id']}", OWN["key"])
    if CALLER in ("generator", "operator"):
        return API.exchange(CALLER, STATE["clients"][CALLER])
    return None


# How often each status was seen, to see that the caller gets beyond the door.
STATUSES = collections.Counter()
atexit.register(lambda: print("statuses:", dict(sorted(STATUSES.items()))))


@schemathesis.hook
def after_call(context, case, response):
    STATUSES[response.status_code] += 1


# Requests may end the session of the caller, so the token is renewed often.
@schemathesis.auth(refresh_interval=20)
class Token:
    def get(self, case, context):
        return token() or "none"

    def set(self, case, data, context):
        if data != "none":
            case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}


def id_of(person, path, name):
    """The id that a parameter of this name means in a path."""
    if name in ("ssd_id", "user_id"):
        return person[name]
    if name != "id":
        return None
    for part, field in (("/users/", "user_id"), ("/orders/", "order_id"), ("/sessions/", "session_id"), ("/keys/", "key_id")):
        if part in path:
            return person.get(field)
    return None


def replace(values, path):
    draw = random.random()
    person = OTHER if draw < OTHER_ID else OWN if draw < OTHER_ID + OWN_ID else None
    if person is None or not isinstance(values, dict):
        return
    for name in values:
        replacement = id_of(person, path, name)
        if replacement is not None:
            values[name] = replacement
        elif name == "barcode":
            values[name] = BARCODE


@schemathesis.hook
def before_call(context, case, kwargs):
    path = case.operation.path
    for values in (case.path_parameters, case.query, case.body):
        replace(values, path)


def names_other(case):
    path = case.operation.path
    for values in (case.path_parameters, case.query, case.body):
        if isinstance(values, dict):
            for name, value in values.items():
                other = id_of(OTHER, path, name)
                if other is not None and str(value) == str(other):
                    return True
    return False


@schemathesis.check
def no_rate_limit(context, response, case):
    """The rate limits of the gateway are off, so that every request gets through."""
    if response.status_code == 429 and response.json().get("code") == "rate_limited":
        raise AssertionError("start the system without rate limits, see scripts/fuzz")


@schemathesis.check
def nothing_of_others(context, response, case):
    """Data of somebody else is neither readable nor changeable, and looks as if it did not exist."""
    if CALLER == "operator":
        return
    seen = [text for text in PRIVATE if text in response.text]
    # The answer may repeat what the request had.
    sent = json.dumps([case.path_parameters, case.query, case.body, case.headers], default=str)
    seen = [text for text in seen if text not in sent]
    if seen:
        raise AssertionError(f"{CALLER} sees {seen} of somebody else")
    if not names_other(case) or not 200 <= response.status_code < 300:
        return
    # A filter by somebody else's device finds nothing.
    found = response.json() if response.content else None
    is_empty_list = case.method == "GET" and isinstance(found, dict) and not any(found.values())
    if not is_empty_list:
        raise AssertionError(f"{CALLER} reaches somebody else's data: {response.status_code} {response.text[:500]}")
