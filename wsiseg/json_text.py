"""JSON from a file that somebody else may have written: parsed, or refused in one sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        OSError: it cannot be read
        ValueError: it is not JSON in UTF-8, is nested too deeply, or holds a number of thousands of digits; the message
            is half a sentence without a full stop
    """
    text = path.read_text(encoding="utf-8")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except ValueError:  # Python's limit on the digits of a whole number
        raise ValueError("a number in it has thousands of digits") from None
