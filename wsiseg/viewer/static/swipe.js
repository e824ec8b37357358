// Two layers side by side in one view: one left of a line, the other right of it.

export function offerSwipe(overlays, changed) {
  const find = (id) => document.getElementById(id);
  const layers = overlays.layers.filter((layer) => !["grid", "tissue"].includes(layer.kind));
  if (layers.length < 2) return;
  find("swipe-choice").hidden = false;
  const [on, left, right, at] = ["swipe-on", "swipe-left", "swipe-right", "swipe-at"].map(find);
  for (const select of [left, right]) for (const layer of layers) select.add(new Option(layer.name, layer.id));
  right.selectedIndex = 1;
  const chosen = (select) => overlays.layers[Number(select.value)];
  const update = () => {
    const place = Number(at.value) / 1000;
    find("swipe").hidden = !on.checked;
    find("swipe-line").style.left = `${100 * place}%`;
    for (const layer of layers) {
      const side = layer === chosen(left) ? "left" : layer === chosen(right) ? "right" : undefined;
      overlays.setClip(layer, on.checked && left.value !== right.value ? side : undefined, place);
    }
  };
  const choose = () => {
    if (on.checked) for (const layer of [chosen(left), chosen(right)]) if (!layer.shown) overlays.show(layer);
    update();
    changed();
  };
  for (const control of [on, left, right]) control.addEventListener("change", choose);
  at.addEventListener("input", update);
  for (const event of ["animation", "resize"])
    overlays.stage.viewer.addHandler(event, () => {
      if (on.checked) update();
    });
}
