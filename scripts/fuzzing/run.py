"""Registers people, and runs schemathesis on each document as each kind of caller. See scripts/fuzz."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from api import BARCODE, Api

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
DOCUMENTS = ["auth", "users", "orders", "billing", "gateway"]
CALLERS = ["none", "person", "device", "generator", "operator"]
CHECKS = [
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "unsupported_method", "allow_header_conformance", "no_rate_limit",
    "nothing_of_others",
]


def options():
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description="Fuzzes a running system through its gateway.")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="the gateway")
    parser.add_argument("--home", default=os.environ.get("OFF_HOME", ROOT / ".off"), type=Path,
                        help="the folder of the system, with the secrets of the clients")
    parser.add_argument("--document", choices=DOCUMENTS, action="append", help="only this one; may be repeated")
    parser.add_argument("--caller", choices=CALLERS, action="append", help="only this one; may be repeated")
    parser.add_argument("--max-examples", default=100, type=int, help="requests per operation and phase")
    return parser.parse_args()


def order(api, person, token):
    """Places an order for the device of a person, and adds its id."""
    placed = api.call("POST", "/api/orders", token,
                      json={"ssd_id": person["ssd_id"], "barcode": BARCODE, "quantity": 1})
    person["order_id"] = placed["id"]


def somebody_else(api):
    """A person whose data nobody may reach."""
    person = api.register("Bob")
    token = api.sign_in(person)
    order(api, person, token)
    person["key_id"] = api.call("GET", f"/api/devices/{person['ssd_id']}/keys", token)["keys"][0]["id"]
    person["session_id"] = api.call("GET", "/api/sessions", token)["sessions"][0]["id"]
    return person


def owner(api, caller, clients):
    """A new person whose data the caller may reach, because requests change it. Their key must last, so it is not named."""
    token = api.exchange("generator", clients["generator"]) if caller == "generator" else None
    person = api.register("Ada", token)
    order(api, person, token or api.sign_in(person))
    return person


def fuzz(document, caller, args, state):
    # Without a token, 401 comes before 405.
    checks = [check for check in CHECKS if caller != "none" or check not in ("unsupported_method", "allow_header_conformance")]
    command = [
        ROOT / ".off/fuzz/bin/schemathesis", "run", f"{args.url}/docs/openapi/{document}.json", "--url", args.url,
        "--checks", ",".join(checks), "--phases", "examples,coverage,fuzzing,stateful",
        "--max-examples", str(args.max_examples), "--continue-on-failure", "--warnings", "off", "--no-color",
        # The token comes from a hook.
        "--generation-with-security-parameters", "false",
    ]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": str(FOLDER / "hooks.py"), "FUZZ_STATE": str(state),
                   "FUZZ_CALLER": caller}
    print(f"==> {document} as {caller}", flush=True)
    # It writes its files into the working directory.
    return subprocess.run(command, cwd=ROOT / ".off", env=environment, check=False).returncode == 0


def main():
    args = options()
    api = Api(args.url)
    other = somebody_else(api)
    clients = {name: (args.home / f"secrets/client_{name}").read_text().strip() for name in ("generator", "operator")}
    state = ROOT / ".off/fuzz/state.json"
    state.touch(mode=0o600)
    before = api.view(other)
    failed = []
    for document in args.document or DOCUMENTS:
        for caller in args.caller or CALLERS:
            own = owner(api, caller, clients)
            state.write_text(json.dumps({"base": args.url, "own": own, "other": other, "clients": clients}))
            if not fuzz(document, caller, args, state):
                failed.append(f"{document} as {caller}")
            if api.view(other) != before:
                failed.append(f"{document} as {caller} changed somebody else's data: {before} {api.view(other)}")
                before = api.view(other)
    for failure in failed:
        print(f"failed: {failure}")
    print(f"{len(failed)} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
