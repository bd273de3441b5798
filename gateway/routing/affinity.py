"""The same conversation to the same replica, whose KV cache then holds its prefix, as long as that replica is not full.

Rendezvous hashing gives every conversation its own order of the targets, in which it moves only when its target goes
(Thaler and Ravishankar, 1998); no target takes more than `load` times the mean of the calls in flight (Mirrokni,
Thorup and Zadimoghaddam, Consistent Hashing with Bounded Loads, 2017).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from gateway.chat import Request
from gateway.exchange import Exchange
from gateway.routing.candidates import Candidate, Ranking


class PrefixAffinity:
    """Weights are honoured: a target of weight 2 begins twice as many conversations."""

    def __init__(self, targets: Sequence[Candidate], fallbacks: Sequence[Candidate], load: float) -> None:
        self._targets = [(candidate.target.label.encode(), candidate) for candidate in targets]
        self._fallbacks = tuple(fallbacks)
        self._load = load

    def rank(self, request: Request, exchange: Exchange) -> Ranking:
        prefix = prefix_of(request)
        ordered = [
            candidate
            for _, candidate in sorted(
                ((_score(label, prefix, candidate), candidate) for label, candidate in self._targets),
                key=lambda scored: -scored[0],
            )
        ]
        mean = (1 + sum(candidate.load for candidate in ordered)) / len(ordered)
        most = math.ceil(self._load * mean)
        roomy = [candidate for candidate in ordered if candidate.load < most]
        full = [candidate for candidate in ordered if candidate.load >= most]
        return (*roomy, *full, *self._fallbacks)


def prefix_of(request: Request) -> bytes:
    """What the calls of one conversation have in common: its name, else all up to the first question."""
    if request.conversation is not None:
        return request.conversation.encode()
    digest = hashlib.blake2b(digest_size=16)
    for message in request.messages:
        digest.update(repr((message.get("role"), message.get("content"))).encode("utf-8", "surrogatepass"))
        if message.get("role") == "user":
            break
    return digest.digest()


def _score(label: bytes, prefix: bytes, candidate: Candidate) -> float:
    """-w / ln u, for u uniform from the hash: the weighted form of rendezvous hashing."""
    weight = candidate.target.weight
    if not weight:
        return 0.0
    digest = hashlib.blake2b(prefix, key=hashlib.blake2b(label, digest_size=32).digest(), digest_size=8).digest()
    return -weight / math.log((int.from_bytes(digest) + 1) / (2**64 + 1))
