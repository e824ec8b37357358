"""The routes. No part of a request becomes a path: everything that can be requested is in tables made at the start.

/                                                   the page
/static/NAME                                        its parts
/api/scene                                          slide and layers
/api/layers/N                                       one layer: classes, counts, revision
/api/layers/N/objects?sort&descending&class&state&offset&limit
/api/layers/N/objects/M                             POST {"state", "label"} decides on an object
/api/layers/N/at?x&y                                the object at a point in level-0 px
/api/layers/N/accept                                POST accepts all that nobody has decided on
/api/layers/N/edit                                  POST an `Edit`: draws, corrects, deletes
/api/layers/N/undo, redo                            POST one step back, one forth
/tiles/slide/LEVEL/COLUMN/ROW.jpeg                  or .png, exact
/tiles/N/LEVEL/COLUMN/ROW.png?fill&hide&colours
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable
from contextlib import asynccontextmanager
from typing import Any

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.convertors import IntegerConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from wsiseg.errors import WsisegError
from wsiseg.geometry import Box, Frame
from wsiseg.viewer.edit import Edit
from wsiseg.viewer.guard import Bucket, Guard
from wsiseg.viewer.outlines import GONE, STATES, OutlineLayer
from wsiseg.viewer.page import PAGE, STATIC, error_page
from wsiseg.viewer.review import Review
from wsiseg.viewer.scene import Scene
from wsiseg.viewer.style import Style, photograph, png
from wsiseg.viewer.tiles import TileMaker

MOST_ROWS = 200  # objects in one answer
FOREVER = "private, max-age=86400, immutable"  # the address of a tile has all that it depends on


class _Json(JSONResponse):
    """JSON in which a name of bytes that are no text, such as some file names are, stays readable."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


class _Number(IntegerConvertor):
    """A number in an address, of at most nine digits; longer ones are at no address."""

    regex = "[0-9]{1,9}"


register_url_convertor("number", _Number())


def make_app(scene: Scene, *, token: str | None = None, bucket: Bucket | None = None) -> Guard:
    """The app of a scene.

    Args:
        scene: what is on view
        token: see `Guard`
        bucket: see `Guard`
    """
    views = _Views(scene)

    @asynccontextmanager
    async def lifespan(_: Starlette):
        yield
        views.tiles.close()

    handlers: dict[Any, Any] = {HTTPException: _http_error, WsisegError: _told}
    return Guard(Starlette(routes=views.routes(), exception_handlers=handlers, lifespan=lifespan), token, bucket)


