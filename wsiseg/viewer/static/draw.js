// Drawing and correcting by hand: the pointer's way goes to the server, which does the geometry.

import { say, tell } from "./api.js";

const find = (id) => document.getElementById(id);
const APART = 2; // px of the screen between two points of a way
const HINTS = {
  polygon: "Click the corners and close with Enter or a double click, or draw round the object in one go",
  brush: "Begin on an object to make it larger, or elsewhere to make a new one",
  eraser: "Draw over the part that does not belong to the object",
  split: "Draw a line across the object, from outside to outside",
};

export class Draw {
  constructor(stage, objects) {
    Object.assign(this, { stage, objects, points: [], pending: [], radius: 14, queue: Promise.resolve() });
    this.canvas = find("ink");
    this.buttons = [...find("tools").querySelectorAll("button[data-tool]")];
    for (const button of this.buttons) button.addEventListener("click", () => this.choose(button.dataset.tool));
    for (const [id, work] of [
      ["merge", () => this.edit("merge")],
      ["delete", () => this.edit("delete")],
      ["undo", () => this.step("undo")],
      ["redo", () => this.step("redo")],
    ])
      find(id).addEventListener("click", () => tell(work));
    find("brush-size").addEventListener("input", () => this.resize(Number(find("brush-size").value)));
    find("show-tools").addEventListener("click", () => this.open(find("tools").hidden));
    objects.changed = () => this.offer();
    this.listen();
    this.offer();
  }

  listen() {
    const { viewer } = this.stage;
    const on = (name, work) =>
      viewer.addHandler(name, (event) => {
        if (!this.tool) return;
        event.preventDefaultAction = true; // the slide stays where it is
        work(event);
        this.render();
      });
    on("canvas-press", ({ position }) => {
      document.activeElement.blur(); // so that Enter closes the polygon and does not press a button
      Object.assign(this, { pressed: position, dragged: false });
      if (this.tool !== "polygon") this.points = [];
      this.add(position, this.tool === "polygon");
    });
    on("canvas-drag", ({ position }) => this.pressed && this.add(position));
    on("canvas-drag-end", () => {});
    on("canvas-release", () => {
      if (!this.pressed) return;
      this.pressed = undefined;
      if (this.tool !== "polygon" || this.dragged) this.finish();
    });
    on("canvas-double-click", () => this.finish());
    on("canvas-pinch", () => this.cancel());
    for (const name of ["animation", "resize"]) viewer.addHandler(name, () => this.render());
    viewer.element.addEventListener("pointermove", ({ clientX, clientY }) => {
      const box = viewer.element.getBoundingClientRect();
      this.pointer = { x: clientX - box.left, y: clientY - box.top };
      this.render();
    });
  }

  // What can be drawn on the layer that the list shows.
  offer() {
    const { layer } = this.objects;
    find("show-tools").hidden = !layer?.reviewable;
    if (!layer?.reviewable) return this.open(false);
    const kept = find("draw-class").value;
    const names = layer.classes.map(({ name }) => name).filter((name) => name !== "Rejected");
    find("draw-class").replaceChildren(...names.map((name) => new Option(name, name)));
    if (names.includes(kept)) find("draw-class").value = kept;
    return undefined;
  }

  open(shown) {
    find("tools").hidden = !shown;
    find("show-tools").setAttribute("aria-expanded", String(shown));
    if (!shown) this.choose("");
  }

  choose(tool) {
    if (tool && find("show-tools").hidden) return;
    if (tool) this.open(true);
    this.cancel();
    this.tool = tool;
    this.stage.drawing = Boolean(tool);
    this.stage.viewer.element.classList.toggle("drawing", this.stage.drawing);
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    if (tool) say(HINTS[tool]);
  }

  // Away with what is not finished; with nothing begun, away with the tool and then with the selection.
  leave() {
    if (this.points.length) this.cancel();
    else if (this.tool) this.choose("");
    else this.objects.select([]);
  }

  cancel() {
    Object.assign(this, { points: [], pressed: undefined });
    this.render();
  }

  resize(radius) {
    this.radius = Math.min(100, Math.max(2, radius));
    find("brush-size").value = this.radius;
    this.render();
  }

  add(position, corner = false) {
    const apart = (other) => Math.hypot(position.x - other.x, position.y - other.y);
    if (apart(this.pressed) > 2 * APART) this.dragged = true;
    const last = this.points.length && this.onScreen(this.points.at(-1));
    if (last && (apart(last) < APART || (this.tool === "polygon" && !corner && !this.dragged))) return;
    const { x, y } = this.stage.place(position);
    this.points.push([x, y].map((value) => Number(value.toFixed(2))));
  }

  finish() {
    const { points, tool } = this;
    if (!points.length) return;
    this.points = [];
    this.pending.push(points);
    const more = { points, label: find("draw-class").value };
    if (["brush", "eraser"].includes(tool)) more.radius = this.radius * this.stage.view().d;
    tell(async () => {
      try {
        await this.edit(tool, more);
      } finally {
        this.pending = this.pending.filter((other) => other !== points);
        this.render();
      }
    });
  }

  // One after the other: each may change what is selected for the next.
  edit(tool, more = {}) {
    const work = () => this.objects.edit({ tool, ...more });
    this.queue = this.queue.then(work, work);
    return this.queue;
  }

  step(way) {
    const work = () => this.objects.stepBack(way);
    this.queue = this.queue.then(work, work);
    return this.queue;
  }

  onScreen([x, y]) {
    const { viewer, width } = this.stage;
    return viewer.viewport.pixelFromPoint(new window.OpenSeadragon.Point(x / width, y / width), true);
  }

  render() {
    const { canvas, tool, pointer } = this;
    const { x: width, y: height } = this.stage.size();
    const ratio = window.devicePixelRatio;
    if (canvas.width !== Math.round(width * ratio)) canvas.width = Math.round(width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, width, height);
    Object.assign(pen, { lineCap: "round", lineJoin: "round" });
    const line = (points, colour, thick) => {
      Object.assign(pen, { strokeStyle: colour, lineWidth: thick });
      pen.beginPath();
      points.forEach(({ x, y }) => pen.lineTo(x, y));
      if (points.length === 1) pen.lineTo(points[0].x, points[0].y);
      pen.stroke();
    };
    const wide = ["brush", "eraser"].includes(tool);
    for (const way of [...this.pending, this.points].filter((some) => some.length)) {
      const points = way.map((point) => this.onScreen(point));
      if (wide) line(points, tool === "brush" ? "#ffd60a99" : "#ffffffb0", 2 * this.radius);
      else {
        if (tool === "polygon" && way === this.points && pointer && !this.pressed) points.push(pointer);
        line(points, "#000", 4);
        line(points, "#ffd60a", 2);
      }
    }
    if (!wide || !pointer) return;
    for (const [colour, thick] of [["#000", 3], ["#fff", 1]]) {
      Object.assign(pen, { strokeStyle: colour, lineWidth: thick });
      pen.beginPath();
      pen.arc(pointer.x, pointer.y, this.radius, 0, 2 * Math.PI);
      pen.stroke();
    }
  }
}
