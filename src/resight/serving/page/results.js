// The ranked list: justified rows, three classes told apart by frame, sign and word.

import { h, icon, still } from "./dom.js";
import { marks } from "./examples.js";
import { picture, thumbnail } from "./images.js";
import { current, href } from "./route.js";
import { collection } from "./session.js";
import { count, decimal, t } from "./strings.js";

/** @typedef {import("./types.js").Result} Result */
/** @typedef {import("./types.js").Photo} Photo */

export const CLASSES = ["proven", "possible", "pending", "similar", "none"];

/** Whether a match can be told from what is merely similar. */
export const judged = () => collection().proof || collection().threshold !== null;

/** The class of a result; what geometry has not looked at yet is pending. @param {Result} result */
export const classOf = (result) => (result.match === "none" && !judged() ? "similar" : (result.match ?? "pending"));

/** Width over height for a justified row; extremes are cropped. @param {{ width: number, height: number }} photo */
export const aspect = ({ width, height }) => Math.min(Math.max(width / height || 1, 0.7), 2.1).toFixed(3);

/** The last part of a path, which is what people know a photo by. @param {string} id */
export const shortName = (id) => id.split(/[\\/]/).pop() ?? id;

/** @param {string} name proven, possible, none or pending */
export const badge = (name) => h("span", { class: `badge ${name}` }, icon(name), h("span", {}, t(`match.${name}`)));

/** A photo as a link in a frame. @param {Photo | Result} photo @param {string} to @param {string} label @param {string} [alt] */
export function frame(photo, to, label, alt = "") {
  return h("a", { class: "frame", href: to, "aria-label": label }, picture(thumbnail(collection().name, photo, 320), alt));
}

/**
 * One result as a card; the frame of an earlier card is kept, so that its picture does not flicker.
 * @param {Result} result @param {Element} [kept] @param {Result[]} [copies] other results that are the same file
 */
export function card(result, kept, copies = []) {
  const kind = classOf(result);
  const route = current();
  const name = shortName(result.id);
  const facts = [t("result.score", { score: decimal(result.score) }), ...(result.inliers ? [count("inliers", result.inliers)] : [])];
  const other = h(
    "a", { class: "button bare", href: href({ collection: route.collection, photo: result.key, recipe: route.recipe, options: route.options, where: route.where }), "aria-label": t("result.use", { name }), title: t("result.use.title") },
    icon("search"),
  );
  const words = h("div", { class: "words" }, badge(kind), h("span", { class: "number" }, facts.map((fact, i) => [i ? " · " : "", h("span", { class: "fact" }, fact)])), h("span", { class: "name", title: result.id }, name),
    copies.length > 0 && h("details", { class: "copies" }, h("summary", {}, count("copies", copies.length)), h("ul", {}, copies.map(({ id }) => h("li", {}, id)))));
  return h(
    "li", { class: `card ${kind}`, style: { "--aspect": aspect(result) }, data: { key: result.key } },
    framed(kept, result, href({ ...route, result: result.key, by: result.example ?? "" }), t("result.open", { name, match: t(`match.${kind}`), facts: facts.join(", ") })),
    marks(result.key, name), h("div", { class: "said" }, words, other),
  );
}

/** @param {Element | undefined} kept @param {Result} result @param {string} to @param {string} label */
function framed(kept, result, to, label) {
  if (!kept) return frame(result, to, label);
  kept.setAttribute("href", to);
  kept.setAttribute("aria-label", label);
  return kept;
}

/**
 * Draw results by class into `root`; cards that stay move gently to their new place.
 * @param {HTMLElement} root @param {Result[]} results @param {string} only "match" hides the others
 */
export function drawResults(root, results, only) {
  const before = places(root);
  const focus = /** @type {HTMLElement | null} */ (document.activeElement?.closest?.("[data-key]"))?.dataset.key;
  const marking = /** @type {HTMLElement | null} */ (document.activeElement)?.dataset.mark;
  const kept = new Map([...root.querySelectorAll("[data-key]")].map((one) => [/** @type {HTMLElement} */ (one).dataset.key, one.querySelector(".frame") ?? undefined]));
  const shown = CLASSES.filter((name) => !only || name === "proven");
  const sections = shown.map((name) => {
    const members = results.filter((result) => classOf(result) === name);
    return section(name, members.length, folded(members).map(([first, ...copies]) => card(first, kept.get(first.key), copies)));
  });
  root.replaceChildren(...sections.filter((one) => one !== null));
  if (focus && root.isConnected) /** @type {HTMLElement | null} */ (root.querySelector(`[data-key="${focus}"] ${marking ? `[data-mark="${marking}"]` : "a"}`))?.focus({ preventScroll: true });
  glide(root, before);
}

/** Results of the same file together, each where its best one stands. @param {Result[]} results @returns {Result[][]} */
function folded(results) {
  /** @type {Map<string, Result[]>} */
  const files = new Map();
  for (const result of results) files.set(result.version, [...(files.get(result.version) ?? []), result]);
  return [...files.values()];
}

/** @param {string} name @param {number} members @param {HTMLElement[]} cards */
function section(name, members, cards) {
  if (!members) return null;
  const heading = h("h2", { id: `class-${name}` }, t(`class.${name}`), h("span", { class: "count number" }, String(members)));
  return h("section", { class: "class", "aria-labelledby": `class-${name}` }, heading, h("ul", { class: ["none", "similar"].includes(name) ? "grid small" : "grid" }, cards));
}

/** @param {HTMLElement} root @returns {Map<string, DOMRect>} */
function places(root) {
  const cards = /** @type {NodeListOf<HTMLElement>} */ (root.querySelectorAll("[data-key]"));
  return new Map([...cards].map((one) => [one.dataset.key ?? "", one.getBoundingClientRect()]));
}

/** First, last, invert, play: a reordered list is followed by the eye. @param {HTMLElement} root @param {Map<string, DOMRect>} before */
function glide(root, before) {
  if (still() || !before.size) return;
  for (const [key, now] of places(root)) {
    const was = before.get(key);
    if (!was || (was.x === now.x && was.y === now.y)) continue;
    const element = /** @type {HTMLElement} */ (root.querySelector(`[data-key="${key}"]`));
    element.animate([{ transform: `translate(${was.x - now.x}px, ${was.y - now.y}px)` }, { transform: "none" }], { duration: 320, easing: "cubic-bezier(.2,.7,.2,1)" });
  }
}

/** Grey places where results will stand. */
export const ghosts = () =>
  h("ul", { class: "grid", "aria-hidden": "true" }, [1.5, 0.75, 1.33, 1.5, 1, 1.33, 0.75, 1.5].map((aspect) => h("li", { class: "card ghost", style: { "--aspect": aspect } }, h("span", { class: "frame" }))));
