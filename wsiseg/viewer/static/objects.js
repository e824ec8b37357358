// The list of objects, a page at a time from the server, and the decisions on them.

import { get, post, say, tell } from "./api.js";
import { element } from "./layers.js";

const PAGE = 50;
const MARKS = { unreviewed: "", accepted: "✓", rejected: "✗" };
const find = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 100 ? 2 : 0 });

export class ObjectList {
  constructor(stage, panel) {
    this.stage = stage;
    this.panel = panel;
    this.rows = [];
    this.selected = []; // the rows of all selected objects
    this.changed = () => {}; // called when another layer is on view
    this.layers = panel.overlays.layers.filter((layer) => layer.sorts);
    if (!this.layers.length) return;
    find("objects").hidden = false;
    for (const layer of this.layers) find("objects-layer").add(new Option(layer.name, layer.id));
    // what is on view first is what one wants to look through
    const first = this.layers.find((layer) => layer.shown && layer.objects) ?? this.layers[0];
    find("objects-layer").value = first.id;
    this.listen();
    tell(() => this.choose());
  }

  get layer() {
    return this.panel.overlays.layers[Number(find("objects-layer").value)];
  }

  listen() {
    const on = (id, event, work) => find(id).addEventListener(event, () => tell(work));
    on("objects-layer", "change", () => this.choose());
    for (const id of ["objects-sort", "objects-descending", "objects-class", "objects-state"])
      on(id, "change", () => this.load(0, 0));
    const clicks = {
      previous: () => this.step(-1),
      next: () => this.step(1),
      "page-back": () => this.load(Math.max(0, this.offset - PAGE), 0),
      "page-on": () => this.load(this.offset + PAGE, 0),
      accept: () => this.decide("accepted"),
      reject: () => this.decide("rejected"),
      undecide: () => this.decide("unreviewed"),
      "accept-rest": () => this.acceptRest(),
    };
    for (const [id, work] of Object.entries(clicks)) on(id, "click", work);
    on("relabel", "change", () => this.decide("accepted", find("relabel").value));
    this.stage.viewer.addHandler("canvas-click", (event) => {
      if (event.quick && !this.stage.drawing) tell(() => this.pick(this.stage.place(event.position), event.shift));
    });
  }

  choose() {
    const { layer } = this;
    find("objects-sort").replaceChildren(...layer.sorts.map((key) => new Option(key, key)));
    const names = layer.classes.map(({ name }, n) => new Option(name, n)).filter((o) => o.text !== "Rejected");
    find("objects-class").replaceChildren(new Option("any", ""), ...names);
    find("review").hidden = !layer.reviewable;
    find("objects-state-label").hidden = !layer.reviewable;
    find("objects-state").value = "";
    find("relabel").replaceChildren(...names.map(({ text }) => new Option(text, text)));
    this.progress();
    this.select([]);
    this.changed();
    return this.load(0, 0);
  }

  query(offset, limit) {
    const words = { sort: find("objects-sort").value, offset, limit };
    words.descending = find("objects-descending").checked ? 1 : 0;
    if (find("objects-class").value) words.class = find("objects-class").value;
    if (find("objects-state").value) words.state = find("objects-state").value;
    return get(`/api/layers/${this.layer.id}/objects?${new URLSearchParams(words)}`);
  }

  // Show the page from `offset` on and have its row `at` as the current one, without flying there.
  async load(offset, at) {
    const { total, rows } = await this.query(offset, PAGE);
    if (!rows.length && total) return this.load(Math.floor((total - 1) / PAGE) * PAGE, PAGE - 1);
    [this.offset, this.total, this.rows] = [offset, total, rows];
    this.at = Math.min(at, rows.length - 1);
    this.draw();
    return undefined;
  }

  draw() {
    const row = (object, n) => {
      const button = element("button", { type: "button" });
      const score = object.score === null ? "" : object.score.toFixed(2);
      const cells = [`${this.offset + n + 1}. ${object.label}`, `${number(object.area)} µm²`, score, MARKS[object.state]];
      button.append(...cells.map((text) => element("span", { textContent: text })));
      if (MARKS[object.state]) Object.assign(button.lastChild, { role: "img", ariaLabel: object.state, title: object.state });
      button.addEventListener("click", () => this.visit(n));
      return element("li", {}, button);
    };
    find("list").replaceChildren(...this.rows.map(row));
    const last = this.offset + this.rows.length;
    find("page").textContent = this.total ? `${this.offset + 1} to ${last} of ${number(this.total)}` : "none";
    find("page-back").disabled = this.offset === 0;
    find("page-on").disabled = last >= this.total;
    this.point();
  }

