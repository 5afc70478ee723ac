"""Write an alert in the format of the server that receives it."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from typing import Any

from tracelet.records import Alert, RunInfo

_SLACK = ("slack.com", "slack-gov.com")
_DISCORD = ("discord.com", "discordapp.com")
# The most characters of a message. https://docs.slack.dev/reference/methods/chat.postMessage#truncating
_SLACK_LIMIT = 40_000
# https://docs.discord.com/developers/resources/webhook#execute-webhook
_DISCORD_LIMIT = 2_000
# Of these, at most so many for the title, and for the name of the run.
_TITLE_LIMIT, _RUN_LIMIT = 500, 300
_MARK = "…"

_Spelling = Callable[[str], str]


def message(alert: Alert, run: RunInfo, page: str | None, host: str) -> dict[str, Any]:
    """Return the JSON object for the server `host`. `page` is the run's web page.

    Slack's and Discord's have one text, cut to the length that they accept. Markup in it notifies nobody else.
    """
    if _is_of(host, _SLACK):
        # Slack reads `<!channel>` as a notification of all members, unless it is escaped.
        return {"text": _text(alert, run, page, _SLACK_LIMIT, lambda text: html.escape(text, quote=False))}
    if _is_of(host, _DISCORD):
        content = _text(alert, run, page, _DISCORD_LIMIT, lambda text: text)
        return {"content": content, "allowed_mentions": {"parse": []}}
    return {
        "title": _clean(alert.title),
        "text": _clean(alert.text),
        "level": alert.level,
        "time": alert.wall_time,
        "run": run.name,
        "run_id": run.run_id,
        "project": run.project,
        "url": page,
    }


def _is_of(host: str, domains: Iterable[str]) -> bool:
    return any(host == domain or host.endswith(f".{domain}") for domain in domains)


def _text(alert: Alert, run: RunInfo, page: str | None, limit: int, spelling: _Spelling) -> str:
    """Return title, text, run and page as lines. If they are too long, cut the text."""
    project = f"{run.project}/" if run.project else ""
    label = f", {run.label}" if run.label else ""
    name = f"{project}{run.name} ({run.run_id}{label})" if run.name else f"{project}{run.run_id}{label}"
    first = _cut(f"[{alert.level}] {_clean(alert.title)}", _TITLE_LIMIT, spelling)
    last = _cut(_clean(name), _RUN_LIMIT, spelling)
    if page is not None and len(page) <= _RUN_LIMIT:
        last += f"\n{spelling(page)}"
    room = limit - _length(first) - _length(last) - 2
    return "\n".join(filter(None, (first, _cut(_clean(alert.text), room, spelling), last)))


def _cut(text: str, limit: int, spelling: _Spelling) -> str:
    """Return the text as it is spelled, or its start and a mark."""
    characters = [spelling(character) for character in text[: limit + 1]]
    length = sum(map(_length, characters))
    if length <= limit:
        return "".join(characters)
    while length > limit - len(_MARK):
        length -= _length(characters.pop())
    return "".join(characters) + _MARK


def _length(text: str) -> int:
    """Return the length in UTF-16: a server may count a character outside its first plane as two."""
    return len(text.encode("utf-16-le")) // 2


def _clean(text: str) -> str:
    """Replace lone surrogates, which are no Unicode text: servers reject them."""
    return text.encode("utf-8", "replace").decode()
