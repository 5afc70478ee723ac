"""A W&B server as far as it is asked without wandb's own client: with short deadlines, and one clear answer."""

from __future__ import annotations

import base64
import inspect
import json
import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tracelet.backends.addresses import redacted
from tracelet.backends.wandb.config import WandbConfig
from tracelet.errors import BackendUnavailable
from tracelet.redaction import of_url

OFFLINE = ("offline", "dryrun", "disabled")
_SIGN_IN = (401, 403)
_VIEWER = "query Viewer { viewer { id entity username } }"
# What wandb itself asks before it goes on with a run; a run that does not exist is none, and no error.
_LINES = """query RunResumeStatus($project: String, $entity: String, $name: String!) {
  model(name: $project, entityName: $entity) { bucket(name: $name, missingOk: true) { id historyLineCount } }
}"""


class NotSignedIn(BackendUnavailable):
    """The server answers, and does not take the key."""


class Server:
    """Where runs go, and the key to it. `key=None`: signed in by other means than an API key; only wandb can ask."""

    def __init__(self, url: str, key: str | None, *, insecure: bool = False) -> None:
        self.url, self.key = url.rstrip("/"), key
        self.shown = redacted(self.url)
        self._insecure = insecure

    def check(self, timeout: float) -> None:
        """Raise `BackendUnavailable` if a run could not be begun there now."""
        if self.key is not None and not (self._ask("Viewer", _VIEWER, {}, timeout) or {}).get("viewer"):
            raise NotSignedIn(f"wandb: {self.shown} does not know this API key")

    def rows(self, project: str | None, entity: str | None, run_id: str, timeout: float) -> int | None:
        """How many rows of history the server has of this run; None where it cannot be asked."""
        if self.key is None:
            return None
        told = self._ask("RunResumeStatus", _LINES, {"project": project, "entity": entity, "name": run_id}, timeout)
        bucket = ((told or {}).get("model") or {}).get("bucket") or {}
        return int(bucket.get("historyLineCount") or 0)

    def _ask(self, name: str, query: str, variables: dict[str, Any], timeout: float) -> Any:
        import ssl  # here: an HTTP client takes as long to import as the rest of the backend
        import urllib.error
        import urllib.request

        body = json.dumps({"operationName": name, "query": query, "variables": variables}).encode()
        signed = base64.b64encode(f"api:{self.key}".encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {signed}", "User-Agent": "tracelet"}
        tls = ssl._create_unverified_context() if self._insecure else None
        try:
            parts = urlsplit(f"{self.url}/graphql")
            bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])  # urllib takes a user for a part of the host
            request = urllib.request.Request(urlunsplit(bare), body, headers)
            with urllib.request.urlopen(request, timeout=max(timeout, 0.1), context=tls) as answer:
                return json.load(answer).get("data")
        except urllib.error.HTTPError as error:
            with error:
                after = error.headers.get("Retry-After", "")
                wait = float(after) if after.isdigit() else None
                trouble = NotSignedIn if error.code in _SIGN_IN else BackendUnavailable
                refusal = self._refusal(error.code, error.reason)
                raise trouble(f"wandb: {refusal}", retry_after=wait) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error or type(error).__name__
            raise BackendUnavailable(f"wandb: {self.shown}: {reason}") from error

    def _refusal(self, code: int, reason: str) -> str:
        hint = "; is the API key the right one for it?" if code in _SIGN_IN else ""
        return f"{self.shown} answers {code} {reason}{hint}"


def the_server(wandb: Any, config: WandbConfig) -> Server:
    """The server that the configuration, the environment and wandb's files name, with the key for it.

    Raises BackendUnavailable where there is none: `wandb.init` would ask for it on the terminal.
    """
    settings = wandb.sdk.wandb_setup.singleton().settings
    given = config.settings or {}
    url = config.backend_url or given.get("base_url") or settings.base_url
    key = config.api_key or given.get("api_key")
    insecure = bool(given.get("insecure_disable_ssl", settings.insecure_disable_ssl))
    if key is None:
        auth = _signed_in(str(url))
        if auth is None:
            raise BackendUnavailable(f"wandb: {no_key(str(url))}")
        key = getattr(auth, "api_key", None)
    return Server(str(url), key, insecure=insecure)


def _signed_in(url: str) -> Any:
    from wandb.sdk.lib import wbauth

    keep = {"update_session": False}
    if "update_session" not in inspect.signature(wbauth.authenticate_session).parameters:
        keep = {}  # wandb 0.30
    return wbauth.authenticate_session(host=url, source="tracelet", prompt=False, **keep)


def no_key(url: str) -> str:
    return (
        f"no API key for {redacted(url)}: run `wandb login`, set WANDB_API_KEY, or record offline: WANDB_MODE=offline"
    )


def secrets(config: WandbConfig, environ: dict[str, str]) -> Iterator[str]:
    """The API keys that this backend could use, wandb not imported: given, in the environment, in ~/.netrc; and the
    passwords in addresses."""
    import netrc

    given = config.settings or {}
    addresses = (config.backend_url, given.get("base_url"), environ.get("WANDB_BASE_URL"))
    names = [str(url) for url in addresses if url]
    for name in names:
        yield from of_url(name)
    yield from filter(None, (config.api_key, given.get("api_key"), environ.get("WANDB_API_KEY")))
    try:
        hosts = netrc.netrc(environ.get("NETRC") or os.path.expanduser("~/.netrc")).hosts
    except (OSError, netrc.NetrcParseError):
        return
    for host, (_, _, password) in hosts.items():
        if password and ("wandb" in host or any(host in name for name in names)):
            yield password
