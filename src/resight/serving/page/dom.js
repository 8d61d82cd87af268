// Elements without templates: text is always a text node, so nothing of a photo's name can become markup.

/** @typedef {Node | string | number | null | undefined | boolean | ChildList} Child */
/** @typedef {Child[]} ChildList */

/**
 * An HTML element. Properties: `class`, `style` (an object, set by CSSOM, which the CSP allows), `on…` listeners, `data`,
 * properties of the element, and attributes for whatever else; null, undefined and false leave one out.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {Record<string, any>} [props] @param {...Child} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  setProps(element, props);
  append(element, children);
  return element;
}

/**
 * An SVG element with attributes.
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} tag @param {Record<string, any>} [props] @param {...Child} children
 * @returns {SVGElementTagNameMap[K]}
 */
export function svg(tag, props = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  setProps(element, props);
  append(element, children);
  return element;
}

/** @param {Element} element @param {Record<string, any>} props */
function setProps(element, props) {
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") element.setAttribute("class", value);
    else if (name === "style") setStyle(/** @type {HTMLElement} */ (element), value);
    else if (name === "data") Object.assign(/** @type {HTMLElement} */ (element).dataset, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (element instanceof HTMLElement && name in element && !name.startsWith("aria")) {
      /** @type {any} */ (element)[name] = value;
    } else element.setAttribute(name, value === true ? "" : String(value));
  }
}

/** @param {HTMLElement | SVGElement} element @param {Record<string, string | number>} style */
export function setStyle(element, style) {
  for (const [name, value] of Object.entries(style)) element.style.setProperty(name, String(value));
}

/** @param {Element} element @param {Child[]} children */
function append(element, children) {
  for (const child of children) {
    if (Array.isArray(child)) append(element, child);
    else if (child !== null && child !== undefined && child !== false) {
      element.append(child instanceof Node ? child : String(child));
    }
  }
}

const ICONS = new URL("icons.svg", import.meta.url).pathname;

/** A picture from icons.svg; what it means must be said beside it. @param {string} name @returns {SVGSVGElement} */
export function icon(name) {
  return svg("svg", { class: "icon", "aria-hidden": "true", viewBox: "0 0 24 24" }, svg("use", { href: `${ICONS}#${name}` }));
}

/**
 * A button with an icon; `label` is its name, shown unless `bare`.
 * @param {string} name @param {string} label @param {(event: MouseEvent) => void} onclick
 * @param {Record<string, any>} [props] @returns {HTMLButtonElement}
 */
export function button(name, label, onclick, { bare = false, ...props } = {}) {
  const named = bare ? { "aria-label": label, title: label } : {};
  return h("button", { type: "button", class: bare ? "bare" : "", onclick, ...named, ...props }, icon(name), !bare && h("span", {}, label));
}

/** Add a style sheet once, and wait until it applies. @param {string} name @returns {Promise<void>} */
export function loadStyle(name) {
  const href = new URL(name, import.meta.url).pathname;
  if (document.querySelector(`link[href="${href}"]`)) return Promise.resolve();
  return new Promise((resolve) => {
    const link = h("link", { rel: "stylesheet", href });
    link.addEventListener("load", () => resolve());
    link.addEventListener("error", () => resolve());
    document.head.append(link);
  });
}

let pending = 0;

/** Say something to a screen reader without moving the focus. @param {string} message */
export function announce(message) {
  const region = document.getElementById("live");
  if (!region) return;
  region.textContent = "";
  cancelAnimationFrame(pending);
  pending = requestAnimationFrame(() => {
    region.textContent = message; // an emptied region first: the same words are said again
  });
}

/** Whether the reader asked for little motion. */
export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/**
 * Offer a file for download.
 * @param {string} name @param {string} type @param {string} text
 */
export function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
