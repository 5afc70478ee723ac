"""Redact arguments of a command line that look like credentials.

Elsewhere tracelet redacts known credential values only: a name may mean anything, and it never changes a record on a
guess. A command line may contain credentials that are not in use yet, and people only read it: here a name is enough.
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
# These are parts of many harmless words, so match whole words only.
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
# A value that begins like an option, but has letters and digits, which few options have.
_DASHED = re.compile(r"-(?=.*\d)(?=.*[a-z])[^\s=\-][^\s=]{7,}", re.IGNORECASE)
_WITHIN = (
    # Hide the whole line of a header: its first word may be the name of a scheme.
    (re.compile(rf"(authorization[\"']?\s*[:=]\s*)(?:{_QUOTED}|[^\n]+)", re.IGNORECASE), rf"\1{_HIDDEN}"),
    (re.compile(rf"({_NAME}[\"']?\s*[:=]\s*)(?:{_VALUE})", re.IGNORECASE), rf"\1{_HIDDEN}"),
    (re.compile(r"\b(bearer|basic)\s+\S+", re.IGNORECASE), rf"\1 {_HIDDEN}"),
    (
        re.compile(r"([?&](?:[\w.\-]*[_.\-])?(?:key|sig|signature|auth|pass)=)[^\s&\"']+", re.IGNORECASE),
        rf"\1{_HIDDEN}",
    ),
    # Known key formats: model hubs, forges, clouds, chat services, and JSON web tokens.
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
    """Replace by `***` each argument that looks like a credential: by its option, its name or its format."""
    shown: list[str] = []
    option, is_first = "", False
    for argument in arguments:
        # An option may have several values.
        if option and (not argument.startswith("-") or (is_first and _DASHED.fullmatch(argument))):
            shown.append(argument if _is_count(option, argument) else _HIDDEN)
            is_first = False
            continue
        shown.append(_cleaned(argument))
        option = argument if _OPTION.fullmatch(argument) and not _HARMLESS.fullmatch(argument) else ""
        is_first = True
    return shown


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
    """Hide the user part of an address, before "@". A single pattern would be slow: it would retry at every "://"."""
    begin, mark, rest = word[0].partition("://")
    _, at, end = rest.rpartition("@")
    return f"{begin}{mark}{_HIDDEN}{at}{end}" if at else word[0]
