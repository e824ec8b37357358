"""`wsiseg view` as a command: what it refuses, and how it ends."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slides.make import pyramid, texture, write_tiff
from tests.viewer.scenes import outlines, write, write_labels

COMMAND = [sys.executable, "-c", "from wsiseg.cli import main; main()", "view"]


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiff(tmp_path_factory.mktemp("slide") / "slide.tif", pyramid(texture(600, 400), (2,)), mpp=0.5)


def test_what_it_refuses_is_one_sentence(slide: Path, tmp_path: Path) -> None:
    """In one process, since starting takes longer than refusing."""
    said = write(tmp_path / "said.geojson", outlines())
    labels = write_labels(tmp_path / "labels.zarr")
    broken = tmp_path / "broken.geojson"
    broken.write_text("{")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        cases = [
            ([tmp_path / "none.svs"], "none.svs"),
            ([slide, tmp_path / "none.geojson"], "none.geojson"),
            ([slide, broken], "broken.geojson"),
            ([slide, labels], "another size"),
            ([slide, tmp_path / "none.zarr"], "no label map"),
            ([slide, said, said], "given twice"),
            ([slide, "--reference", said], "no outlines to compare"),
            ([slide, "--host", "192.0.2.7"], "cannot listen"),
            ([slide, "--host", "no such host"], "not an address"),
        ]
        script = (
            "import sys, json\nfrom wsiseg.cli import main\n"
            "for words in json.loads(sys.argv[1]):\n"
            "    sys.argv = ['wsiseg', 'view', *words]\n"
            "    try:\n        main()\n"
            "    except SystemExit as end:\n        print(end.code, flush=True)\n"
        )
        every = [[*map(str, words), "--no-browser", "--port", "0"] for words, _ in cases]
        every.append([str(slide), "--no-browser", "--port", str(port)])
        done = subprocess.run([sys.executable, "-c", script, json.dumps(every)], capture_output=True, text=True)
    assert done.stdout.split() == ["2"] * len(every), done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("wsiseg: ")]
    assert "Traceback" not in done.stderr
    assert len(lines) == len(every)
    for line, (_, part) in zip(lines, [*cases, ([], f"port {port}")], strict=True):
        assert part in line
        assert line.endswith((".", "again)."))


def test_it_answers_until_it_is_interrupted_and_loads_no_torch(slide: Path, tmp_path: Path) -> None:
    said = write(tmp_path / "said.geojson", outlines())
    script = (
        "import sys, atexit; from wsiseg.cli import main;atexit.register(lambda: print('torch' in sys.modules)); main()"
    )
    words = [sys.executable, "-c", script, "view", str(slide), str(said), "--no-browser", "--port", "0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    assert process.stderr is not None
    port = 0
    for line in process.stderr:
        if found := re.search(r"http://127\.0\.0\.1:(\d+)/ ", line):
            port = int(found[1])
            break
    assert port
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/api/scene")
        assert b"said.geojson" in connection.getresponse().read()
        body = b'{"state": "accepted"}'
        connection.request("POST", "/api/layers/1/objects/0", body, {"Content-Type": "application/json"})
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "said.reviewed.geojson" in err
    assert out == "False\n", "torch was loaded"


def test_another_address_needs_the_token(slide: Path) -> None:
    words = [*COMMAND, str(slide), "--no-browser", "--port", "0", "--host", "0.0.0.0"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = next(line for line in process.stderr if "http://" in line)
        found = re.search(r"http://0\.0\.0\.0:(\d+)/\?token=([\w-]{20,})", line)
        assert found, line
        for path, status in (("/", 403), (f"/?token={found[2]}", 200)):
            connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
            connection.request("GET", path)
            assert connection.getresponse().status == status
            connection.close()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