class _Views:
    """The answers to all requests."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.pyramid, self.tiles = scene, scene.pyramid, TileMaker()

    def routes(self) -> list[Route]:
        """The table of routes."""
        layer = "/api/layers/{layer:number}"
        return [
            Route("/", self.page),
            Route("/static/{name}", self.static),
            Route("/api/scene", self.about_scene),
            Route(layer, self.about_layer),
            Route(layer + "/objects", self.objects),
            Route(layer + "/objects/{number:number}", self.decide, methods=["POST"]),
            Route(layer + "/accept", self.accept, methods=["POST"]),
            Route(layer + "/edit", self.edit, methods=["POST"]),
            Route(layer + "/undo", self.undo, methods=["POST"]),
            Route(layer + "/redo", self.redo, methods=["POST"]),
            Route(layer + "/at", self.at),
            Route("/tiles/slide/{level:number}/{column:number}/{row:number}.{kind}", self.slide_tile),
            Route("/tiles/{layer:number}/{level:number}/{column:number}/{row:number}.png", self.layer_tile),
        ]

    async def page(self, request: Request) -> Response:
        return Response(PAGE, media_type="text/html")

    async def static(self, request: Request) -> Response:
        found = STATIC.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        body, kind = found
        return Response(body, media_type=kind, headers={"Cache-Control": "no-cache"})

    async def about_scene(self, request: Request) -> Response:
        return _Json(await self.tiles.run(self.scene.describe))

    async def about_layer(self, request: Request) -> Response:
        number = self.layer_number(request)
        return _Json(await self.tiles.run(lambda: self.scene.about(number)))

    async def objects(self, request: Request) -> Response:
        layer, query = self.outlines(request), request.query_params
        descending, state = query.get("descending", "1"), query.get("state", "")
        if descending not in ("0", "1") or state not in ("", *STATES[:GONE]):
            raise HTTPException(400, "descending is 0 or 1, and state is unreviewed, accepted or rejected.")
        label = _number(query.get("class", "-1"), -1, len(layer.names) - 1)
        offset = _number(query.get("offset", "0"), 0, 2**31)
        limit = _number(query.get("limit", "50"), 1, MOST_ROWS)

        def listed() -> dict[str, Any]:
            found = layer.listed(
                query.get("sort", "area"), descending == "1", label=None if label < 0 else label,
                state=STATES.index(state) if state else None,
            )  # fmt: skip
            if found is None:
                raise HTTPException(400, "The objects cannot be sorted by that.")
            rows = [layer.row(n) for n in found[offset : offset + limit].tolist()]
            return {"total": len(found), "offset": offset, "rows": rows}

        return _Json(await self.tiles.run(listed))

    async def at(self, request: Request) -> Response:
        layer = self.outlines(request)
        x, y = (_real(request.query_params.get(axis, "")) for axis in "xy")
        found = await self.tiles.run(lambda: layer.at(x, y))
        return _Json(None if found is None else layer.row(found))

    async def decide(self, request: Request) -> Response:
        review, body = self.review(request), await _json(request)
        number, state, label = request.path_params["number"], body.get("state"), body.get("label")
        if not isinstance(state, str) or not (label is None or isinstance(label, str)):
            raise HTTPException(400, "A decision is a state and, perhaps, a label.")
        if not review.decide([number], state, label):
            raise HTTPException(400, "There is no such object, state or class.")
        return await self.saved(review, review.layer.row(number))

    async def accept(self, request: Request) -> Response:
        review = self.review(request)
        await _json(request)
        return await self.saved(review, {"accepted": review.accept_rest()})

    async def edit(self, request: Request) -> Response:
        review = self.review(request)
        try:
            wanted = Edit.model_validate_json(await request.body())
        except ValidationError as error:
            wrong = error.errors()[0]
            place = ".".join(map(str, wrong["loc"])) or "The body"
            raise HTTPException(400, f"This is no edit: {place}: {wrong['msg']}.") from None
        try:
            left = await run_in_threadpool(review.edit, wanted)
        except ValueError as error:
            raise HTTPException(400, str(error)) from None
        return await self.saved(review, self.rows(review, left))

    async def undo(self, request: Request) -> Response:
        return await self.step(request, back=True)

    async def redo(self, request: Request) -> Response:
        return await self.step(request, back=False)

    async def step(self, request: Request, *, back: bool) -> Response:
        review = self.review(request)
        left = review.step(back=back)
        if left is None:
            raise HTTPException(400, f"There is nothing to {'undo' if back else 'redo'}.")
        return await self.saved(review, self.rows(review, left))

    def rows(self, review: Review, numbers: list[int]) -> dict[str, Any]:
        return {"objects": [review.layer.row(n) for n in numbers[:MOST_ROWS]]}

    async def saved(self, review: Review, answer: dict[str, Any]) -> Response:
        await run_in_threadpool(review.save)
        return _Json(answer)

    async def slide_tile(self, request: Request) -> Response:
        kind = request.path_params["kind"]
        if kind not in ("jpeg", "png"):
            raise HTTPException(404)
        box, frame = self.box(request)
        key = (frame.mpp, box, kind)
        return await self.tile(request, key, lambda: photograph(self.scene.slide.read(box, frame), kind), kind)

    async def layer_tile(self, request: Request) -> Response:
        number = self.layer_number(request)
        layer, style = self.scene.layers[number], Style.from_query(request.query_params)
        if style is None:
            raise HTTPException(400, "The style is not of the form fill=1&hide=0.2&colours=1-ff8800.")
        box, frame = self.box(request)
        key = (number, layer.revision, frame.mpp, box, style.key)
        return await self.tile(request, key, lambda: png(*layer.tile(box, frame, style)), "png")

    async def tile(self, request: Request, key: Hashable, make: Callable[[], bytes], kind: str) -> Response:
        body = await self.tiles.get(key, make, request.is_disconnected)
        return Response(body, media_type=f"image/{kind}", headers={"Cache-Control": FOREVER})

    def box(self, request: Request) -> tuple[Box, Frame]:
        """The box of the tile that is asked for and the plane of its level; 404 where there is none."""
        level, column, row = (request.path_params[name] for name in ("level", "column", "row"))
        box = self.pyramid.tile(level, column, row)
        if box is None:
            raise HTTPException(404, "There is no such tile.")
        return box, self.pyramid.frame(level)

    def layer_number(self, request: Request) -> int:
        number = request.path_params["layer"]
        if number >= len(self.scene.layers):
            raise HTTPException(404, "There is no such layer.")
        return number

    def outlines(self, request: Request) -> OutlineLayer:
        layer = self.scene.layers[self.layer_number(request)]
        if not isinstance(layer, OutlineLayer):
            raise HTTPException(404, "This layer has no objects.")
        return layer

    def review(self, request: Request) -> Review:
        review = self.scene.reviews.get(self.layer_number(request))
        if review is None:
            raise HTTPException(404, "This layer cannot be reviewed.")
        return review


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    api = request.url.path.startswith(("/api/", "/tiles/", "/static/"))
    sentence = error.detail if error.detail not in ("Not Found", "") else "There is nothing at this address."
    if api:
        return _Json({"error": sentence}, error.status_code, headers=error.headers)
    return Response(error_page(error.status_code, sentence), error.status_code, error.headers, "text/html")


async def _told(request: Request, error: Exception) -> Response:
    """A slide that cannot be read there, a place that cannot be written: the sentence of the error, for the page."""
    return _Json({"error": str(error)}, 409)


async def _json(request: Request) -> dict[str, Any]:
    """The body as a JSON object; `Guard` has looked at its length."""
    try:
        value = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise HTTPException(400, "The body is not JSON.") from None
    if not isinstance(value, dict):
        raise HTTPException(400, "The body is not a JSON object.")
    return value


def _number(text: str, least: int, most: int) -> int:
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 10 and least <= int(text) <= most):
        raise HTTPException(400, f"A number from {least} to {most} is wanted.")
    return int(text)


def _real(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise HTTPException(400, "x and y are numbers, in level-0 px.")
    return value
