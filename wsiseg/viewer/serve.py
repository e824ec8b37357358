"""The server of the viewer: one address, one process, until it is interrupted."""

from __future__ import annotations

import secrets
import socket
import webbrowser
from collections.abc import Callable

import uvicorn

from wsiseg.errors import AddressError
from wsiseg.viewer.app import make_app
from wsiseg.viewer.patience import PatientProtocol
from wsiseg.viewer.scene import Scene

LOOPBACK = "127.0.0.1"


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address; port 0 takes any free one.

    Raises:
        AddressError: the port is taken or forbidden, or the host is not an address of this machine
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise AddressError(f"{host} is not an address of this machine ({error.strerror}): leave out --host.") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()  # whoever comes early waits until the server has started
    except OSError as error:
        listener.close()
        raise AddressError(
            f"The viewer cannot listen at {host}, port {port} ({error.strerror}): choose another --port, or 0 for any."
        ) from error
    return listener


def configured(scene: Scene, token: str | None = None) -> uvicorn.Config:
    """How the server of a scene runs; see `Guard` for the token."""
    return uvicorn.Config(
        make_app(scene, token=token), log_level="error", access_log=False, server_header=False,
        timeout_graceful_shutdown=3, http=PatientProtocol,
    )  # fmt: skip


def serve(scene: Scene, listener: socket.socket, host: str, *, browse: bool, say: Callable[[str], None]) -> None:
    """Serve until interrupted; then save everything.

    Args:
        scene: what is on view; closed at the end
        listener: from `listen`
        host: the address that was asked for; any but 127.0.0.1 needs a token, which is made here
        browse: open the page in the browser
        say: told the address

    Raises:
        OutputError: a review could not be saved
    """
    token = None if host == LOOPBACK else secrets.token_urlsafe(16)
    port = listener.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{port}/" + (f"?token={token}" if token else "")

    try:
        say(f"{scene.slide.name} is on view at {address} (Ctrl+C ends)")
        if browse and not webbrowser.open(address):
            say("No browser could be opened here: open that address yourself.")
        uvicorn.Server(configured(scene, token)).run(sockets=[listener])
    except KeyboardInterrupt:
        say("")  # the usual way to end
    finally:
        listener.close()
        scene.close()
    for review in scene.reviews.values():
        if review.path.exists():
            say(f"{review.path}: the review, to be used as annotations")
