"""``sdk.py WALLET MACAROON DESK``: buys with l402sdk, which runs in an environment of its own."""

import json
import sys
from urllib.request import urlopen

from l402 import L402Client

wallet, macaroon, desk = sys.argv[1:]


def order() -> dict | None:
    with urlopen(f"{desk}/order") as response:
        return json.load(response)


def report(outcome: dict) -> None:
    urlopen(f"{desk}/answer", json.dumps(outcome).encode()).close()


client = L402Client.with_lnd_rest(wallet, macaroon)
while asked := order():
    if asked["afresh"]:
        client = L402Client.with_lnd_rest(wallet, macaroon)
    try:
        if asked["init"]["method"] == "GET":
            response = client.get(asked["url"])
        else:
            response = client.post(asked["url"], asked["init"]["body"])
        report({"status": response.status, "text": response.text()})
    except Exception as error:
        report({"error": f"{type(error).__name__}: {error}"})
