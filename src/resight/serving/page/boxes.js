// <box-editor>: a photo on which boxes are drawn, moved and resized by mouse, finger, pen or keys.

import { announce, h, setStyle, svg } from "./dom.js";
import { picture } from "./images.js";
import { t } from "./strings.js";

/** @typedef {import("./route.js").Box} Box */
/** @typedef {{ handle: string, box: Box, x: number, y: number }} Grip */

const HANDLES = ["nw", "ne", "sw", "se"];
const LEAST = 8; // pixels of the photo; a smaller box has hardly a feature in it

/** A box inside a photo, with sides in order. @param {number[]} box @param {number} width @param {number} height @returns {Box} */
export function inside([x0, y0, x1, y1], width, height) {
  const cut = (/** @type {number} */ value, /** @type {number} */ most) => Math.round(Math.min(Math.max(value, 0), most));
  const [left, right] = [cut(Math.min(x0, x1), width), cut(Math.max(x0, x1), width)];
  const [top, bottom] = [cut(Math.min(y0, y1), height), cut(Math.max(y0, y1), height)];
  return [left, top, right, bottom];
}

/** A box moved by (dx, dy), stopped at the edges of the photo. @param {Box} box @param {number} dx @param {number} dy @param {number} width @param {number} height @returns {Box} */
export function moved([x0, y0, x1, y1], dx, dy, width, height) {
  const right = Math.min(Math.max(dx, -x0), width - x1);
  const down = Math.min(Math.max(dy, -y0), height - y1);
  return inside([x0 + right, y0 + down, x1 + right, y1 + down], width, height);
}

/** A box whose named corner moved by (dx, dy). @param {Box} box @param {string} handle @param {number} dx @param {number} dy @param {number} width @param {number} height @returns {Box} */
export function resized([x0, y0, x1, y1], handle, dx, dy, width, height) {
  const west = handle.includes("w"), north = handle.includes("n");
  return inside([x0 + (west ? dx : 0), y0 + (north ? dy : 0), x1 + (west ? 0 : dx), y1 + (north ? 0 : dy)], width, height);
}

export class BoxEditor extends HTMLElement {
  width = 1;
  height = 1;
  /** @type {Box[]} */
  boxes = [];
  /** @type {Grip | null} */
  grip = null;
  shade = svg("svg", { "aria-hidden": "true" });
  layer = h("div");

  /**
   * Show a photo, once its size in pixels is known, with boxes on it.
   * @param {string} address @param {string} alt @param {number} width @param {number} height @param {Box[]} boxes
   */
  show(address, alt, width, height, boxes) {
    this.width = width;
    this.height = height;
    this.shade.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.replaceChildren(picture(address, alt, { eager: true, width, height, lost: t("ask.unshown") }), this.shade, this.layer);
    this.set(boxes);
  }

  connectedCallback() {
    this.addEventListener("pointerdown", this);
    this.addEventListener("keydown", this);
    this.drawing(!matchMedia("(pointer: coarse)").matches);
  }

  /** Whether a drag over the photo draws; a finger otherwise scrolls the page. @param {boolean} on */
  drawing(on) {
    this.classList.toggle("draws", on);
  }

  /** Show these boxes; those that are shown already keep their elements, and with them the focus. @param {Box[]} boxes */
  set(boxes) {
    const next = boxes.map((box) => inside(box, this.width, this.height));
    const same = this.layer.children.length === next.length && next.join(" ") === this.boxes.join(" ");
    this.boxes = next;
    if (same) this.place();
    else this.render();
  }

  /** Add a box in the middle and give it the focus: how one is made without a pointer. */
  add() {
    const { width, height } = this;
    this.boxes.push(inside([width / 4, height / 4, (3 * width) / 4, (3 * height) / 4], width, height));
    this.render();
    this.focusBox(this.boxes.length - 1);
    this.changed();
  }

  /** @param {number} number */
  focusBox(number) {
    /** @type {HTMLElement | undefined} */ (this.layer.children[number])?.focus();
  }

  changed() {
    this.dispatchEvent(new CustomEvent("boxes", { detail: this.boxes.map((box) => [...box]) }));
  }

  render() {
    const places = this.boxes.map((box, number) => this.boxElement(box, number));
    this.layer.replaceChildren(...places);
    this.place();
  }

  /** @param {Box} box @param {number} number */
  boxElement(box, number) {
    return h(
      "div",
      { class: "box", tabIndex: 0, role: "application", "aria-roledescription": t("box.role"), data: { number: String(number) } },
      HANDLES.map((name) => h("i", { class: `handle ${name}`, data: { handle: name } })),
    );
  }

