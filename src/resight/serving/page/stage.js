// Two photos under one zoom: moving one moves the other by the transform that geometry found.

import { h, setStyle, svg } from "./dom.js";
import { apply, around, fitScale, invert, matrix3d, product, viewMatrix, viewOf } from "./geometry.js";
import { picture } from "./images.js";
import { t } from "./strings.js";

/** @typedef {import("./geometry.js").Point} Point */
/** @typedef {import("./geometry.js").Matrix} Matrix */
/** @typedef {{ address: string, name: string, width: number, height: number }} Side */
/** @typedef {{ transform: Matrix | null, inliers: number[][], outline: Point[] | null, boxes: number[][] }} Evidence */

const MOST = 24; // times larger than the whole
const BLINK = 700; // ms; slower than three flashes a second

export class Stage {
  zoom = 1;
  /** @type {Point} */
  centre = [0, 0]; // in pixels of the query
  object = false; // whether 1 means the object instead of the whole photo
  compare = false;
  lines = true;
  split = 50; // per cent of the pane that shows the query
  /** @type {Evidence} */
  evidence = { transform: null, inliers: [], outline: null, boxes: [] };
  /** @type {Matrix | null} */
  back = null;
  blinking = 0;
  /** @type {Map<number, Point>} */
  fingers = new Map();

  /** @param {Side} query @param {Side} result */
  constructor(query, result) {
    this.sides = [query, result];
    this.images = this.sides.map(({ address, name, width, height }) => picture(address, name, { eager: true, width, height, class: "photo" }));
    this.shapes = this.sides.map(() => svg("svg", { class: "overlay", "aria-hidden": "true" }));
    this.panes = this.images.map((image, i) => h("div", { class: `pane ${i ? "found" : "asked-for"}` }, image, this.shapes[i]));
    this.divider = h("div", { class: "divider", "aria-hidden": "true" });
    this.overlay = svg("svg", { class: "overlay", "aria-hidden": "true" });
    this.element = h("div", { class: "stage", tabIndex: 0, role: "application", "aria-label": t("proof.stage") }, this.panes, this.overlay, this.divider);
    this.centre = [query.width / 2, query.height / 2];
    for (const name of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) this.element.addEventListener(name, (event) => this.pointer(/** @type {PointerEvent} */ (event)));
    this.element.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.element.addEventListener("keydown", (event) => this.key(event));
    this.watcher = new ResizeObserver(() => this.draw());
    this.watcher.observe(this.element);
  }

  /** @param {Evidence} evidence */
  prove(evidence) {
    this.evidence = evidence;
    this.back = evidence.transform && invert(evidence.transform);
    this.draw();
  }

  leave() {
    this.watcher.disconnect();
    clearInterval(this.blinking);
  }

  /** What a zoom of 1 shows of a photo: all of it, or the object. @param {number} i @returns {number[]} */
  base(i) {
    const { width, height } = this.sides[i];
    const { outline, boxes, inliers } = this.evidence;
    const whole = [0, 0, width, height];
    if (!this.object) return whole;
    const corners = /** @type {Point[]} */ (boxes.flatMap(([x0, y0, x1, y1]) => [[x0, y0], [x1, y1]]));
    const points = i ? (outline ?? []) : corners;
    const ends = /** @type {Point[]} */ (inliers.map((row) => (i ? [row[2], row[3]] : [row[0], row[1]])));
    return points.length ? around(points, this.sides[i]) : ends.length ? around(ends, this.sides[i]) : whole;
  }

  /** @param {number} i @returns {import("./geometry.js").Size} */
  room(i) {
    const pane = this.panes[this.compare ? 0 : i];
    return { width: pane.clientWidth, height: pane.clientHeight };
  }

  /** How a photo is shown now. @param {number} i */
  view(i) {
    const room = this.room(i);
    const { transform } = this.evidence;
    const [query, result] = this.sides;
    const led = transform ? apply(transform, this.centre) : [(this.centre[0] / query.width) * result.width, (this.centre[1] / query.height) * result.height];
    return viewOf(this.sides[i], room, fitScale(this.base(i), room) * this.zoom, i ? /** @type {Point} */ (led) : this.centre);
  }

