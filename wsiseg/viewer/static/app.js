// Puts the page together.

import { get, say, tell } from "./api.js";
import { listenToKeys } from "./keys.js";
import { LayerPanel } from "./layers.js";
import { ObjectList } from "./objects.js";
import { Overlays } from "./overlays.js";
import { showRuler } from "./ruler.js";
import { keepInAddress, Stage } from "./stage.js";
import { offerSwipe } from "./swipe.js";

const find = (id) => document.getElementById(id);

// There the panel would leave no room for the slide: it is folded away, and lies over the slide when it is asked for.
const NARROW = matchMedia("(max-width: 700px)");

function foldPanel(open) {
  find("panel").hidden = !open;
  find("show-panel").setAttribute("aria-expanded", String(open));
}

async function start() {
  const scene = await get("/api/scene");
  document.title = `${scene.name} – wsiseg view`;
  find("name").textContent = scene.name;
  const stage = new Stage(scene);
  await stage.ready;
  const overlays = new Overlays(stage);
  const panel = new LayerPanel(overlays);
  const objects = new ObjectList(stage, panel);
  offerSwipe(overlays, () => overlays.layers.forEach((layer) => panel.refresh(layer)));
  keepInAddress(stage);
  showRuler(stage);
  listenToKeys(stage, panel, objects);
  find("home").addEventListener("click", () => stage.home());
  find("zoom-in").addEventListener("click", () => stage.zoom(1.6));
  find("zoom-out").addEventListener("click", () => stage.zoom(1 / 1.6));
  foldPanel(!NARROW.matches);
  NARROW.addEventListener("change", () => foldPanel(!NARROW.matches));
  find("show-panel").addEventListener("click", () => foldPanel(find("panel").hidden));
  stage.viewer.addHandler("tile-load-failed", ({ message }) => say(`A part of the picture cannot be shown: ${message}`, true));
  say(`${scene.width} × ${scene.height} px at ${scene.mpp[0]} µm per px`);
  Object.assign(window, { wsisegStage: stage, wsisegOverlays: overlays }); // for tests and the browser's own tools
  document.body.dataset.ready = "yes";
}

tell(start);
