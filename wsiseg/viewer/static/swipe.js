// Two layers compared: one left of a line and the other right of it, or one after the other.

import { say } from "./api.js";

const find = (id) => document.getElementById(id);

export function offerSwipe(overlays, changed) {
  const layers = overlays.layers.filter((layer) => !["grid", "tissue"].includes(layer.kind));
  if (layers.length < 2) return { swipe() {}, flip() {} };
  find("swipe-choice").hidden = false;
  const [on, left, right, at] = ["swipe-on", "swipe-left", "swipe-right", "swipe-at"].map(find);
  for (const select of [left, right]) for (const layer of layers) select.add(new Option(layer.name, layer.id));
  right.selectedIndex = 1;
  const chosen = () => [left, right].map((select) => overlays.layers[Number(select.value)]);
  const update = () => {
    const place = Number(at.value) / 1000;
    const [one, other] = chosen();
    find("swipe").hidden = !on.checked;
    find("swipe-line").style.left = `${100 * place}%`;
    for (const layer of layers) {
      const side = layer === one ? "left" : layer === other ? "right" : undefined;
      overlays.setClip(layer, on.checked && one !== other ? side : undefined, place);
    }
  };
  const choose = () => {
    if (on.checked) for (const layer of chosen()) if (!layer.shown) overlays.show(layer);
    update();
    changed();
  };
  for (const control of [on, left, right]) control.addEventListener("change", choose);
  at.addEventListener("input", update);
  for (const event of ["animation", "resize"])
    overlays.stage.viewer.addHandler(event, () => {
      if (on.checked) update();
    });
  return {
    swipe: () => on.click(),
    // Where two predictions differ, the picture jumps.
    flip() {
      if (on.checked) on.click();
      const [one, other] = chosen();
      const [away, seen] = one.shown ? [one, other] : [other, one];
      overlays.hide(away);
      overlays.show(seen);
      changed();
      say(seen.name);
    },
  };
}
