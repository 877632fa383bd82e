"""After how many requests the dearer training of a ready model has paid for itself."""

from __future__ import annotations


def break_even(ready: float, plain: float, ready_request: float, plain_request: float) -> dict:
    """
    requests = (ready - plain) / (plain_request - ready_request), all in row passes.

    Args:
        ready, plain: costs of the two trainings.
        ready_request, plain_request: costs of the same request to the model of each.

    Returns:
        `{"training_extra", "request_saves", "requests"}`; `requests` is None where a request saves nothing, and 0 where
        the training was not dearer.
    """
    extra, saves = ready - plain, plain_request - ready_request
    requests = None if saves <= 0 else max(0.0, round(extra / saves, 2))
    return {"training_extra": round(extra, 3), "request_saves": round(saves, 3), "requests": requests}