  point() {
    const current = this.rows[this.at];
    [...find("list").children].forEach((item, n) => {
      item.firstChild.setAttribute("aria-current", String(n === this.at));
      if (n === this.at && this.visited) item.scrollIntoView({ block: "nearest" });
    });
    for (const id of ["accept", "reject", "undecide", "relabel"]) find(id).disabled = !current;
    if (current) find("relabel").value = current.label;
    const pairs = Object.entries(current?.measurements ?? {}).flatMap(([name, value]) => [
      element("dt", { textContent: name }),
      element("dd", { textContent: number(value) }),
    ]);
    find("facts").replaceChildren(...pairs);
  }

  // These objects are selected and framed; the first of them is the current one of the list.
  select(objects) {
    this.selected = objects;
    this.stage.mark(objects.map(({ bounds }) => bounds));
    const [current] = objects;
    if (!current) return;
    const n = this.rows.findIndex((row) => row.n === current.n);
    if (n >= 0) this.at = n;
    else [this.offset, this.rows, this.at] = [0, [current], 0];
    this.visited = true;
    this.draw();
  }

  // Select a row of the list and fly there.
  visit(n) {
    const object = this.rows[n];
    if (!object) return;
    this.select([object]);
    this.stage.visit(object.bounds);
    say(`${object.label}, ${number(object.area)} µm², ${this.offset + n + 1} of ${number(this.total)}`);
  }

  async step(by) {
    if (!this.total) return;
    // the first step goes to the row that is marked already
    const to = this.visited ? this.at + by : this.at;
    const place = Math.min(Math.max(this.offset + to, 0), this.total - 1);
    if (place < this.offset || place >= this.offset + this.rows.length)
      await this.load(Math.floor(place / PAGE) * PAGE, 0);
    this.visit(place - this.offset);
  }

  // A click on the slide selects the object there, or nothing; with Shift it selects one more, or one less.
  async pick({ x, y }, more = false) {
    const object = await get(`/api/layers/${this.layer.id}/at?x=${x}&y=${y}`);
    const others = more ? this.selected.filter(({ n }) => n !== object?.n) : [];
    const again = more && others.length < this.selected.length;
    this.select(object && !again ? [object, ...others] : others);
    if (this.selected.length > 1) say(`${this.selected.length} objects selected`);
    else if (object) say(`${object.label}, ${number(object.area)} µm²`);
  }

  async decide(state, label = null) {
    const object = this.rows[this.at];
    if (!object || !this.layer.reviewable) return;
    const { layer, at, offset } = this;
    if (this.selected.length > 1) {
      await this.edit({ tool: label === null ? state : "class", label });
      return;
    }
    const decided = await post(`/api/layers/${layer.id}/objects/${object.n}`, { state, label });
    this.rows[at] = decided;
    await this.renew();
    if (decided.state === "gone" || (find("objects-state").value && decided.state !== find("objects-state").value)) {
      await this.load(offset, at); // it left the list, and the next one has taken its place
      this.visit(this.at);
    } else {
      this.draw();
      if (label === null && state !== "unreviewed") await this.step(1);
    }
  }

  // What was done by hand is done on the server; what is left of it is selected.
  edit(body) {
    return this.send("edit", { objects: this.selected.map(({ n }) => n), ...body });
  }

  stepBack(way) {
    return this.send(way, {});
  }

  async send(route, body) {
    if (!this.layer?.reviewable) return;
    const { objects } = await post(`/api/layers/${this.layer.id}/${route}`, body);
    await this.renew();
    await this.load(this.offset, this.at);
    this.select(objects);
  }

  async acceptRest() {
    const { accepted } = await post(`/api/layers/${this.layer.id}/accept`, {});
    await this.renew();
    await this.load(this.offset, this.at);
    say(`${number(accepted)} objects accepted`);
  }

  async relabel(n) {
    const name = find("relabel").options[n]?.value;
    if (name) await this.decide("accepted", name);
  }

  async renew() {
    this.panel.renew(this.layer, await get(`/api/layers/${this.layer.id}`));
    this.progress();
    say(`${this.layer.file} is saved`);
  }

  progress() {
    const { states, objects } = this.layer;
    const done = states.accepted + states.rejected;
    find("progress").textContent = `${number(done)} of ${number(objects)} reviewed: ${number(states.accepted)} accepted, ${number(states.rejected)} rejected`;
  }
}
