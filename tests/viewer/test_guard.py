"""Who may ask, how often, and what no request can do."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from tests.viewer.conftest import HOST
from wsiseg.viewer.app import make_app
from wsiseg.viewer.guard import BODY_BYTES, COOKIE, Bucket
from wsiseg.viewer.scene import Scene
from wsiseg.viewer.tiles import TileCache, TileMaker


def test_every_answer_carries_the_policy(client: TestClient) -> None:
    for path in ("/", "/api/scene", "/static/app.js", "/nothing", "/tiles/slide/0/0/0.jpeg"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
    page = client.get("/").text
    assert "<style" not in page
    assert "style=" not in page
    assert "<script>" not in page
    assert "http" not in page, "no other host"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "", "[", "localhost.evil"]
)
def test_another_name_of_this_machine_is_refused(client: TestClient, host: str) -> None:
    answer = client.get("/api/scene", headers={"Host": host})
    assert answer.status_code == 421
    assert "error" in answer.json()


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:9", "LOCALHOST", "[::1]:8765"])
def test_own_names_are_answered(client: TestClient, host: str) -> None:
    assert client.get("/api/scene", headers={"Host": host}).status_code == 200


def test_changes_come_from_the_page_itself(client: TestClient, scene: Scene) -> None:
    path, body = "/api/layers/1/objects/0", {"state": "accepted"}
    assert client.post(path, json=body, headers={"Origin": "http://evil.example"}).status_code == 403
    assert client.post(path, json=body, headers={"Origin": "null"}).status_code == 403
    assert client.post(path, json=body, headers={"Origin": "http://["}).status_code == 403
    assert client.post(path, data={"state": "accepted"}).status_code == 415
    assert client.post(path, content=b'{"state":"accepted"}', headers={"Content-Type": "text/plain"}).status_code == 415
    kind = {"Content-Type": "application/json"}
    assert client.post(path, content=b" " * (BODY_BYTES + 1), headers=kind).status_code == 413
    assert client.post(path, content=iter([b"{}"]), headers=kind).status_code == 411
    assert not scene.reviews[1].path.exists()
    assert client.post(path, json=body, headers={"Origin": HOST}).status_code == 200


def test_the_token(scene: Scene) -> None:
    with TestClient(make_app(scene, token="öpen-sesame"), base_url="http://host.example:8765") as client:
        for path in ("/", "/api/scene", "/static/app.js", "/?token=wrong", "/?token=", "/?token=%ff"):
            answer = client.get(path)
            assert answer.status_code == 403, path
            assert "set-cookie" not in answer.headers
    with TestClient(make_app(scene, token="sesame"), base_url="http://host.example:8765") as client:
        assert client.get("/", headers={"Cookie": f"{COOKIE}=wrong"}).status_code == 403
        first = client.get("/?token=sesame")
        assert first.status_code == 200
        cookie = first.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert client.get("/api/scene").status_code == 200, "the cookie is enough from then on"


def test_the_rate_is_limited(scene: Scene) -> None:
    now = [0.0]
    bucket = Bucket(rate=2, burst=5, clock=lambda: now[0])
    with TestClient(make_app(scene, bucket=bucket), base_url=HOST) as client:
        found = [client.get("/").status_code for _ in range(7)]
        assert found == [200] * 5 + [429] * 2
        assert client.get("/").headers["retry-after"] == "1"
        now[0] = 1.0
        assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]


def test_the_cache_drops_what_was_not_used_for_longest() -> None:
    cache = TileCache(limit=100)
    for key in "abc":
        cache.put(key, bytes(40))
        cache.get("a")
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (bytes(40), None, bytes(40))
    cache.put("a", bytes(10))
    cache.put("large", bytes(101))
    assert len(cache) == 0


def test_few_tiles_are_made_at_once_and_none_for_who_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsiseg.viewer.tiles.MOST_WAITING", 6)
    lock, running, most, made = threading.Lock(), 0, 0, []
    hold = threading.Event()

    def make(key: int) -> bytes:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        hold.wait(5)
        with lock:
            running -= 1
            made.append(key)
        return bytes([key])

    async def ask(tiles: TileMaker, key: int) -> bytes:
        async def gone() -> bool:
            return key == 4

        return await tiles.get(key, lambda: make(key), gone)

    async def main() -> list[Any]:
        tiles = TileMaker(workers=2)
        asked = [asyncio.create_task(ask(tiles, key)) for key in range(8)]
        await asyncio.sleep(0.2)
        hold.set()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert await ask(tiles, 4 - 4) == b"\0", "from the cache"
        tiles.close()
        return list(found)

    found = asyncio.run(main())
    assert most == 2
    assert sorted(made) == [0, 1, 2, 3, 5]
    assert found[4].status_code == 410
    assert all(found[n].status_code == 503 for n in (6, 7))


KNOWN = (
    *("tiles", "api", "layers", "slide", "static", "objects", "at", "accept", "scene", "app.js", "etc", "passwd"),
    *("..", "%2e%2e", "%2e%2e%2fapp.py", "%00", "0", "1", "-1", "99999999999999999999", "0.png", "0.jpeg"),
    *("%D9%A3", "1.5", "NaN"),
)
WORDS = st.sampled_from(KNOWN) | st.text(st.characters(codec="utf-8"), max_size=8).map(
    lambda text: quote(text, safe="")
)
VALUES = st.one_of(
    st.integers(-3, 10**20).map(str),
    st.floats().map(str),
    st.text(max_size=6),
    st.sampled_from(["area", "1", "0-ff0000"]),
)
KEYS = ("x", "y", "sort", "limit", "offset", "class", "state", "fill", "hide", "colours", "descending", "token")
QUERIES = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=4)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["accepted", "rejected"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["state", "label", "x"]), inner, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(words=st.lists(WORDS, max_size=6), query=QUERIES)
def test_no_address_breaks_the_server(client: TestClient, words: list[str], query: dict[str, str]) -> None:
    path = "/" + "/".join(words)
    answer = client.get(HOST + path, params=query)
    assert answer.status_code in (200, 307, 400, 404, 405, 429), (path, answer.status_code)
    assert b"root:" not in answer.content


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(layer=st.integers(-1, 8), end=st.sampled_from(["objects", "at", "objects/3", "", "accept"]), query=QUERIES)
def test_no_question_about_a_layer_breaks_the_server(
    client: TestClient, layer: int, end: str, query: dict[str, str]
) -> None:
    answer = client.get(f"/api/layers/{layer}/{end}", params=query)
    assert answer.status_code in (200, 307, 400, 404, 405, 429), (layer, end, query)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(layer=st.integers(0, 7), number=st.integers(0, 10**19), body=JSON)
def test_no_decision_breaks_the_server(client: TestClient, scene: Scene, layer: int, number: int, body: object) -> None:
    answer = client.post(
        f"/api/layers/{layer}/objects/{number}", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in (200, 400, 404, 429)
    beside = {p.name for p in scene.reviews[1].path.parent.iterdir()}
    assert beside <= {"prediction.geojson", "truth.geojson", "labels.zarr", "prediction.reviewed.geojson"}
