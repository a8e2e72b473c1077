"""The API as the callers of the fuzzer use it."""

import secrets

import requests

# Not that of the examples in the documents: a request with it would change the password.
PASSWORD = secrets.token_urlsafe(16)

# The sample catalog has it.
BARCODE = "2000000000015"


class Api:
    def __init__(self, base):
        self.base = base

    def call(self, method, path, token=None, **more):
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = requests.request(method, self.base + path, headers=headers, timeout=30, **more)
        if not answer.ok:
            raise RuntimeError(f"{method} {path} answered {answer.status_code}: {answer.text}")
        return answer.json() if answer.content else None

    def sign_in(self, person):
        login = {"email": person["email"], "password": person["password"]}
        return self.call("POST", "/api/login", json=login)["access_token"]

    def exchange(self, client_id, secret):
        """An access token for the credentials of a device or a client."""
        grant = {"grant_type": "client_credentials"}
        return self.call("POST", "/oauth/token", auth=(client_id, secret), data=grant)["access_token"]

    def register(self, name, token=None):
        """A new person with a device, and with ids that nobody else has; a simulated one with the generator's token."""
        email = f"{name.lower()}.{secrets.token_hex(8)}@example.org"
        mac_address = ":".join(["02", *(f"{byte:02x}" for byte in secrets.token_bytes(5))])
        registered = self.call("POST", "/api/register", token, json={
            "user": {"first_name": name, "last_name": "Fuzz", "email": email, "password": PASSWORD},
            "devices": [{"mac_address": mac_address}],
        })
        device = registered["devices"][0]
        return {
            "email": email, "password": PASSWORD, "mac_address": mac_address, "user_id": registered["user_id"],
            "ssd_id": device["ssd_id"], "key": device.get("key"),
        }

    def view(self, person):
        """What a person sees of their own data, without what changes with time."""
        token, device = self.sign_in(person), f"/api/devices/{person['ssd_id']}"
        keys = self.call("GET", f"{device}/keys", token)["keys"]
        orders = self.call("GET", "/api/orders", token)["orders"]
        return {
            "person": self.call("GET", f"/api/users/{person['user_id']}", token),
            "devices": [entry["ssd_id"] for entry in self.call("GET", "/api/devices", token)["devices"]],
            "keys": [key["id"] for key in keys],
            "orders": [order["id"] for order in orders],
            "account": self.call("GET", "/api/account", token),
        }
