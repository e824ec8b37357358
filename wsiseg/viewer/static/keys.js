// The keyboard: everything works without a mouse.

import { tell } from "./api.js";
import { element } from "./layers.js";

const STEP = 0.2; // of the screen

export function listenToKeys(stage, panel, objects, draw, compare) {
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
    v: ["move and select again", () => draw.choose("")],
    d: ["draw a polygon", () => draw.choose("polygon")],
    b: ["brush: add to an object, or a new one", () => draw.choose("brush")],
    e: ["eraser: take away from an object", () => draw.choose("eraser")],
    x: ["split an object by a line", () => draw.choose("split")],
    "[": ["smaller brush", () => draw.resize(draw.radius / 1.25)],
    "]": ["larger brush", () => draw.resize(draw.radius * 1.25)],
    m: ["merge the selected objects", () => draw.edit("merge")],
    Delete: ["delete the selected objects", () => draw.edit("delete")],
    z: ["undo", () => draw.step("undo")],
    y: ["redo", () => draw.step("redo")],
    Enter: ["close the polygon", () => draw.finish()],
    Escape: ["leave the polygon, the tool, the selection", () => draw.leave()],
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
    const undo = (event.ctrlKey || event.metaKey) && /^[zy]$/i.test(event.key);
    if (typing || event.altKey || ((event.ctrlKey || event.metaKey) && !undo)) return;
    if (event.target.closest("aside") && event.key.startsWith("Arrow")) return; // there they scroll
    if (event.key === "Enter" && event.target.closest("button, a")) return; // there it presses
    let key = { "=": "+", Backspace: "Delete" }[event.key] ?? event.key;
    if (undo && event.shiftKey) key = "y";
    const found = table[key.length === 1 ? key.toLowerCase() : key];
    if (!found) return;
    event.preventDefault();
    tell(found[1]);
  });
  document.getElementById("show-help").addEventListener("click", () => help.showModal());
}