  /** Put every box where it is now; elements stay, so that a drag or the focus is not lost. */
  place() {
    const { width, height, boxes } = this;
    boxes.forEach((box, number) => {
      const element = /** @type {HTMLElement} */ (this.layer.children[number]);
      element.setAttribute("aria-label", describe(box, number));
      setStyle(element, {
        left: `${(100 * box[0]) / width}%`, top: `${(100 * box[1]) / height}%`,
        width: `${(100 * (box[2] - box[0])) / width}%`, height: `${(100 * (box[3] - box[1])) / height}%`,
      });
    });
    const whole = svg("rect", { width, height, fill: "#fff" });
    const holes = boxes.map(([x0, y0, x1, y1]) => svg("rect", { x: x0, y: y0, width: x1 - x0, height: y1 - y0, fill: "#000" }));
    const dark = svg("rect", { width, height, fill: "#000", "fill-opacity": 0.45, mask: "url(#boxes)" });
    this.shade.replaceChildren(...(boxes.length ? [svg("mask", { id: "boxes" }, whole, holes), dark] : []));
  }

  /** @param {Event} event */
  handleEvent(event) {
    if (event instanceof KeyboardEvent) this.key(event);
    else if (event.type === "pointerdown") this.down(/** @type {PointerEvent} */ (event));
    else if (event.type === "pointermove") this.move(/** @type {PointerEvent} */ (event));
    else this.up();
  }

  /** A point of the screen in pixels of the photo. @param {PointerEvent} event */
  at(event) {
    const frame = this.getBoundingClientRect();
    return [((event.clientX - frame.left) / frame.width) * this.width, ((event.clientY - frame.top) / frame.height) * this.height];
  }

  /** @param {PointerEvent} event */
  down(event) {
    const target = /** @type {HTMLElement} */ (event.target);
    const element = /** @type {HTMLElement | null} */ (target.closest(".box"));
    if (event.button || (!element && !this.classList.contains("draws"))) return;
    event.preventDefault();
    const [x, y] = this.at(event);
    if (!element) this.boxes.push([x, y, x, y]), this.render();
    const number = element ? Number(element.dataset.number) : this.boxes.length - 1;
    this.number = number;
    this.grip = { handle: element ? (target.dataset.handle ?? "") : "se", box: this.boxes[number], x, y };
    this.setPointerCapture(event.pointerId);
    for (const name of ["pointermove", "pointerup", "pointercancel"]) this.addEventListener(name, this);
    this.focusBox(number);
  }

  number = 0;

  /** @param {PointerEvent} event */
  move(event) {
    if (!this.grip) return;
    const [x, y] = this.at(event);
    const { handle, box, x: fromX, y: fromY } = this.grip;
    const [dx, dy] = [x - fromX, y - fromY];
    const { width, height } = this;
    this.boxes[this.number] = handle ? resized(box, handle, dx, dy, width, height) : moved(box, dx, dy, width, height);
    this.place();
  }

  up() {
    for (const name of ["pointermove", "pointerup", "pointercancel"]) this.removeEventListener(name, this);
    const before = this.grip?.box;
    this.grip = null;
    const after = this.boxes[this.number];
    if (!after || (before && String(before) === String(after))) return;
    if (after[2] - after[0] < LEAST || after[3] - after[1] < LEAST) this.boxes.splice(this.number, 1);
    this.render();
    this.focusBox(this.number);
    this.changed();
  }

  /** Arrows move a box, with Shift resize it, with Alt by one pixel; Delete removes it. @param {KeyboardEvent} event */
  key(event) {
    const element = /** @type {HTMLElement | null} */ (/** @type {Element} */ (event.target).closest(".box"));
    if (!element || event.ctrlKey || event.metaKey) return;
    const number = Number(element.dataset.number);
    if (event.key === "Delete" || event.key === "Backspace") this.drop(number);
    else if (event.key.startsWith("Arrow")) this.nudge(number, event);
    else return;
    event.preventDefault();
    this.changed();
  }

  /** @param {number} number */
  drop(number) {
    this.boxes.splice(number, 1);
    this.render();
    announce(t("box.removed"));
    if (this.boxes.length) this.focusBox(Math.min(number, this.boxes.length - 1));
  }

  /** @param {number} number @param {KeyboardEvent} event */
  nudge(number, event) {
    const { width, height } = this;
    const step = event.altKey ? 1 : Math.max(width, height) / 50;
    const dx = { ArrowLeft: -step, ArrowRight: step }[event.key] ?? 0;
    const dy = { ArrowUp: -step, ArrowDown: step }[event.key] ?? 0;
    const box = this.boxes[number];
    const next = event.shiftKey ? resized(box, "se", dx, dy, width, height) : moved(box, dx, dy, width, height);
    if (next[2] - next[0] >= LEAST && next[3] - next[1] >= LEAST) this.boxes[number] = next;
    this.place();
    announce(describe(this.boxes[number], number));
  }
}

/** @param {Box} box @param {number} number */
const describe = ([x0, y0, x1, y1], number) =>
  t("box.place", { n: number + 1, left: Math.round(x0), top: Math.round(y0), width: Math.round(x1 - x0), height: Math.round(y1 - y0) });

customElements.define("box-editor", BoxEditor);
