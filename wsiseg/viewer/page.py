"""The files of the page, read once."""

from __future__ import annotations

from html import escape
from importlib.resources import files

TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
# OpenSeadragon 6.1.1, whole and as it comes from its package, with its licence beside it
OPENSEADRAGON = "openseadragon.min.js"


def _read() -> dict[str, tuple[bytes, str]]:
    folder = files("wsiseg.viewer") / "static"
    found = {
        part.name: (part.read_bytes(), TYPES["." + part.name.rsplit(".", 1)[-1]])
        for part in folder.iterdir()
        if part.is_file()
    }
    library = folder / "openseadragon" / OPENSEADRAGON
    return found | {OPENSEADRAGON: (library.read_bytes(), TYPES[".js"])}


STATIC = _read()
PAGE = STATIC.pop("index.html")[0]
_ERROR = STATIC.pop("error.html")[0].decode()


def error_page(status: int, sentence: str) -> bytes:
    """A page that says what is wrong and links back."""
    return _ERROR.replace("{status}", str(status)).replace("{sentence}", escape(sentence)).encode()
