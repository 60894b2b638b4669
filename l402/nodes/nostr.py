"""Sealed messages between us and one wallet, as events of Nostr (NIP-01, NIP-44, NIP-47).

Needs the extra ``nwc``.
"""

import json
from typing import Any, NamedTuple

from nostr_sdk import Event, EventBuilder, Keys, Kind, NostrSdkError, PublicKey, Tag

_INFO, _REQUEST, _ANSWER, _AUTHENTICATION = 13194, 23194, 23195, 22242


class Info(NamedTuple):
    """What the wallet announces of itself (kind 13194)."""

    methods: frozenset[str]
    encryptions: frozenset[str]  # nip44_v2, nip04; empty for wallets older than that choice
    created_at: int  # unix seconds


class Correspondence:
    """Everything that is said between us, who hold `secret`, and `wallet` (both 64 hex digits).

    :raises ValueError: one of them is no key
    """

    def __init__(self, secret: str, wallet: str) -> None:
        try:
            self._keys, self._wallet = Keys.parse(secret), PublicKey.parse(wallet)
            self._keys.nip44_encrypt(self._wallet, "-")  # a point of the curve shows itself here
        except NostrSdkError:
            raise ValueError("not a pair of Nostr's keys") from None
        self._wallet_hex = wallet
        self._ours_hex: str = self._keys.public_key().to_hex()
        self.info: Info | None = None  # until the wallet's announcement came

    def filters(self, since: int) -> tuple[dict[str, Any], ...]:
        """Return what to subscribe to: the wallet's answers to us, and its announcement."""
        answers = {"kinds": [_ANSWER], "#p": [self._ours_hex], "since": since}
        announcement = {"kinds": [_INFO], "limit": 1}
        return tuple({"authors": [self._wallet_hex], **what} for what in (answers, announcement))

    def request(self, method: str, params: dict[str, Any]) -> tuple[str, str]:
        """Return a request's id and its signed event in JSON, which the wallet alone can read."""
        text = json.dumps({"method": method, "params": params})
        tags = [["p", self._wallet_hex]]
        # Before NIP-47 had that choice there was only NIP-04.
        if self.info and "nip44_v2" in self.info.encryptions:
            content = self._keys.nip44_encrypt(self._wallet, text)
            tags.append(["encryption", "nip44_v2"])
        else:
            content = self._keys.nip04_encrypt(self._wallet, text)
        return self._signed(_REQUEST, content, tags)

    def authentication(self, relay: str, challenge: str) -> str:
        """Return what tells a relay who we are (NIP-42)."""
        return self._signed(_AUTHENTICATION, "", [["relay", relay], ["challenge", challenge]])[1]

    def received(self, event: dict[str, Any]) -> tuple[str, dict[str, Any]] | None:
        """Return the id of the request that `event` answers and the answer; None for all others.

        An announcement of the wallet's becomes `info`. What it did not sign is nothing.
        """
        if not self._from_wallet(event):
            return None
        if event["kind"] == _INFO:
            self._note(event)
        if event["kind"] != _ANSWER:
            return None
        return _tag(event, "e"), self._opened(event["content"])

    def _signed(self, kind: int, content: str, tags: list[list[str]]) -> tuple[str, str]:
        builder = EventBuilder(Kind(kind), content).tags([Tag.parse(tag) for tag in tags])
        event = builder.finalize(self._keys)
        return event.id().to_hex(), event.as_json()

    def _from_wallet(self, event: dict[str, Any]) -> bool:
        try:
            read = Event.from_json(json.dumps(event))
        except NostrSdkError:
            return False
        return bool(read.author().to_hex() == self._wallet_hex and read.verify())

    def _note(self, event: dict[str, Any]) -> None:
        if self.info is None or event["created_at"] >= self.info.created_at:
            methods = frozenset(event["content"].split())
            encryptions = frozenset(_tag(event, "encryption").split())
            self.info = Info(methods, encryptions, event["created_at"])

    def _opened(self, content: str) -> dict[str, Any]:
        """Return the object inside; an empty one if there is none."""
        decrypt = self._keys.nip04_decrypt if "?iv=" in content else self._keys.nip44_decrypt
        try:
            found = json.loads(decrypt(self._wallet, content))
        except (NostrSdkError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def _tag(event: dict[str, Any], name: str) -> str:
    """Return the value of the first tag of that name, or nothing."""
    return next((tag[1] for tag in event["tags"] if tag[:1] == [name] and len(tag) > 1), "")
