// Examples beside the query: photos that show it, too, and photos that show something else.

import { announce, button, h, icon } from "./dom.js";
import { picture, thumbnail } from "./images.js";
import { current, go } from "./route.js";
import { collection } from "./session.js";
import { t } from "./strings.js";

/** @typedef {"also" | "without"} Kind */

const MOST = 4; // of a kind, as the server allows
const SIGNS = { also: "plus", without: "minus" };
/** @type {Kind[]} */
const KINDS = ["also", "without"];

/** The last part of the path that a key stands for (base64url of UTF-8). @param {string} key */
function nameOf(key) {
  try {
    const bytes = Uint8Array.from(atob(key.replaceAll("-", "+").replaceAll("_", "/")), (one) => one.charCodeAt(0));
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes).split(/[\\/]/).pop() || key;
  } catch {
    return key; // whatever stands in an address: the server refuses it in words
  }
}

/** Make a photo an example of a kind, or none any more. @param {Kind} kind @param {string} key */
function toggle(kind, key) {
  const route = current();
  const chosen = route[kind].includes(key);
  const others = { also: route.also.filter((one) => one !== key), without: route.without.filter((one) => one !== key) };
  go({ ...route, ...others, [kind]: chosen ? others[kind] : [...others[kind], key], result: "", by: "" });
  const name = nameOf(key);
  announce(chosen ? t("example.removed", { name }) : t(`example.${kind}.chosen`, { name }));
}

/** Two buttons of a result: it shows the same, it shows something else. @param {string} key @param {string} name */
export function marks(key, name) {
  const route = current();
  return h("div", { class: "marks" }, KINDS.map((kind) => {
    const pressed = route[kind].includes(key);
    const full = !pressed && route[kind].length >= MOST;
    const label = full ? t("example.full", { n: MOST }) : t(`example.${kind}`, { name });
    return button(SIGNS[kind], label, () => mark(kind, key), { bare: true, disabled: full, "aria-pressed": String(pressed), data: { mark: kind } });
  }));
}

/** @param {Kind} kind @param {string} key */
function mark(kind, key) {
  toggle(kind, key);
  // A photo that shows something else leaves the results; its chip takes the focus, and takes it back.
  if (kind === "without") /** @type {HTMLElement | null} */ (document.querySelector(`.examples [data-example="${CSS.escape(key)}"]`))?.focus({ preventScroll: true });
}

/** The examples that are chosen, each a button that removes it. @param {import("./route.js").Route} route */
export function chips(route) {
  const list = (/** @type {Kind} */ kind) => route[kind].map((key) => h("li", {}, chip(kind, key)));
  const shown = KINDS.flatMap(list);
  return shown.length ? [h("h3", { id: "examples" }, t("example.title")), h("ul", { class: "chips", "aria-labelledby": "examples" }, shown)] : [];
}

/** @param {Kind} kind @param {string} key */
function chip(kind, key) {
  const name = nameOf(key);
  const remove = () => {
    toggle(kind, key);
    /** @type {HTMLElement | null} */ (document.querySelector(".examples button, .known button"))?.focus({ preventScroll: true });
  };
  const label = t(`example.${kind}.remove`, { name });
  return h("button", { type: "button", class: kind, "aria-label": label, title: label, data: { example: key }, onclick: remove },
    icon(SIGNS[kind]), picture(thumbnail(collection().name, { key }, 160), ""), h("span", { class: "name" }, name), icon("close"));
}
