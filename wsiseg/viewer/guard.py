"""Guard the app: who may send requests, how often, and what a browser may do with the answer.

A page on the internet can make a browser ask 127.0.0.1. It cannot read answers of another origin, but with DNS
rebinding its own name can lead to 127.0.0.1; so the name that is asked for (Host) must be one of this machine's own.
(Starlette's TrustedHostMiddleware does the same, but takes whatever follows a colon, knows no IPv6 address, and answers
without saying what to do.) Changes need JSON, which other origins may not send without being asked first, and an Origin
that is ours. A body has a length, so that nobody can send one without end.
"""

from __future__ import annotations

import re
import secrets
import time
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
HOST = re.compile(r"(?P<name>[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:\d{1,5})?")
COOKIE = "wsiseg-token"
BODY_BYTES = 1 << 19  # a stroke of 20,000 points
RATE, BURST = 400.0, 1600.0  # requests a second, and at once; a fast pan over six layers asks for about 100

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Bucket:
    """Lets `rate` requests a second through, and `burst` at once.

    Args:
        clock: seconds, for tests
    """

    def __init__(self, rate: float = RATE, burst: float = BURST, clock=time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._left, self._then = burst, clock()

    def take(self) -> bool:
        """Whether one more may pass now."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._then) * self._rate)
        self._then = now
        passes = self._left >= 1
        self._left -= passes
        return passes


class Guard:
    """An ASGI app around another one.

    Args:
        app: what is guarded
        token: what every request must carry, in the query or in the cookie that the first one sets; None where only
            this machine can ask, and then its name is checked instead
        bucket: how often one may ask
    """

    def __init__(self, app: ASGIApp, token: str | None = None, bucket: Bucket | None = None) -> None:
        self._app, self._token, self._bucket = app, token, bucket or Bucket()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    answer[name] = value
                answer.setdefault("Cache-Control", "no-store")
                if self._token is not None and _same(given, self._token):
                    answer.append("Set-Cookie", f"{COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict")
            await send(message)

        refusal = self._refusal(scope, headers, given)
        app = self._app
        if refusal is not None:
            status, sentence = refusal
            app = JSONResponse({"error": sentence}, status, {"Retry-After": "1"} if status == 429 else None)
        await app(scope, receive, guarded)

    def _refusal(self, scope: Scope, headers: Headers, given: str) -> tuple[int, str] | None:
        if not self._bucket.take():
            return 429, "Too many requests: wait a second."
        if self._token is None:
            if _host(headers) not in LOOPBACK:
                return 421, "This viewer answers to 127.0.0.1 and localhost only: use the address that it printed."
        elif not (_same(given, self._token) or _same(_cookie(headers.get("cookie", "")), self._token)):
            return 403, "The token is missing or wrong: use the whole address that the viewer printed."
        return _body(headers) or (None if scope["method"] in ("GET", "HEAD") else _unsafe(scope["scheme"], headers))


def _body(headers: Headers) -> tuple[int, str] | None:
    """Why a body is refused, whatever the request is for."""
    if "transfer-encoding" in headers:
        return 411, "Send the body whole, with its Content-Length."
    lengths = headers.getlist("content-length") or ["0"]
    if len(lengths) > 1 or not (lengths[0].isascii() and lengths[0].isdecimal()):
        return 400, "Content-Length must be one number."
    if len(lengths[0]) > 12 or int(lengths[0]) > BODY_BYTES:
        return 413, f"The body is longer than {BODY_BYTES} bytes."
    return None


def _unsafe(scheme: str, headers: Headers) -> tuple[int, str] | None:
    """Why a request that changes something is refused."""
    origin = headers.get("origin")
    if origin is not None and origin != f"{scheme}://{headers.get('host', '')}":
        return 403, "A page of another origin may not change anything here."
    if headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        return 415, "Changes are sent as application/json."
    if "content-length" not in headers:
        return 411, "Send the body whole, with its Content-Length."
    return None


def _same(one: str, other: str) -> bool:
    return secrets.compare_digest(one.encode("utf-8", "replace"), other.encode())


def _host(headers: Headers) -> str:
    """The name in the Host header, without its port; empty where it is of any other form."""
    hosts = headers.getlist("host")
    found = HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    return found["name"].strip("[]").lower() if found else ""


def _cookie(value: str) -> str:
    try:
        found = SimpleCookie(value).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""