  draw() {
    if (!this.element.clientWidth) return;
    this.element.classList.toggle("compare", this.compare); // first: it makes the pane another size
    const [query, result] = [this.view(0), this.view(1)];
    setStyle(this.images[0], { transform: `matrix(${query.scale},0,0,${query.scale},${query.x},${query.y})` });
    const warped = this.compare && this.back ? matrix3d(product(viewMatrix(query), this.back)) : `matrix(${result.scale},0,0,${result.scale},${result.x},${result.y})`;
    setStyle(this.images[1], { transform: warped });
    setStyle(this.element, { "--split": `${this.split}%` });
    this.drawShapes([query, result]);
    this.drawLines([query, result]);
  }

  /** The boxes on the query, and the outline on the result. @param {import("./geometry.js").View[]} views */
  drawShapes(views) {
    const { outline, boxes } = this.evidence;
    const rings = [boxes.map(([x0, y0, x1, y1]) => [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), outline && !this.compare ? [outline] : []];
    views.forEach(({ scale, x, y }, i) => {
      const placed = rings[i].map((points) => ring(points.map(([px, py]) => [scale * px + x, scale * py + y])));
      this.shapes[i].replaceChildren(...placed.flat());
    });
  }

  /** @param {import("./geometry.js").View[]} views */
  drawLines(views) {
    const place = (/** @type {number} */ i, /** @type {Point} */ [x, y]) => {
      const { offsetLeft, offsetTop } = this.panes[i];
      return /** @type {Point} */ ([views[i].scale * x + views[i].x + offsetLeft, views[i].scale * y + views[i].y + offsetTop]);
    };
    this.overlay.replaceChildren(...(this.lines && !this.compare ? this.matchLines(place) : []));
  }

  /** Match lines, green at the top of the query and blue at its foot. @param {(i: number, point: Point) => Point} place */
  matchLines(place) {
    const { inliers } = this.evidence;
    const { height } = this.sides[0];
    return inliers.flatMap(([xq, yq, xr, yr]) => {
      const [a, b] = [place(0, [xq, yq]), place(1, [xr, yr])];
      if (!this.visible(0, a) || !this.visible(1, b)) return [];
      const stroke = `hsl(${130 + (90 * yq) / height} 85% 58%)`;
      const line = svg("line", { class: inliers.length > 60 ? "match many" : "match", x1: a[0], y1: a[1], x2: b[0], y2: b[1], stroke });
      return [line, ...[a, b].map(([cx, cy]) => svg("circle", { cx, cy, r: 2.2, fill: stroke }))];
    });
  }

  /** @param {number} i @param {Point} at */
  visible(i, [x, y]) {
    const { offsetLeft, offsetTop, clientWidth, clientHeight } = this.panes[i];
    return x >= offsetLeft && y >= offsetTop && x <= offsetLeft + clientWidth && y <= offsetTop + clientHeight;
  }

  /** Zoom by a factor, about a point of a pane or about the middle. @param {number} factor @param {number} [i] @param {Point} [at] */
  zoomBy(factor, i = 0, at) {
    const next = Math.min(Math.max(this.zoom * factor, 1), MOST);
    if (at) {
      const view = this.view(i);
      const { width, height } = this.room(i);
      const scale = (view.scale * next) / this.zoom;
      const fixed = [(at[0] - view.x) / view.scale, (at[1] - view.y) / view.scale];
      this.lead(i, [fixed[0] - (at[0] - width / 2) / scale, fixed[1] - (at[1] - height / 2) / scale]);
    }
    this.zoom = next;
    this.draw();
  }

  /** Move what pane i shows by (dx, dy) of the screen. @param {number} i @param {number} dx @param {number} dy */
  pan(i, dx, dy) {
    const view = this.view(i);
    const { width, height } = this.room(i);
    this.lead(i, [(width / 2 - view.x - dx) / view.scale, (height / 2 - view.y - dy) / view.scale]);
    this.draw();
  }

  /** Put a point of photo i into the middle. @param {number} i @param {Point} at */
  lead(i, at) {
    const [query, result] = this.sides;
    const asked = !i || this.compare ? at : this.back ? apply(this.back, at) : [(at[0] / result.width) * query.width, (at[1] / result.height) * query.height];
    const [x, y] = asked.every(Number.isFinite) ? asked : this.centre;
    this.centre = [Math.min(Math.max(x, 0), query.width), Math.min(Math.max(y, 0), query.height)];
  }

  /** @param {boolean} object */
  fit(object) {
    this.object = object;
    this.zoom = 1;
    const [x0, y0, x1, y1] = this.base(0);
    this.centre = [(x0 + x1) / 2, (y0 + y1) / 2];
    this.draw();
  }

  /** @param {boolean} on */
  blink(on) {
    clearInterval(this.blinking);
    this.element.classList.remove("off");
    if (on) this.blinking = window.setInterval(() => this.element.classList.toggle("off"), BLINK);
  }

  /** The pane under an event, and the point of it. @param {MouseEvent} event @returns {[number, Point]} */
  under(event) {
    const over = this.compare ? 0 : this.panes.findIndex((pane) => pane.contains(/** @type {Node} */ (event.target)));
    const i = Math.max(over, 0);
    const frame = this.panes[i].getBoundingClientRect();
    return [i, [event.clientX - frame.left, event.clientY - frame.top]];
  }

  dragging = -1; // the pane whose photo is dragged
  sliding = false;

  /** @param {PointerEvent} event */
  pointer(event) {
    const at = /** @type {Point} */ ([event.clientX, event.clientY]);
    if (event.type === "pointerdown") {
      if (event.button) return;
      this.dragging = this.under(event)[0];
      this.sliding = event.target === this.divider;
      this.fingers.set(event.pointerId, at);
      this.element.setPointerCapture(event.pointerId);
    } else if (event.type === "pointermove") this.drag(event.pointerId, at);
    else this.fingers.delete(event.pointerId);
  }

  /** @param {number} id @param {Point} at */
  drag(id, at) {
    const was = this.fingers.get(id);
    if (!was) return;
    const other = [...this.fingers].find(([one]) => one !== id)?.[1];
    this.fingers.set(id, at);
    const frame = this.panes[this.dragging].getBoundingClientRect();
    if (this.sliding) this.slide((100 * (at[0] - frame.left)) / frame.width);
    else if (other) {
      const length = (/** @type {Point} */ [x, y]) => Math.hypot(x - other[0], y - other[1]) || 1;
      this.zoomBy(length(at) / length(was), this.dragging, [(at[0] + other[0]) / 2 - frame.left, (at[1] + other[1]) / 2 - frame.top]);
    } else this.pan(this.dragging, at[0] - was[0], at[1] - was[1]);
  }

  /** @param {number} split */
  slide(split) {
    this.split = Math.min(Math.max(split, 0), 100);
    this.element.dispatchEvent(new CustomEvent("split", { detail: this.split }));
    this.draw();
  }

  /** @param {WheelEvent} event */
  wheel(event) {
    event.preventDefault();
    const [i, at] = this.under(event);
    this.zoomBy(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0016)), i, at);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = 60;
    /** @type {Record<string, () => void>} */
    const keys = {
      ArrowLeft: () => this.pan(0, step, 0), ArrowRight: () => this.pan(0, -step, 0), ArrowUp: () => this.pan(0, 0, step), ArrowDown: () => this.pan(0, 0, -step),
      "+": () => this.zoomBy(1.25), "=": () => this.zoomBy(1.25), "-": () => this.zoomBy(0.8), 0: () => this.fit(false),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }
}

/** An outline that is seen on light and dark. @param {Point[]} points */
function ring(points) {
  const d = points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  return [svg("polygon", { class: "casing", points: d }), svg("polygon", { class: "outline", points: d })];
}
