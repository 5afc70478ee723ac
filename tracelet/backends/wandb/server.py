"""Query a W&B server without wandb's own client: short timeouts, and one clear error. Check if a run can be started."""

from __future__ import annotations

import base64
import importlib.util
import inspect
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import msgspec

from tracelet.backends.capabilities import Probe
from tracelet.backends.http import request
from tracelet.backends.wandb.config import WandbConfig
from tracelet.backends.wandb.errors import NOT_INSTALLED, import_wandb
from tracelet.backends.wandb.watermark import MARK
from tracelet.errors import BackendUnavailable
from tracelet.redaction import passwords_in_url, redacted_url

OFFLINE_MODES = ("offline", "dryrun", "disabled")
_AUTH_ERRORS = (401, 403)
_PROBE_TIMEOUT = 3.0
_VIEWER = "query Viewer { viewer { id entity username } }"
# wandb sends this query before it resumes a run. If the run does not exist, the answer is empty and no error.
_HISTORY = """query RunResumeStatus($project: String, $entity: String, $name: String!) {
  model(name: $project, entityName: $entity) {
    bucket(name: $name, missingOk: true) { id historyLineCount historyTail }
  }
}"""


class History(NamedTuple):
    """The number of rows of a run, and the mark in the last one."""

    rows: int = 0
    mark: str | None = None


class NotSignedIn(BackendUnavailable):
    """The server answers, and rejects the API key."""


class Server:
    """A server and an API key. If `key` is None, the user is signed in by other means, and only wandb can query it."""

    def __init__(self, url: str, key: str | None, *, insecure: bool = False) -> None:
        self.url, self.key = url.rstrip("/"), key
        self.shown = redacted_url(self.url)
        self._insecure = insecure

    def check(self, timeout: float) -> None:
        """Raise `BackendUnavailable` if no run can be started on this server."""
        if self.key is not None and not (self._query("Viewer", _VIEWER, {}, timeout) or {}).get("viewer"):
            raise NotSignedIn(f"wandb: {self.shown} rejected this API key")

    def history(self, project: str | None, entity: str | None, run_id: str, timeout: float) -> History | None:
        """Return the state of a run's history; None if only wandb can query the server."""
        if self.key is None:
            return None
        variables = {"project": project, "entity": entity, "name": run_id}
        data = self._query("RunResumeStatus", _HISTORY, variables, timeout)
        bucket = ((data or {}).get("model") or {}).get("bucket") or {}
        tail = json.loads(bucket.get("historyTail") or "[]")  # JSON in JSON
        return History(int(bucket.get("historyLineCount") or 0), json.loads(tail[-1]).get(MARK) if tail else None)

    def _query(self, name: str, query: str, variables: dict[str, Any], timeout: float) -> Any:
        body = json.dumps({"operationName": name, "query": query, "variables": variables}).encode()
        credentials = base64.b64encode(f"api:{self.key}".encode()).decode()
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Basic {credentials}",
            "User-Agent": "tracelet",
        }
        try:
            parts = urlsplit(f"{self.url}/graphql")
            url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))  # urllib rejects a user in a URL
            response = request(
                url, max(timeout, 0.1), data=body, headers=headers, insecure=self._insecure, read_body=True
            )
            if 200 <= response.status < 300:
                return json.loads(response.body).get("data")
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error or type(error).__name__
            raise BackendUnavailable(f"wandb: {self.shown}: {reason}") from error
        error_class = NotSignedIn if response.status in _AUTH_ERRORS else BackendUnavailable
        hint = "; check that the API key belongs to this server" if response.status in _AUTH_ERRORS else ""
        text = f"wandb: {self.shown} answered {response.status} {response.reason}{hint}"
        raise error_class(text, retry_after=response.retry_after)


def server_of(wandb: Any, config: WandbConfig) -> Server:
    """Return the server and key from the configuration, the environment and wandb's files.

    Raises:
        BackendUnavailable: there is no key. `wandb.init` would prompt for it on the terminal.
    """
    settings = wandb.sdk.wandb_setup.singleton().settings
    overrides = config.settings or {}
    url = config.backend_url or overrides.get("base_url") or settings.base_url
    key = config.api_key or overrides.get("api_key")
    insecure = bool(overrides.get("insecure_disable_ssl", settings.insecure_disable_ssl))
    if key is None:
        auth = _authenticate(str(url))
        if auth is None:
            raise BackendUnavailable(f"wandb: {_no_key(str(url))}")
        key = getattr(auth, "api_key", None)
    return Server(str(url), key, insecure=insecure)


def wants_offline() -> bool:
    """Check if the environment sets wandb to a mode without uploads."""
    return os.environ.get("WANDB_MODE") in OFFLINE_MODES


def _authenticate(url: str) -> Any:
    from wandb.sdk.lib import wbauth

    options = {"update_session": False}
    if "update_session" not in inspect.signature(wbauth.authenticate_session).parameters:
        options = {}  # wandb 0.30
    return wbauth.authenticate_session(host=url, source="tracelet", prompt=False, **options)


def _no_key(url: str) -> str:
    host = redacted_url(url)
    return f"no API key for {host}: run `wandb login`, set WANDB_API_KEY, or record offline: WANDB_MODE=offline"


def secrets(config: WandbConfig, environ: dict[str, str]) -> Iterator[str]:
    """Yield API keys from the config, the environment and ~/.netrc, and passwords in URLs. Does not import wandb."""
    import netrc

    settings = config.settings or {}
    urls = [str(url) for url in (config.backend_url, settings.get("base_url"), environ.get("WANDB_BASE_URL")) if url]
    for url in urls:
        yield from passwords_in_url(url)
    yield from filter(None, (config.api_key, settings.get("api_key"), environ.get("WANDB_API_KEY")))
    try:
        hosts = netrc.netrc(environ.get("NETRC") or os.path.expanduser("~/.netrc")).hosts
    except (OSError, netrc.NetrcParseError):
        return
    for host, (_, _, password) in hosts.items():
        if password and ("wandb" in host or any(host in url for url in urls)):
            yield password


def probe(config: WandbConfig) -> Probe:
    """Check if a run can be started now."""
    if importlib.util.find_spec("wandb") is None:
        return Probe(False, NOT_INSTALLED)
    wandb = import_wandb()
    settings = environment_settings(wandb)
    mode = config.mode or settings.mode
    if mode in OFFLINE_MODES:
        return Probe(True, f"mode {mode}: nothing is sent")
    url = config.backend_url or str(settings.base_url)
    try:
        server = server_of(wandb, msgspec.structs.replace(config, backend_url=url))
    except wandb.Error as error:
        return Probe(False, redacted_url(f"{url}: {error}"), signed_in=False)
    except BackendUnavailable as error:
        return Probe(False, _text(error), signed_in=False)
    try:
        server.check(_PROBE_TIMEOUT)
    except NotSignedIn as error:
        return Probe(False, _text(error), reachable=True, signed_in=False)
    except BackendUnavailable as error:  # if the server answered, there is no cause
        return Probe(False, _text(error), reachable=error.__cause__ is None)
    return Probe(True, f"signed in to {server.shown}", reachable=True, signed_in=True)


def environment_settings(wandb: Any) -> Any:
    """Return wandb's settings from its files and the environment."""
    settings = wandb.Settings()
    settings.update_from_env_vars(dict(os.environ))
    return settings


def _text(error: BackendUnavailable) -> str:
    return error.reason.removeprefix("wandb: ")
