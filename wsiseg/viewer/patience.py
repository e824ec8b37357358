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

    _arriving: asyncio.TimerHandle | None = None
    _stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._arriving = self.loop.call_later(PATIENCE_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        """Stop waiting when the request is whole."""
        super().data_received(data)
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY):
            if self._arriving is None:
                self._arriving = self.loop.call_later(PATIENCE_S, self.transport.abort)
        elif self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None

    def pause_writing(self) -> None:
        """The client does not read: wait for a while."""
        super().pause_writing()
        self._stuck = self.loop.call_later(PATIENCE_S, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self._forget("_stuck")

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is left to wait for."""
        self._forget("_arriving")
        self._forget("_stuck")
        super().connection_lost(exc)

    def _forget(self, name: str) -> None:
        timer = getattr(self, name)
        if timer is not None:
            timer.cancel()
        setattr(self, name, None)
