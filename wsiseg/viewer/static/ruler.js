// Scale bar, objective-equivalent zoom, and the place under the pointer.

const LONGEST = 160; // px of the screen

export function niceLength(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return [5, 2, 1].map((n) => n * power).find((length) => length <= most) ?? power;
}

export function showRuler(stage) {
  const [bar, text, zoom, place] = ["ruler-bar", "ruler-text", "zoom-text", "place"].map((id) =>
    document.getElementById(id),
  );
  const [mpp, mppY] = stage.scene.mpp;
  const update = () => {
    const um = stage.view().d * mpp; // per px of the screen
    const length = niceLength(LONGEST * um);
    bar.style.width = `${length / um}px`;
    text.textContent = length >= 1000 ? `${length / 1000} mm` : `${Number(length.toPrecision(3))} µm`;
    // An objective of 10× is taken as 1 µm per pixel, as scanners count.
    zoom.textContent = `${Number((10 / um).toPrecision(2))}×`;
  };
  stage.viewer.addHandler("animation", update);
  stage.viewer.addHandler("resize", update);
  update();
  const move = (event) => {
    const box = stage.viewer.element.getBoundingClientRect();
    const { x, y } = stage.place({ x: event.clientX - box.left, y: event.clientY - box.top });
    place.textContent = `${Math.floor(x)}, ${Math.floor(y)} px · ${(x * mpp).toFixed(0)}, ${(y * mppY).toFixed(0)} µm`;
  };
  stage.viewer.element.addEventListener("pointermove", move);
}
