"""Text as it is compared: what is left of it without case, punctuation and white space."""

from __future__ import annotations

import re
import unicodedata

_GAP, _SIGN = "\ue000", "\ue001"  # private use: what is kept between digits
_NUMBER = re.compile(r"(\d)(\W+)(?=\d)|(?<!\w)-(?=\d)")  # 1.5 is not 15, 1 2 is not 12, -5 is not 5
_DIGIT = re.compile(r"\d")


class _Dropped(dict):
    """For `str.translate`: punctuation, white space and control characters go, all else stays."""

    def __missing__(self, code: int):
        gone = unicodedata.category(chr(code))[0] in "PZC" and chr(code) not in (_GAP, _SIGN)
        self[code] = None if gone else code
        return self[code]


class _Spaced(_Dropped):
    """The same, but white space stays."""

    def __missing__(self, code: int):
        return code if chr(code).isspace() else super().__missing__(code)


_DROPPED, _SPACED = _Dropped(), _Spaced()
_DROPPED_OF_ASCII = bytes(code for code in range(128) if _DROPPED[code] is None)


def normalised(text: str) -> str:
    """
    Text without case, punctuation and white space, in the form NFKC; but what stands between two digits, and a minus
    before one, leaves a mark, since 1.5 is not 15. Text of punctuation alone stays as it is.
    """
    plain = text.isascii()
    text = text.lower() if plain else unicodedata.normalize("NFKC", text).casefold()
    if _DIGIT.search(text):
        return _NUMBER.sub(_marked, text).translate(_DROPPED) or text
    if plain:
        return text.encode().translate(None, _DROPPED_OF_ASCII).decode() or text
    return text.translate(_DROPPED) or text


def _marked(found: re.Match) -> str:
    """What stands between two digits, or before one, as a mark."""
    digit, between = found.groups()
    return _SIGN if digit is None else digit + (_GAP if between.isspace() else _SIGN)


def spaced(text: str) -> str:
    """Words without case and punctuation, in the form NFKC, with one space between two."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().translate(_SPACED).split())
