// The layers over the slide: one tiled image each, made by the server in the style that is chosen here.

import { source } from "./stage.js";

const { OpenSeadragon } = window;

export class Overlays {
  constructor(stage) {
    this.stage = stage;
    this.layers = stage.scene.layers.map((layer) => ({
      ...layer,
      fill: layer.kind !== "outlines",
      opacity: 1,
      hidden: new Set(),
      colours: new Map(),
      item: undefined,
      turn: 0,
    }));
    this.clips = new Map();
    for (const layer of this.layers) if (layer.shown) this.show(layer);
  }

  url(layer) {
    const hide = [...layer.hidden].sort((a, b) => a - b).join(".");
    const colours = [...layer.colours].map(([n, colour]) => `${n}-${colour.slice(1)}`).join(".");
    const style = `fill=${layer.fill ? 1 : 0}&hide=${hide}&colours=${colours}`;
    const same = `v=${layer.revision}&s=${this.stage.scene.session}`;
    return (k, x, y) => `/tiles/${layer.id}/${k}/${x}/${y}.png?${style}&${same}`;
  }

  // Show a layer, or show it in its new style: the old picture stays until the new one is there.
  show(layer) {
    layer.shown = true;
    layer.turn += 1;
    const { turn } = layer;
    const { viewer } = this.stage;
    viewer.addTiledImage({
      tileSource: source(this.stage.scene, this.url(layer)),
      opacity: layer.item ? 0 : layer.opacity,
      index: this.place(layer),
      preload: true,
      success: ({ item }) => {
        if (turn !== layer.turn) {
          viewer.world.removeItem(item);
          return;
        }
        if (layer.next) viewer.world.removeItem(layer.next);
        layer.next = item;
        this.sort();
        const finish = () => {
          if (layer.next !== item) return;
          item.setOpacity(layer.opacity);
          this.clip(layer, item);
          if (layer.item) viewer.world.removeItem(layer.item);
          layer.item = item;
          layer.next = undefined;
        };
        if (layer.item) item.whenFullyLoaded(finish);
        else finish();
      },
    });
  }

  hide(layer) {
    layer.shown = false;
    layer.turn += 1;
    for (const item of [layer.item, layer.next]) if (item) this.stage.viewer.world.removeItem(item);
    layer.item = undefined;
    layer.next = undefined;
  }

  restyle(layer) {
    if (layer.shown) this.show(layer);
  }

  setOpacity(layer, opacity) {
    layer.opacity = opacity;
    layer.item?.setOpacity(opacity);
  }

  // Where a new picture of a layer belongs: above its old one and those of the layers before. The slide is 0.
  place(layer) {
    const below = this.layers.slice(0, this.layers.indexOf(layer) + 1);
    return 1 + below.flatMap(({ item, next }) => [item, next]).filter(Boolean).length;
  }

  // Later layers lie on top, however late their first picture came. A picture that is in its place is not moved: the
  // overview repeats each move a little later, and fails where it has not got that picture yet.
  sort() {
    const { world } = this.stage.viewer;
    let place = 1; // the slide is 0
    for (const layer of this.layers)
      for (const item of [layer.item, layer.next])
        if (item && world.getIndexOfItem(item) >= 0) {
          if (world.getIndexOfItem(item) !== place) world.setItemIndex(item, place);
          place += 1;
        }
  }

  // What is left, or right, of a place on the screen, 0 to 1; undefined shows the whole layer.
  setClip(layer, side, at) {
    if (side) this.clips.set(layer.id, [side, at]);
    else this.clips.delete(layer.id);
    for (const item of [layer.item, layer.next]) if (item) this.clip(layer, item);
  }

  clip(layer, item) {
    const found = this.clips.get(layer.id);
    const old = item.getClip();
    if (!found) {
      if (old) item.setClip(null);
      return;
    }
    const [side, at] = found;
    const [width, height] = this.stage.scene.padded;
    const cut = Math.min(width, Math.max(0, this.stage.place({ x: at * this.stage.size().x, y: 0 }).x));
    const [x, w] = side === "left" ? [0, cut] : [cut, width - cut];
    // A new clip is drawn, and what is drawn asks for a clip again: only a change may pass.
    if (old?.x !== x || old?.width !== w) item.setClip(new OpenSeadragon.Rect(x, 0, w, height));
  }
}
