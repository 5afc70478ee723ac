"""The words that a program was called with, without those that look like credentials.

Elsewhere credentials are known by their values alone, since a name may mean anything and a record is never changed on a
guess. A command line holds what nobody has signed in with yet, and is only looked at: here a name is enough.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_HIDDEN = "***"
_NAME = (
    r"(?:(?:api|access|secret|private|auth|account|sign(?:ing)?|encryption|service)[_.\-]?keys?"
    r"|(?:api|access|auth|bearer|refresh|hf)[_.\-]?tokens"
    r"|token|passw(?:or)?d|passphrase|passcode|pwd|secrets?|credentials?|authorization)"
)
# These are parts of many harmless words: whole ones alone.
_WORD = r"(?:(?<![a-z0-9])(?:auth|bearer|pass))"
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
_VALUE = rf"{_QUOTED}|\[[^\[\]]*\]|[^\s\"',;&}}]+"

_OPTION = re.compile(rf"--?(?:[\w.\-]*(?:{_NAME}|key|{_WORD})|tokens)", re.IGNORECASE)
_ASSIGNMENT = re.compile(
    rf"((?:[+~]{{0,2}}-{{0,2}}[\w./\-]*(?:{_NAME}|key|{_WORD})|-{{0,2}}tokens)=)(.+)", re.IGNORECASE | re.DOTALL
)
_HARMLESS = re.compile(
    r"--?(?:no|without|disable)[_\-]auth"
    r"|-{0,2}(?:.*[_.\-])?(?:low|high|band|one|two|single|multi|first|second|forward|backward|n|num|per)[_\-]pass=?",
    re.IGNORECASE,
)
_TOKENS = re.compile(r"-{0,2}tokens=?", re.IGNORECASE)
_COUNT = re.compile(r"[\d_.,]+(?:e\d+)?[kmbgt]?", re.IGNORECASE)
# A value that begins as an option does, in letters and digits, as few options are.
_DASHED = re.compile(r"-(?=.*\d)(?=.*[a-z])[^\s=\-][^\s=]{7,}", re.IGNORECASE)
_WITHIN = (
    # The whole line of a header: its first word may be the name of a scheme.
    (re.compile(rf"(authorization[\"']?\s*[:=]\s*)(?:{_QUOTED}|[^\n]+)", re.IGNORECASE), rf"\1{_HIDDEN}"),
    (re.compile(rf"({_NAME}[\"']?\s*[:=]\s*)(?:{_VALUE})", re.IGNORECASE), rf"\1{_HIDDEN}"),
    (re.compile(r"\b(bearer|basic)\s+\S+", re.IGNORECASE), rf"\1 {_HIDDEN}"),
    (
        re.compile(r"([?&](?:[\w.\-]*[_.\-])?(?:key|sig|signature|auth|pass)=)[^\s&\"']+", re.IGNORECASE),
        rf"\1{_HIDDEN}",
    ),
    # Words that say by themselves what they are: keys of model hubs, forges, clouds and chats, and JSON web tokens.
    (
        re.compile(
            r"\b(?:hf_|gh[oprsu]_|github_pat_|glpat-|pypi-|nvapi-|xox[abprs]-|AKIA|ASIA|AIza)[\w\-]{12,}"
            r"|\bsk-(?!learn)[\w\-]{16,}|\b[rs]k_(?:live|test)_\w{12,}|\b(?:npm|r8)_[A-Za-z0-9]{30,}"
            r"|\bSG\.[\w\-]{16,}\.[\w\-]{16,}|\b[a-z]+_v\d_\w{40,}|\beyJ[\w\-]{8,}\.[\w\-]{8,}[\w.\-]*"
        ),
        _HIDDEN,
    ),
)


def redacted(arguments: Sequence[str]) -> list[str]:
    """The arguments with `***` for what looks like a credential: by the option before it, by its name, by its form."""
    told: list[str] = []
    option, is_first = "", False
    for one in arguments:
        if option and (not one.startswith("-") or (is_first and _DASHED.fullmatch(one))):  # an option may take several
            told.append(one if _is_count(option, one) else _HIDDEN)
            is_first = False
            continue
        told.append(_cleaned(one))
        option = one if _OPTION.fullmatch(one) and not _HARMLESS.fullmatch(one) else ""
        is_first = True
    return told


def _is_count(name: str, value: str) -> bool:
    return bool(_TOKENS.fullmatch(name) and _COUNT.fullmatch(value))


def _cleaned(argument: str) -> str:
    assignment = _ASSIGNMENT.fullmatch(argument)
    if assignment and not _HARMLESS.fullmatch(assignment[1]) and not _is_count(*assignment.groups()):
        return f"{assignment[1]}{_HIDDEN}"
    if "@" in argument:
        argument = re.sub(r"\S+", _without_user, argument)
    for pattern, replacement in _WITHIN:
        argument = pattern.sub(replacement, argument)
    return argument


def _without_user(word: re.Match[str]) -> str:
    """An address without what stands before its "@". No pattern of its own: one would look again from every "://"."""
    begin, mark, rest = word[0].partition("://")
    _, at, end = rest.rpartition("@")
    return f"{begin}{mark}{_HIDDEN}{at}{end}" if at else word[0]
