"""Vision transformers as encoders: shapes, weights from a file, what learns, and what a bundle keeps."""

from __future__ import annotations

import json
import re
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from pydantic import ValidationError
from safetensors.torch import save_file

from wsiseg.bundle import load_bundle, save_bundle
from wsiseg.classes import ClassMap
from wsiseg.errors import BundleError, RecipeError
from wsiseg.inference.engines import make_engine
from wsiseg.nets.finetune import LowRank, restrict
from wsiseg.nets.segmentation import Architecture, SegmentationNet
from wsiseg.nets.weights import load_imagenet
from wsiseg.recipe import load_recipe
from wsiseg.recipe.schema import Model
from wsiseg.training.start import build_network
from wsiseg.usage import Usage

SMALL: dict[str, Any] = {"depth": 4, "embed_dim": 48, "num_heads": 3}
SWIGLU: dict[str, Any] = {"mlp_layer": "SwiGLUPacked", "act_layer": "silu", "mlp_ratio": 5.34, **SMALL}
KINDS = {
    "patch 16": ("tu-vit_base_patch16_224", SMALL),
    "patch 14": ("tu-vit_small_patch14_dinov2", SMALL),
    "registers": ("tu-vit_base_patch14_reg4_dinov2", SWIGLU),
    "rotary": ("tu-vit_small_patch16_dinov3", {"depth": 4, "embed_dim": 96, "num_heads": 3}),
}


def network(kind: str = "patch 16", **options: Any) -> SegmentationNet:
    torch.manual_seed(0)
    encoder, known = KINDS[kind]
    architecture = Architecture(
        encoder,
        3,
        (0.5, 0.5, 0.5),
        (0.2, 0.2, 0.2),
        16,
        network="DPT",
        encoder_options=known | options,  # type: ignore[arg-type]  # checked by the architecture
    )
    assert Architecture.from_json(architecture.to_json()) == architecture
    return SegmentationNet(architecture).eval()


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_every_pixel_gets_a_label_that_depends_on_what_is_there(kind: str) -> None:
    net = network(kind)
    image = torch.rand(1, 3, 160, 96)
    plain = net(image)
    assert plain.shape == (1, 3, 160, 96)
    changed = image.clone()
    changed[..., :16, :16] = 1 - changed[..., :16, :16]
    difference = (net(changed) - plain).abs().amax(1)[0]
    assert difference[:16, :16].mean() > 2 * difference[-32:, -32:].mean() > 0


@pytest.mark.parametrize(("training", "learning"), [("all", 1.0), ("frozen", 0.0), (1, 0.25), ("lora", 0.1)])
def test_what_learns(training: Any, learning: float) -> None:
    net = network()
    image = torch.rand(2, 3, 64, 64)
    before = net(image).detach()
    restrict(net.net.encoder, training)
    assert torch.allclose(net(image), before, atol=1e-5), "at first nothing changes"
    old = {name: p.detach().clone() for name, p in net.net.encoder.named_parameters()}
    optimiser = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(2):  # the second step moves `down`, whose gradient is 0 while `up` is
        optimiser.zero_grad()
        net.train()(image).square().mean().backward()
        optimiser.step()
    changed = {name for name, p in net.net.encoder.named_parameters() if not torch.equal(p, old[name])}
    if training == "frozen":
        assert not changed
    elif training == 1:
        assert changed
        assert all(name.startswith("model.blocks.3.") for name in changed)
    elif training == "lora":
        assert changed
        assert all(name.endswith((".down", ".up")) for name in changed)
    else:
        assert any(name.startswith("model.patch_embed") for name in changed)
    exported = net.eval().without_heads()
    assert set(exported.state_dict()) == set(network().state_dict()), "a bundle holds a plain network"
    assert torch.allclose(exported(image), net(image), atol=1e-5)
    assert any(isinstance(m, LowRank) for m in net.modules()) == (training == "lora"), "the network itself goes on"


@pytest.mark.parametrize("training", [0, -1, "some"])
def test_a_number_of_blocks_is_at_least_one(training: Any) -> None:
    with pytest.raises(ValidationError):
        Model(encoder_training=training)


def test_impossible_requests() -> None:
    with pytest.raises(RecipeError, match="has 4 blocks"):
        restrict(network().net.encoder, 9)
    plain = SegmentationNet(Architecture("resnet18", 2, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 16))
    with pytest.raises(RecipeError, match="DPT"):
        restrict(plain.net.encoder, "lora")
    with pytest.raises(BundleError, match="no vision transformer"):
        SegmentationNet(Architecture("tu-resnet18", 2, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 16, network="DPT"))
    with pytest.raises(BundleError, match="never does"):
        Architecture("hf-hub:somebody/model", 2, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 16, network="DPT")


def test_a_frozen_encoder_keeps_its_batch_statistics() -> None:
    net = SegmentationNet(Architecture("resnet18", 2, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), 16))
    restrict(net.net.encoder, "frozen")
    before = net.net.encoder.bn1.running_mean.clone()
    net.train()(torch.rand(2, 3, 64, 64))
    assert torch.equal(net.net.encoder.bn1.running_mean, before)


