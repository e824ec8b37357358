"""Connections that take too long are closed, so that slow or silent clients cannot hold them for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

PATIENCE_S = 10.0  # for a whole request to arrive, and for an answer to be taken


class PatientProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with two deadlines.

    A request, body included, has to be here `PATIENCE_S` after its first byte (the first one: after the connection was
    made); and whoever does not read for as long loses the connection.
    """

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._deadlines: dict[str, asyncio.TimerHandle] = {}
        self._wait("request")

    def data_received(self, data: bytes) -> None:
        """Stop waiting when the request is whole."""
        super().data_received(data)
        (self._wait if self.conn.their_state in (h11.IDLE, h11.SEND_BODY) else self._forget)("request")

    def pause_writing(self) -> None:
        """The client does not read: wait for a while."""
        super().pause_writing()
        self._wait("reader")

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self._forget("reader")

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left to wait for."""
        self._forget("request")
        self._forget("reader")
        super().connection_lost(exc)

    def _wait(self, what: str) -> None:
        if what not in self._deadlines:
            self._deadlines[what] = self.loop.call_later(PATIENCE_S, self.transport.abort)

    def _forget(self, what: str) -> None:
        if what in self._deadlines:
            self._deadlines.pop(what).cancel()
