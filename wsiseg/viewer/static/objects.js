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
    on("previous", "click", () => this.step(-1));
    on("next", "click", () => this.step(1));
    on("page-back", "click", () => this.load(Math.max(0, this.offset - PAGE), 0));
    on("page-on", "click", () => this.load(this.offset + PAGE, 0));
    on("accept", "click", () => this.decide("accepted"));
    on("reject", "click", () => this.decide("rejected"));
    on("undecide", "click", () => this.decide("unreviewed"));
    on("relabel", "change", () => this.decide("accepted", find("relabel").value));
    on("accept-rest", "click", () => this.acceptRest());
    this.stage.viewer.addHandler("canvas-click", (event) => {
      if (event.quick) tell(() => this.pick(this.stage.place(event.position)));
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
      button.addEventListener("click", () => this.select(n));
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
    this.facts(current);
  }

  facts(object) {
    if (object) find("relabel").value = object.label;
    const facts = object ? Object.entries(object.measurements) : [];
    const pairs = facts.flatMap(([name, value]) => [
      element("dt", { textContent: name }),
      element("dd", { textContent: number(value) }),
    ]);
    find("facts").replaceChildren(...pairs);
  }

  select(n) {
    this.at = n;
    this.visited = true;
    this.point();
    const object = this.rows[n];
    if (!object) return;
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
    this.select(place - this.offset);
  }

  // A click on the slide: the object there becomes the current one.
  async pick({ x, y }) {
    const object = await get(`/api/layers/${this.layer.id}/at?x=${x}&y=${y}`);
    if (!object) return;
    const n = this.rows.findIndex((row) => row.n === object.n);
    if (n >= 0) this.at = n;
    else [this.offset, this.rows, this.at] = [0, [object], 0];
    this.visited = true;
    this.draw();
    this.stage.mark(object.bounds);
    say(`${object.label}, ${number(object.area)} µm²`);
  }

  async decide(state, label = null) {
    const object = this.rows?.[this.at];
    if (!object || !this.layer.reviewable) return;
    const { layer, at, offset } = this;
    const decided = await post(`/api/layers/${layer.id}/objects/${object.n}`, { state, label });
    this.rows[at] = decided;
    await this.renew();
    if (find("objects-state").value && decided.state !== find("objects-state").value) {
      await this.load(offset, at); // it left the list, and the next one has taken its place
      if (this.rows.length) this.select(this.at);
    } else {
      this.draw();
      if (label === null && state !== "unreviewed") await this.step(1);
    }
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