def test_weights_from_a_file_whose_transformer_differs(tmp_path: Path) -> None:
    """Layer scale (`init_values`) is in no name: weights that have it must not be read without it."""
    source = network(init_values=1e-5)
    tensors = {name.removeprefix("model."): value for name, value in source.net.encoder.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    same = network(init_values=1.0)
    load_imagenet(same.net.encoder, "tu-vit_base_patch16_224", tmp_path / "model.safetensors")
    for name, value in source.net.encoder.state_dict().items():
        assert torch.equal(same.net.encoder.state_dict()[name], value)
    with pytest.raises(BundleError, match=r"blocks\.0\.ls1\.gamma in .*encoder_options"):
        load_imagenet(network().net.encoder, "tu-vit_base_patch16_224", tmp_path / "model.safetensors")


def test_engines_agree_on_a_bundle(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    classes = ClassMap.from_json(
        [{"index": i, "name": name, "color": [i, i, i]} for i, name in enumerate(("Background", "A", "B"))]
    )
    usage = Usage(mpp=1.0, tile=96, overlap=32, batch=2)
    save_bundle(tmp_path / "m", network("patch 14"), name="m", classes=classes, usage=usage, provenance={}, metrics={})
    bundle = load_bundle(tmp_path / "m")
    images = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), np.uint8)
    ours, other = (make_engine(bundle, name, "cpu").probabilities(images) for name in ("torch", "openvino"))
    assert np.allclose(ours, other, atol=0.02)
    assert ours.std() > 0


class Hub(BaseHTTPRequestHandler):
    """The few addresses of the hub that a download needs, over one weight file."""

    weights = b""
    gated = False

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        if self.gated:
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "terms"})
        elif self.path.startswith("/api/models/lab/vit"):
            info = {
                "id": "lab/vit", "sha": "0" * 40, "siblings": [{"rfilename": "model.safetensors"}],
                "cardData": {"license": "cc-by-nc-nd-4.0"},
            }  # fmt: skip
            self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})
        elif self.path == f"/lab/vit/resolve/{'0' * 40}/model.safetensors":
            self._send(200, self.weights, {"ETag": '"e"', "X-Repo-Commit": "0" * 40})
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


REFUSALS = {"unknown": "check its name", "gated": "accept them at", "no server": "check the connection"}


@pytest.mark.parametrize("case", ["there", *REFUSALS])
def test_weights_from_the_hub_for_a_recipe_that_asks(
    tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = network()
    tensors = {name.removeprefix("model."): value for name, value in source.net.encoder.state_dict().items()}
    save_file(tensors, tmp_path / "w.safetensors")
    handler = type("Mine", (Hub,), {"weights": (tmp_path / "w.safetensors").read_bytes(), "gated": case == "gated"})
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'name = "a"\nclasses = {names = ["Background", "A"]}\ndata = {slides = "s.csv", mpp = 1.0}\n'
        'training = {steps = 1, crop = 32}\nmethod = {name = "supervised"}\n'
        '[model]\nnetwork = "DPT"\nencoder = "tu-vit_base_patch16_224"\n'
        f'weights = "hf-hub:lab/{"vot" if case == "unknown" else "vit"}"\ndecoder_channels = 16\n'
        "encoder_options = {depth = 4, embed_dim = 48, num_heads = 3}\n"
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{9 if case == 'no server' else server.server_address[1]}"
        url = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        for name, value in {
            "ENDPOINT": address, "HUGGINGFACE_CO_URL_TEMPLATE": url, "HF_HUB_CACHE": str(tmp_path / "hub"),
            "HF_HUB_DISABLE_XET": True,
        }.items():  # fmt: skip
            monkeypatch.setattr(constants, name, value)  # as the variables HF_ENDPOINT and HF_HOME do at the start
        try:
            if case == "there":
                net, origin = build_network(load_recipe(recipe), 2)
            else:
                with pytest.raises(BundleError, match=REFUSALS[case]):
                    build_network(load_recipe(recipe), 2)
        finally:
            server.shutdown()
            thread.join()
    if case == "there":
        assert origin.startswith("hf-hub:lab/vit (licence: cc-by-nc-nd-4.0), model.safetensors, sha256 ")
        own = net.state_dict()["net.encoder.model.pos_embed"]
        assert float(own.sum()) == pytest.approx(float(tensors["pos_embed"].sum()))


PAGE = Path(__file__).resolve().parents[2] / "docs" / "encoders.md"
ROW = re.compile(
    r"^\| (?P<name>[^|]+) \| `(?P<encoder>tu-[^`]+)` \| (?:`(?P<options>[^`]*)`)? ?\| (?P<millions>[\d,]+) M"
)


@pytest.mark.parametrize(
    "row", [m for line in PAGE.read_text().splitlines() if (m := ROW.match(line))], ids=lambda m: m["name"]
)
def test_the_encoders_of_the_page_have_the_sizes_that_their_authors_give(row: re.Match[str]) -> None:
    options = tomllib.loads(f"options = {{{row['options'] or ''}}}")["options"]
    architecture = Architecture(
        row["encoder"], 2, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), network="DPT", encoder_options=options
    )
    with torch.device("meta"):
        net = SegmentationNet(architecture)
    count = sum(p.numel() for p in net.net.encoder.parameters())
    assert round(count / 1e6) == int(row["millions"].replace(",", ""))
