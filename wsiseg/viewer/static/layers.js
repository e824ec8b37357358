// The panel of layers: what is shown, how strong, in which colours.

const hex = (colour) => `#${colour.map((v) => v.toString(16).padStart(2, "0")).join("")}`;

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export class LayerPanel {
  constructor(overlays) {
    this.overlays = overlays;
    this.root = document.getElementById("layers");
    this.boxes = new Map();
    for (const layer of overlays.layers) this.add(layer);
  }

  add(layer) {
    const shown = element("input", { type: "checkbox", checked: layer.shown });
    shown.addEventListener("change", () => this.toggle(layer, shown.checked));
    const box = element("fieldset", {}, element("legend", {}, element("label", {}, shown, ` ${layer.name}`)));
    box.dataset.layer = layer.id;
    const opacity = element("input", { type: "range", min: 0, max: 100, value: 100, ariaLabel: `Opacity of ${layer.name}` });
    opacity.addEventListener("input", () => this.overlays.setOpacity(layer, Number(opacity.value) / 100));
    const row = element("div", { className: "row" }, element("label", {}, "opacity ", opacity));
    if (["outlines", "agreement"].includes(layer.kind)) row.append(this.fillBox(layer));
    const classes = element("ul", { className: "classes" });
    const details = element("div", {}, row, classes);
    if (layer.legend) details.append(heat(layer.legend));
    box.append(details);
    this.boxes.set(layer.id, { shown, classes, row, details });
    this.root.append(box);
    this.fillClasses(layer);
    this.refresh(layer);
  }

  fillBox(layer) {
    const fill = element("input", { type: "checkbox", checked: layer.fill, className: "fill" });
    fill.addEventListener("change", () => {
      layer.fill = fill.checked;
      this.overlays.restyle(layer);
    });
    return element("label", {}, fill, "filled");
  }

  fillClasses(layer) {
    const { classes } = this.boxes.get(layer.id);
    classes.replaceChildren(...layer.classes.map((known, n) => this.classRow(layer, known, n)));
  }

  classRow(layer, known, n) {
    const count = known.count === undefined ? "" : ` (${known.count.toLocaleString("en")})`;
    const shown = element("input", { type: "checkbox", checked: !layer.hidden.has(n) });
    shown.addEventListener("change", () => {
      if (shown.checked) layer.hidden.delete(n);
      else layer.hidden.add(n);
      this.overlays.restyle(layer);
    });
    const colour = element("input", {
      type: "color",
      value: layer.colours.get(n) ?? hex(known.colour),
      ariaLabel: `Colour of ${known.name}`,
    });
    colour.addEventListener("change", () => {
      layer.colours.set(n, colour.value);
      this.overlays.restyle(layer);
    });
    return element("li", {}, element("label", {}, shown, `${known.name}${count}`), colour);
  }

  toggle(layer, shown) {
    if (shown) this.overlays.show(layer);
    else this.overlays.hide(layer);
    this.refresh(layer);
  }

  // All layers away and back, to see what lies below.
  toggleAll() {
    const visible = this.overlays.layers.filter((layer) => layer.shown);
    if (visible.length) this.before = visible;
    for (const layer of this.before ?? []) this.toggle(layer, !visible.length);
  }

  toggleFill() {
    for (const { row } of this.boxes.values()) row.querySelector(".fill")?.click();
  }

  // What is not shown takes no room in the panel.
  refresh(layer) {
    const { shown, details } = this.boxes.get(layer.id);
    shown.checked = layer.shown;
    details.hidden = !layer.shown;
  }

  // What the server says again of a layer: counts, revision, classes.
  renew(layer, about) {
    const { shown: _, ...fresh } = about;
    const changed = fresh.revision !== layer.revision;
    Object.assign(layer, fresh);
    this.fillClasses(layer);
    if (changed) this.overlays.restyle(layer);
  }
}

function heat(legend) {
  const canvas = element("canvas", { width: legend.length * 10, height: 1, ariaLabel: "Colours of the confidence, from 0 to 1" });
  canvas.setAttribute("role", "img");
  const context = canvas.getContext("2d");
  legend.forEach((colour, n) => {
    context.fillStyle = `rgb(${colour.join(",")})`;
    context.fillRect(n * 10, 0, 10, 1);
  });
  return element("div", { className: "heat" }, "0", canvas, "1");
}
