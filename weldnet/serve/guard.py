"""What stands before every request: who may send it, what is logged of it, and the headers a browser gets."""

import hmac
import ipaddress
import logging
import re
import secrets
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from weldnet.serve.answers import USABLE_ID, Refusal
from weldnet.serve.limits import MAX_UPLOADS

log = logging.getLogger(__name__)

KEY = "X-API-Key"
"""The header that holds the key."""

HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
        "media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

REQUEST_ID = "X-Request-Id"
"""The header by which a client or a proxy names a request; without it, the guard does."""

CROWD_EVERY_S = 30.0
"""Between two warnings of too many uploads."""

MAX_PATH = 200
"""Characters of a path in the log."""
SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Upper ends of the histogram's buckets."""


class Guard:
    """Middleware that lets a request pass or refuses it before its body is read, counts it and logs it in one line.

    Args:
        routes: the paths to count; every other path is counted as `other`.
        api_key: what the header `X-API-Key` must hold, except for the paths `without_key`; None for no key.
        hosts: what the header `Host` may name, without a port, beside any IP address; None for anything. A server
            without a key needs it: a page anywhere could have its own name resolved to the server's address.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Collection[str],
        without_key: Collection[str],
        registry: CollectorRegistry,
        max_body: int,
        api_key: str | None,
        hosts: Collection[str] | None,
    ) -> None:
        self.app, self.routes, self.without_key = app, routes, without_key
        self.max_body, self.api_key, self.hosts = max_body, api_key, hosts
        self.requests = Counter("weldnet_requests", "Answered requests.", ["route", "status"], registry=registry)
        about = "From a request's head to its answer."
        labels = ["route", "status"]
        self.seconds = Histogram("weldnet_request_seconds", about, labels, buckets=SECONDS, registry=registry)
        self.num_uploads, self.quiet_until = 0, 0.0
        uploads = Gauge("weldnet_uploads", "Requests with a body, from their head to their answer.", registry=registry)
        uploads.set_function(lambda: self.num_uploads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, headers = time.perf_counter(), 500, Headers(scope=scope)
        given = headers.get(REQUEST_ID)
        usable = re.fullmatch(USABLE_ID, given or "")
        request_id = usable[0] if usable else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_marked(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message).update(HEADERS | {"x-request-id": request_id})
            await send(message)

        try:
            if given is not None and not usable:
                raise Refusal(400, f"{REQUEST_ID}: allowed are 1 to 128 letters, digits and signs of ASCII, no blanks")
            self._check(scope["method"], scope["path"], headers)
            with self._take_place(scope["method"]):
                await self.app(scope, receive, send_marked)
        except Refusal as refusal:
            await refusal.to_response()(scope, receive, send_marked)
        except Exception:
            log.exception("the server failed", extra={"fields": {"request_id": request_id}})
            failure = Refusal(500, f"the server failed; see its log at request {request_id}")
            await failure.to_response()(scope, receive, send_marked)
        finally:
            self._note(scope, status, time.perf_counter() - started)

    def _check(self, method: str, path: str, headers: Headers) -> None:
        host, origin = headers.get("host", ""), headers.get("origin")
        # No browser leaves the header out, and the health checks of many proxies do.
        is_check = not host and path in self.without_key
        if self.hosts is not None and not is_check and not _is_named(host, self.hosts):
            reason = f"this server is not {host[:80]}; use its IP address, or start it with serve.hosts=[NAME]"
            raise Refusal(400, reason)
        if method == "POST" and origin is not None and origin.partition("://")[2] != host:
            raise Refusal(403, f"a page of {origin[:80]} may not send anything here")
        # As bytes: compare_digest takes no other text than ASCII.
        given = headers.get(KEY, "").encode("latin-1")
        if self.api_key and path not in self.without_key and not hmac.compare_digest(given, self.api_key.encode()):
            raise Refusal(401, f"the header {KEY} is missing or wrong; ask who runs this server for its key")
        if (encoding := headers.get("content-encoding", "identity").lower()) != "identity":
            raise Refusal(415, f"the body is compressed (Content-Encoding: {encoding[:80]}); send it as it is")
        length = headers.get("content-length")
        # Chunks of one byte would cost a thousand times what they weigh.
        if method == "POST" and (length is None or "transfer-encoding" in headers):
            reason = "the request has no Content-Length, or a Transfer-Encoding; chunked bodies are not read"
            raise Refusal(411, reason)
        if length is not None and int(length) > self.max_body:
            limit = f"{self.max_body / 1e6:g} MB (serve.max_body_mb)"
            raise Refusal(413, f"the request has {int(length) / 1e6:,.1f} MB; at most {limit} are read")

    @contextmanager
    def _take_place(self, method: str) -> Iterator[None]:
        """Within it, a request with a body holds one of the places; a Refusal where all are taken."""
        if method != "POST":
            # A health check finds room, whoever uploads.
            yield
            return
        if self.num_uploads >= MAX_UPLOADS:
            reason = f"{MAX_UPLOADS} uploads are under way, the most at once; send it again in a moment"
            if time.monotonic() >= self.quiet_until:
                self.quiet_until = time.monotonic() + CROWD_EVERY_S
                log.warning("%s. Where bodies come slowly, put a proxy in front that buffers them", reason)
            raise Refusal(503, reason)
        self.num_uploads += 1
        try:
            yield
        finally:
            self.num_uploads -= 1

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope["path"] if scope["path"] in self.routes else "other"
        self.requests.labels(route, status).inc()
        self.seconds.labels(route, status).observe(seconds)
        fields = {
            "request_id": scope["state"]["request_id"],
            "method": scope["method"],
            "path": scope["path"][:MAX_PATH],
            "status": status,
            "ms": round(1000 * seconds, 1),
            "images": scope["state"].get("images", 0),
        }
        log.info("request", extra={"fields": fields})


def _is_named(host: str, hosts: Collection[str]) -> bool:
    """Whether a header `Host` holds one of the names, or an IP address."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name in hosts or bool(ipaddress.ip_address(name))
    except ValueError:
        return False
