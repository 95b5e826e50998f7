"""What stands before every request: who may ask, what is noted of it, and what a browser is told."""

import asyncio
import hmac
import ipaddress
import logging
import secrets
import time
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from weldnet.serve.counters import Metrics
from weldnet.serve.limits import Refusal
from weldnet.serve.pages import PAGES

log = logging.getLogger(__name__)

KEY = "X-API-Key"
"""The header that holds the key."""

OPEN = (*PAGES, "/health", "/ready", "/openapi.json")
"""Routes that say nothing of the model, and need no key."""

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": CONTENT_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
MAX_PATH = 200
"""Characters of a path in the log."""

DELAYED = (400, 401, 403, 411, 413, 415)
"""What was sent is wrong, and would be wrong again."""
DELAY_S = 1.0
"""How long the answer to that waits. A client that sends it in a loop would take as much of the server as the good
ones; now it mostly waits."""
MAX_DELAYED = 128
"""Answers that wait at once; further ones leave at once, so that those who wait never have all connections."""


class Guard:
    """Middleware that lets a request pass or refuses it, delays what is refused, counts it and logs it in one line.

    Args:
        app: what is guarded.
        routes: its paths; every other path is counted as `other`.
        metrics: that count.
        api_key: what the header `X-API-Key` must hold, except for `OPEN`; None for no key.
        hosts: what the header `Host` may name, without a port, beside any IP address; None for anything. A server
            without a key needs it: a page anywhere could have its own name resolved to the server's address.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Collection[str],
        metrics: Metrics,
        api_key: str | None,
        hosts: Collection[str] | None,
    ) -> None:
        self.app, self.routes, self.metrics = app, routes, metrics
        self.api_key, self.hosts, self.num_delayed = api_key, hosts, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, ended, status, request_id = time.perf_counter(), None, 500, secrets.token_hex(8)
        noted = scope.setdefault("state", {})
        noted["request_id"] = request_id

        async def send_marked(message: Message) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = message["status"]
                if scope["method"] == "POST" and status in DELAYED:
                    ended = time.perf_counter()
                    noted["is_delayed"] = True
                    await self._delay()
                MutableHeaders(scope=message).update(HEADERS | {"x-request-id": request_id})
            await send(message)

        try:
            try:
                self._check(scope["method"], scope["path"], Headers(scope=scope))
            except Refusal as refusal:
                await refusal.to_response()(scope, receive, send_marked)
            else:
                await self.app(scope, receive, send_marked)
        finally:
            self._note(scope, status, (ended or time.perf_counter()) - started)

    async def _delay(self) -> None:
        if self.num_delayed >= MAX_DELAYED:
            return
        self.num_delayed += 1
        try:
            await asyncio.sleep(DELAY_S)
        finally:
            self.num_delayed -= 1

    def _check(self, method: str, path: str, headers: Headers) -> None:
        host = headers.get("host", "")
        if self.hosts is not None and (name := _strip_port(host)) not in self.hosts and not _is_address(name):
            words = f"this server is not {host[:80]}; ask for it by its IP address, or start it with serve.hosts=[NAME]"
            raise Refusal(400, words)
        origin = headers.get("origin")
        if method == "POST" and origin is not None and origin.partition("://")[2] != host:
            raise Refusal(403, f"a page of {origin[:80]} may not send anything here")
        # As bytes: compare_digest takes no other text than ASCII.
        given = headers.get(KEY, "").encode("latin-1")
        if self.api_key and path not in OPEN and not hmac.compare_digest(given, self.api_key.encode()):
            raise Refusal(401, f"the header {KEY} is missing or wrong; ask who runs this server for its key")

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        path: str = scope["path"]
        self.metrics.count_request(path if path in self.routes else "other", status, seconds)
        fields = {
            "request_id": scope["state"]["request_id"],
            "method": scope["method"],
            "path": path[:MAX_PATH],
            "status": status,
            "ms": round(1000 * seconds, 1),
            "images": scope["state"].get("images", 0),
        }
        log.info("request", extra={"fields": fields})


def _strip_port(host: str) -> str | None:
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_address(name: str | None) -> bool:
    try:
        return bool(ipaddress.ip_address(name or ""))
    except ValueError:
        return False
