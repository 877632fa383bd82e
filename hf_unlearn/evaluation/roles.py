"""The roles that models play in a score card."""

from __future__ import annotations

ROLES = ("original", "ready", "unlearned", "ready_unlearned", "retrained", "retrained_again")
ROLE_LABELS = {
    "original": "original",
    "ready": "ready",
    "unlearned": "unlearned",
    "ready_unlearned": "ready, then unlearned",
    "retrained": "retrained",
    "retrained_again": "retrained, another seed",
}
ROLE_MEANINGS = {
    "original": "trained as usual, before the request",
    "ready": "trained to be ready for deletion, before the request",
    "unlearned": "the original model after the request",
    "ready_unlearned": "the ready model after the request",
    "retrained": "trained from the start without the forget rows: what unlearning tries to reach",
    "retrained_again": "the same with another seed: how far two retrained models differ, the noise floor",
}
BEFORE = {"unlearned": ("original",), "ready_unlearned": ("ready", "original")}  # what a run started from
