"""The words that a program was called with, without those that look like credentials.

Elsewhere credentials are known by their values alone, since a name may mean anything and a record is never changed on a
guess. A command line holds what nobody has signed in with yet, and is only looked at: here a name is enough.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_HIDDEN = "***"
_NAME = (
    r"(?:(?:api|access|secret|private|auth|account|sign(?:ing)?|encryption|service)[_.\-]?key"
    r"|token|passw(?:or)?d|passphrase|passcode|pwd|secrets?|credentials?)"
)
_VALUE = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|[^\s\"',;&}]+"

_OPTION = re.compile(rf"--?[\w.\-]*(?:{_NAME}|key)", re.IGNORECASE)
_ASSIGNMENT = re.compile(rf"([+~]{{0,2}}-{{0,2}}[\w./\-]*(?:{_NAME}|key)=).+", re.IGNORECASE | re.DOTALL)
_WITHIN = (
    (re.compile(rf"({_NAME}[\"']?\s*[:=]\s*)(?:{_VALUE})", re.IGNORECASE), rf"\1{_HIDDEN}"),
    (re.compile(r"\b(bearer|basic)\s+\S+", re.IGNORECASE), rf"\1 {_HIDDEN}"),
    (re.compile(r"://\S*@"), f"://{_HIDDEN}@"),
    # Words that say by themselves what they are: keys of model hubs, forges, clouds and chats, and JSON web tokens.
    (
        re.compile(
            r"\b(?:hf_|gh[opsu]_|github_pat_|glpat-|pypi-|xox[abprs]-|AKIA|ASIA|AIza)[\w\-]{12,}"
            r"|\bsk-(?!learn)[\w\-]{16,}|\b[a-z]+_v\d_\w{40,}|\beyJ[\w\-]{8,}\.[\w\-]{8,}[\w.\-]*"
        ),
        _HIDDEN,
    ),
)


def redacted(arguments: Sequence[str]) -> list[str]:
    """The arguments with `***` for what looks like a credential: by the option before it, by its name, by its form."""
    told: list[str] = []
    is_secret = False
    for one in arguments:
        told.append(_HIDDEN if is_secret and not one.startswith("-") else _cleaned(one))
        is_secret = _OPTION.fullmatch(one) is not None
    return told


def _cleaned(argument: str) -> str:
    if assignment := _ASSIGNMENT.fullmatch(argument):
        return f"{assignment[1]}{_HIDDEN}"
    for pattern, replacement in _WITHIN:
        argument = pattern.sub(replacement, argument)
    return argument
