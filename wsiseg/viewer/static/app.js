// Puts the page together.

import { get, say, tell } from "./api.js";
import { Draw } from "./draw.js";
import { listenToKeys } from "./keys.js";
import { LayerPanel } from "./layers.js";
import { ObjectList } from "./objects.js";
import { Overlays } from "./overlays.js";
import { showRuler } from "./ruler.js";
import { keepInAddress, Stage } from "./stage.js";
import { offerSwipe } from "./swipe.js";

const find = (id) => document.getElementById(id);

// There the panel would leave no room for the slide: it is folded away, and lies below the slide when it is asked for.
const NARROW = matchMedia("(max-width: 700px)");

function foldPanel(open) {
  find("panel").hidden = !open;
  find("show-panel").setAttribute("aria-expanded", String(open));
}

// The system's choice until the person makes another; the button says what it leads to.
function offerThemes() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const show = () => {
    const kept = localStorage.getItem("theme");
    if (kept) root.dataset.theme = kept;
    find("theme").textContent = (kept ?? (dark.matches ? "dark" : "light")) === "dark" ? "Light" : "Dark";
  };
  find("theme").addEventListener("click", () => {
    localStorage.setItem("theme", find("theme").textContent.toLowerCase());
    show();
  });
  dark.addEventListener("change", show);
  show();
}

async function start() {
  offerThemes();
  const scene = await get("/api/scene");
  document.title = `${scene.name} – wsiseg view`;
  find("name").textContent = scene.name;
  const stage = new Stage(scene);
  await stage.ready;
  const overlays = new Overlays(stage);
  const panel = new LayerPanel(overlays);
  const objects = new ObjectList(stage, panel);
  keepInAddress(stage);
  showRuler(stage);
  const compare = offerSwipe(overlays, () => overlays.layers.forEach((layer) => panel.refresh(layer)));
  listenToKeys(stage, panel, objects, new Draw(stage, objects), compare);
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
