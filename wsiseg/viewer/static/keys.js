// The keyboard: everything works without a mouse.

import { tell } from "./api.js";
import { element } from "./layers.js";

const STEP = 0.2; // of the screen

export function listenToKeys(stage, panel, objects, compare) {
  const help = document.getElementById("help");
  const table = {
    n: ["next object", () => objects.step(1)],
    p: ["previous object", () => objects.step(-1)],
    a: ["accept it, go on", () => objects.decide("accepted")],
    r: ["reject it, go on", () => objects.decide("rejected")],
    u: ["undecided again", () => objects.decide("unreviewed")],
    o: ["all layers away and back", () => panel.toggleAll()],
    f: ["filled or as lines", () => panel.toggleFill()],
    s: ["two layers side by side", () => compare.swipe()],
    t: ["one of the two, then the other", () => compare.flip()],
    h: ["whole slide", () => stage.home()],
    "+": ["zoom in", () => stage.zoom(1.6)],
    "-": ["zoom out", () => stage.zoom(1 / 1.6)],
    ArrowLeft: ["move left", () => stage.pan(-STEP, 0)],
    ArrowRight: ["move right", () => stage.pan(STEP, 0)],
    ArrowUp: ["move up", () => stage.pan(0, -STEP)],
    ArrowDown: ["move down", () => stage.pan(0, STEP)],
    "?": ["these keys", () => help.showModal()],
  };
  for (let n = 1; n <= 9; n += 1) table[n] = [`class ${n} of the list`, () => objects.relabel(n - 1)];
  const rows = Object.entries(table).filter(([key]) => !/[2-9]/.test(key));
  for (const [key, [meaning]] of rows) {
    const name = key === "1" ? "1 to 9" : key.replace("Arrow", "arrow ").toLowerCase();
    const text = key === "1" ? "change its class" : meaning;
    document.getElementById("keys").append(
      element("dt", {}, element("kbd", { textContent: name })),
      element("dd", { textContent: text }),
    );
  }
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, dialog");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const inPanel = event.target.closest("aside");
    if (inPanel && event.key.startsWith("Arrow")) return; // there they scroll
    const key = event.key === "=" ? "+" : event.key;
    const found = table[key.length === 1 ? key.toLowerCase() : key];
    if (!found) return;
    event.preventDefault();
    tell(found[1]);
  });
  document.getElementById("show-help").addEventListener("click", () => help.showModal());
}
