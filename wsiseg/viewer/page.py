"""The files of the page, read once."""

from __future__ import annotations

from html import escape
from importlib.resources import files

TYPES = {"js": "text/javascript", "css": "text/css", "html": "text/html"}
FOLDER = files("wsiseg.viewer") / "static"
# OpenSeadragon 6.1.1, whole and as it comes from its package, with its licence beside it
PARTS = [*(part for part in FOLDER.iterdir() if part.is_file()), FOLDER / "openseadragon" / "openseadragon.min.js"]
STATIC = {part.name: (part.read_bytes(), TYPES[part.name.rsplit(".", 1)[-1]]) for part in PARTS}
PAGE = STATIC.pop("index.html")[0]
_ERROR = STATIC.pop("error.html")[0].decode()


def error_page(status: int, sentence: str) -> bytes:
    """A page that says what is wrong and links back."""
    return _ERROR.replace("{status}", str(status)).replace("{sentence}", escape(sentence)).encode()
