"""What real connections meet: odd requests byte by byte, and clients that take their time."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator

import pytest

from tests.viewer.screen import serving
from wsiseg.viewer import patience
from wsiseg.viewer.scene import Scene

PATIENCE_S = 0.5


@pytest.fixture
def port(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(patience, "PATIENCE_S", PATIENCE_S)
    with serving(scene) as address:
        found = int(address.rsplit(":", 1)[1].strip("/"))
        while True:
            try:
                socket.create_connection(("127.0.0.1", found), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield found


def ask(port: int, *lines: str, body: bytes = b"") -> tuple[int, bytes]:
    """Status and all that comes back of a request; 0 where the connection was closed without an answer."""
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode() + body)
        answer = read(connection)
    return (int(answer.split()[1]) if answer else 0), answer


def read(connection: socket.socket) -> bytes:
    """All that comes until the other side closes, or falls silent for a second."""
    found = b""
    connection.settimeout(1)
    try:
        while part := connection.recv(65536):
            found += part
    except (TimeoutError, ConnectionResetError):
        pass
    return found


def decision(port: int, *headers: str, body: bytes = b'{"state": "accepted"}', host: str = "") -> int:
    host = host or f"127.0.0.1:{port}"
    lines = ("POST /api/layers/1/objects/0 HTTP/1.1", f"Host: {host}", "Content-Type: application/json", *headers)
    return ask(port, *lines, body=body)[0]


def test_a_body_is_told_by_its_length_alone(port: int, scene: Scene) -> None:
    chunked = b'15\r\n{"state": "accepted"}\r\n0\r\n\r\n'
    assert decision(port, "Content-Length: 4", "Transfer-Encoding: chunked", body=chunked) in (400, 411)
    assert decision(port, "Transfer-Encoding: chunked", body=chunked) == 411
    assert decision(port, "Content-Length: 21", "Content-Length: 2") == 400
    for length in ("-1", "+21", "0x15", "9" * 5000, "21 ", "٢١"):
        assert decision(port, f"Content-Length: {length}") in (200, 400, 413), length
    assert decision(port, "Content-Length: 99999999") == 413
    lines = ("GET /api/scene HTTP/1.1", f"Host: 127.0.0.1:{port}", "Content-Length: 99999999")
    assert ask(port, *lines)[0] == 413, "whatever the request is for"
    scene.reviews[1].path.unlink(missing_ok=True)
    assert decision(port, "Content-Length: 21") == 200
    assert json.loads(scene.reviews[1].path.read_bytes())["properties"]["wsiseg"]["accepted"] == [0]


@pytest.mark.parametrize(
    "host",
    ["evil.com@localhost", "evil.com@127.0.0.1", "localhost@evil.com", "localhost:8765@evil.com", "localhost:evil",
     "localhost/", "localhost#", "localhost?x", "127.0.0.1.evil.com", "[::1", "127.1", "2130706433"],
)  # fmt: skip
def test_a_host_is_a_name_and_a_port(port: int, host: str) -> None:
    assert ask(port, "GET /api/scene HTTP/1.1", f"Host: {host}")[0] in (400, 421)


def test_two_hosts_are_none(port: int) -> None:
    hosts = (f"Host: 127.0.0.1:{port}", "Host: evil.com")
    assert ask(port, "GET /api/scene HTTP/1.1", *hosts)[0] in (400, 421)


def test_the_origin_has_our_scheme_name_and_port(port: int, scene: Scene) -> None:
    ours = f"127.0.0.1:{port}"
    for origin in (f"https://{ours}", f"ftp://{ours}", ours, f"//{ours}", f"http://{ours}/", f"http://x@{ours}",
                   f"http://127.0.0.1:{port + 1}", f"http://localhost:{port}", "null"):  # fmt: skip
        assert decision(port, "Content-Length: 21", f"Origin: {origin}") == 403, origin
    assert not scene.reviews[1].path.exists()
    assert decision(port, "Content-Length: 21", f"Origin: http://{ours}") == 200


@pytest.mark.parametrize("digits", [10, 400, 5000])
def test_long_numbers_are_at_no_address(port: int, digits: int) -> None:
    many = "9" * digits
    for path in (f"/tiles/slide/{many}/0/0.jpeg", f"/tiles/slide/0/{many}/0.jpeg", f"/tiles/1/0/0/{many}.png",
                 f"/api/layers/{many}", f"/api/layers/1/objects/{many}"):  # fmt: skip
        status, answer = ask(port, f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}")
        assert status == 404, path[:40]
        assert b"error" in answer
    for query in (f"x={many}&y=0", f"x=1e{many}&y=0"):
        assert ask(port, f"GET /api/layers/1/at?{query} HTTP/1.1", f"Host: 127.0.0.1:{port}")[0] in (200, 400)
    status, _ = ask(port, f"GET /api/layers/1/objects?offset={many} HTTP/1.1", f"Host: 127.0.0.1:{port}")
    assert status == 400


def closed_after(connection: socket.socket) -> float:
    """Seconds until the other side closes."""
    began = time.monotonic()
    connection.settimeout(20)
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return time.monotonic() - began


def test_slow_clients_are_left(port: int) -> None:
    """Silent, and dripping: a byte now and then does not buy more time."""
    with socket.create_connection(("127.0.0.1", port), 30) as silent:
        assert closed_after(silent) < 10 * PATIENCE_S
    with socket.create_connection(("127.0.0.1", port), 30) as drip:
        began = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT012 - reset or broken, whichever comes first
            for byte in b"GET / HTTP/1.1\r\nHost: " + b"a" * 2000:
                drip.sendall(bytes([byte]))
                time.sleep(PATIENCE_S / 10)
        assert time.monotonic() - began < 10 * PATIENCE_S
    head = f"POST /api/layers/1/objects/0 HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", port), 30) as half:
        half.sendall(head.encode() + b"Content-Length: 21\r\n\r\n{")
        assert closed_after(half) < 10 * PATIENCE_S


def test_who_is_quick_is_not_left(port: int) -> None:
    """One connection is used for longer than the patience lasts."""
    request = f"GET /api/scene HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        for _ in range(5):
            connection.sendall(request)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            time.sleep(PATIENCE_S / 2)
            connection.setblocking(False)
            try:
                while connection.recv(65536):
                    pass
            except BlockingIOError:
                pass
            connection.settimeout(30)


def test_who_does_not_read_is_left(port: int) -> None:
    request = f"GET /static/openseadragon.min.js HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", port))
        deaf.settimeout(30)
        began = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT012
            while time.monotonic() - began < 20:
                deaf.sendall(request)
                time.sleep(0.02)
        assert time.monotonic() - began < 20
