// The slide on the screen. Places are level-0 pixels; `d` is level-0 pixels per pixel of the screen.

const { OpenSeadragon } = window;

export function source(scene, url) {
  const [width, height] = scene.padded;
  return {
    width,
    height,
    tileSize: scene.tile,
    tileOverlap: scene.overlap,
    minLevel: 0,
    maxLevel: scene.levels - 1,
    getTileUrl: (level, x, y) => url(scene.levels - 1 - level, x, y),
  };
}

export class Stage {
  constructor(scene) {
    this.scene = scene;
    this.width = scene.padded[0];
    this.markers = [];
    // OpenSeadragon would add a style of its own, which the page's policy forbids; finding one, it does not. This one is
    // of no namespace that a browser knows, and so is no style at all.
    const none = document.createElementNS("urn:none", "style");
    none.setAttribute("data-openseadragon-mobile-css", "none");
    document.head.append(none);
    this.viewer = new OpenSeadragon.Viewer({
      element: document.getElementById("stage"),
      tileSources: [source(scene, (k, x, y) => `/tiles/slide/${k}/${x}/${y}.jpeg?s=${scene.session}`)],
      drawer: "canvas", // exact pixels, also where there is no graphics card
      showNavigationControl: false,
      showNavigator: true,
      navigatorElement: document.getElementById("navigator"),
      navigatorAutoFade: false,
      maxZoomPixelRatio: 16,
      minPixelRatio: 0.51, // at d = 1, 2, 4, … the level of exactly that d, not the finer one shrunk
      minZoomImageRatio: 0.3,
      visibilityRatio: 0.2,
      animationTime: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 0.4,
      gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
      gestureSettingsTouch: { clickToZoom: false },
      tileRetryMax: 3,
      tileRetryDelay: 1000,
      maxImageCacheCount: 600,
      imageSmoothingEnabled: true,
    });
    // The page has its own keys, which work wherever the focus is.
    this.viewer.addHandler("canvas-key", (event) => {
      event.preventDefaultAction = true;
    });
    this.viewer.addHandler("animation", () => this.smooth());
    this.viewer.addHandler("resize", () => {
      // OpenSeadragon settles on a view of its own first.
      if (this.atHome) queueMicrotask(() => this.home(true));
      this.smooth();
    });
    for (const event of ["canvas-drag", "canvas-scroll", "canvas-pinch", "canvas-double-click"])
      this.viewer.addHandler(event, () => this.leave());
    this.ready = new Promise((resolve, reject) => {
      this.viewer.addOnceHandler("open", resolve);
      this.viewer.addOnceHandler("open-failed", () => reject(new Error("The slide cannot be shown.")));
    });
  }

  // Magnified pixels are shown as they are; between two levels the picture is smoothed.
  smooth() {
    const wanted = this.view().d > 1;
    if (wanted !== this.smoothed) {
      this.smoothed = wanted;
      this.viewer.drawer.setImageSmoothingEnabled(wanted);
    }
  }

  size() {
    return this.viewer.viewport.getContainerSize();
  }

  view(target = false) {
    const { viewport } = this.viewer;
    const centre = viewport.getCenter(!target);
    return {
      x: centre.x * this.width,
      y: centre.y * this.width,
      d: this.width / (this.size().x * viewport.getZoom(!target)),
    };
  }

  go({ x, y, d }, now = false) {
    this.leave();
    const { viewport } = this.viewer;
    viewport.zoomTo(this.width / (this.size().x * d), null, now);
    viewport.panTo(new OpenSeadragon.Point(x / this.width, y / this.width), now);
    viewport.applyConstraints(now);
    this.smooth();
  }

  // The whole slide, and still the whole slide when the window or the panel changes its size.
  home(now = false) {
    const { width, height } = this.scene;
    const size = this.size();
    this.go({ x: width / 2, y: height / 2, d: Math.max(width / size.x, height / size.y) * 1.02 }, now);
    this.atHome = true;
  }

  leave() {
    this.atHome = false;
  }

  zoom(factor) {
    this.leave();
    this.viewer.viewport.zoomBy(factor);
    this.viewer.viewport.applyConstraints();
  }

  // By parts of the screen.
  pan(right, down) {
    const size = this.size();
    const { x, y, d } = this.view(true);
    this.go({ x: x + right * size.x * d, y: y + down * size.y * d, d });
  }

  // Fly to a box with its surroundings.
  visit([left, top, right, bottom]) {
    const size = this.size();
    const d = Math.max((right - left) / size.x, (bottom - top) / size.y, 1 / 32) * 2.5;
    this.go({ x: (left + right) / 2, y: (top + bottom) / 2, d: Math.max(d, 0.25) });
  }

  // Draw a frame around each box, and around nothing else.
  mark(boxes) {
    for (const marker of this.markers) this.viewer.removeOverlay(marker);
    this.markers = boxes.map(([left, top, right, bottom]) => {
      const element = document.createElement("div");
      element.className = "selected-object";
      const [x, y, w, h] = [left, top, right - left, bottom - top].map((v) => v / this.width);
      this.viewer.addOverlay({ element, location: new OpenSeadragon.Rect(x, y, w, h) });
      return element;
    });
  }

  // The place under a point of the page.
  place({ x: right, y: down }) {
    const point = this.viewer.viewport.pointFromPixel(new OpenSeadragon.Point(right, down), true);
    return { x: point.x * this.width, y: point.y * this.width };
  }
}

// The view in the address, so that it can be shared and bookmarked.
export function keepInAddress(stage) {
  const write = () => {
    const { x, y, d } = stage.view();
    const digits = d < 1 ? 2 : 0;
    history.replaceState(null, "", `#x=${x.toFixed(digits)}&y=${y.toFixed(digits)}&d=${Number(d.toPrecision(6))}`);
  };
  const read = () => {
    const values = new URLSearchParams(location.hash.slice(1));
    const [x, y, d] = ["x", "y", "d"].map((key) => Number.parseFloat(values.get(key)));
    if (![x, y, d].every(Number.isFinite) || d <= 0) return false;
    stage.go({ x, y, d }, true);
    return true;
  };
  if (!read()) stage.home(true);
  stage.viewer.addHandler("animation-finish", write);
  window.addEventListener("hashchange", read);
}
