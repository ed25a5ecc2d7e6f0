"""Who may ask the explorer, and what it answers with.

On 127.0.0.1 only pages of that address may ask: a request under another host's name comes from a page elsewhere that
made its name point here. On another address a token is asked for, once in the address, then by a cookie. Answers name
the only places that a page may load from: its own.
"""

from __future__ import annotations

import hmac
from typing import Any
from urllib.parse import urlencode, urlsplit

from flask import Flask, Response, redirect, request

__all__ = ["COOKIE", "LIMIT", "guard"]

COOKIE = "neurochains-explorer"
LIMIT = 40_000_000
"""Bytes that one request may have: a dropped picture in base64, with room."""

_HERE = {"127.0.0.1", "localhost", "::1"}
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; worker-src 'self' blob:; connect-src 'self'; object-src 'none'; "
    "base-uri 'none'; form-action 'self'"
)


def guard(server: Flask, token: str | None, *, framed: bool = False) -> None:
    """Let a server answer to those only who may ask.

    Args:
        server: of the application.
        token: what they must know; None where only this machine can reach it.
        framed: whether its pages may stand inside another, such as a notebook.
    """
    server.config["MAX_CONTENT_LENGTH"] = LIMIT
    server.before_request(_same_host if token is None else lambda: _knows(token))
    policy = _POLICY if framed else f"{_POLICY}; frame-ancestors 'self'"  # "*" would leave editors' schemes out
    server.after_request(lambda answer: _headed(answer, policy))


def _same_host() -> Any:
    host = urlsplit(f"//{request.host}").hostname
    origin = request.headers.get("Origin")
    strange = origin is not None and urlsplit(origin).netloc != request.host
    return None if host in _HERE and not strange else Response("This explorer is for its own machine only.", 403)


def _knows(token: str) -> Any:
    given = request.args.get("token")
    if given is not None and hmac.compare_digest(given.encode(), token.encode()):
        rest = {name: value for name, value in request.args.items(multi=False) if name != "token"}
        answer = redirect(request.path + (f"?{urlencode(rest)}" if rest else ""))
        answer.set_cookie(COOKIE, token, httponly=True, samesite="Strict")
        return answer
    kept = request.cookies.get(COOKIE, "")
    origin = request.headers.get("Origin")
    strange = origin is not None and urlsplit(origin).netloc != request.host
    if hmac.compare_digest(kept.encode(), token.encode()) and not strange:
        return None
    return Response("This explorer asks for its token: open the address that it printed.", 403)


def _headed(answer: Response, policy: str) -> Response:
    answer.headers["Content-Security-Policy"] = policy
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer
