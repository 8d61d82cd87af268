// Why is this a match? A dialog with both photos, what agrees between them, and words for it.

import { json } from "./api.js";
import { announce, button, h, icon, loadStyle } from "./dom.js";
import { segments } from "./dialogs.js";
import { queryAddress } from "./ask.js";
import { picture, thumbnail } from "./images.js";
import { badge, classOf, shortName } from "./results.js";
import { current, go, href } from "./route.js";
import { collection, here } from "./session.js";
import { typed } from "./stream.js";
import { Stage } from "./stage.js";
import { failure } from "./states.js";
import { count, decimal, t } from "./strings.js";

/** @typedef {import("./route.js").Route} Route */
/** @typedef {import("./types.js").Result} Result */
/** @typedef {import("./types.js").Explanation} Proof */
/** @typedef {{ dialog: HTMLDialogElement, body: HTMLElement, result: string, stage: Stage | null, neighbours: () => Result[] }} Open */

/** @type {Open | null} */
let open = null;

/** What found the result of a route: the query, or an example beside it. @param {Route} route */
const finder = (route) => (route.by ? { photo: route.by, query: "", boxes: [] } : route);

/** Show the proof of the result that a route names. @param {Route} route @param {() => Result[]} results those of the list, for the next and the one before */
export async function openProof(route, results) {
  if (open?.result === route.result) return;
  await loadStyle("proof.css");
  if (!open) open = makeDialog(results);
  const shown = open;
  shown.result = route.result;
  shown.neighbours = results;
  shown.stage?.leave();
  shown.body.replaceChildren(h("div", { class: "state" }, h("span", { class: "spinner" })));
  const { photo, query, boxes } = finder(route);
  try {
    /** @type {import("./types.js").Explanation} */
    const proof = await json(here(["explain"], { query: photo ? "" : query, photo, result: route.result, box: boxes.map((box) => box.join(",")), recipe: route.recipe, options: Object.keys(route.options).length ? JSON.stringify(typed(route.options)) : "" }));
    if (open === shown && shown.result === route.result) fill(shown, route, proof);
  } catch (error) {
    if (open === shown) shown.body.replaceChildren(header(t("proof.title")), failure(error));
  }
}

export function closeProof() {
  const shown = open;
  open = null;
  shown?.stage?.leave();
  shown?.dialog.close();
}

/** @param {() => Result[]} results @returns {Open} */
function makeDialog(results) {
  const body = h("div", { class: "proof-body" });
  const dialog = h("dialog", { class: "proof", "aria-labelledby": "proof-title" }, body);
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (open?.dialog === dialog) open.stage?.leave(), (open = null);
    if (current().result) go({ ...current(), result: "", by: "" });
  });
  dialog.addEventListener("keydown", (event) => {
    if (/^(INPUT|SELECT)$/.test(/** @type {Element} */ (event.target).tagName)) return;
    if (event.key === "n") step(1);
    if (event.key === "p") step(-1);
  });
  document.body.append(dialog);
  dialog.showModal();
  return { dialog, body, result: "", stage: null, neighbours: results };
}

/** Go to the next result, or the one before. @param {number} by */
function step(by) {
  if (!open) return;
  const results = open.neighbours();
  const next = results[results.findIndex(({ key }) => key === open?.result) + by];
  if (next) go({ ...current(), result: next.key, by: next.example ?? "" }, { replace: true });
}

/** @param {string} title @param {...Node} more */
function header(title, ...more) {
  return h(
    "header", { class: "proof-head" }, h("h2", { id: "proof-title", tabIndex: -1 }, title), more,
    h("div", { class: "tools" }, button("left", t("proof.before"), () => step(-1), { bare: true }), button("right", t("proof.next"), () => step(1), { bare: true }), button("close", t("close"), () => open?.dialog.close(), { bare: true })),
  );
}

/** @param {Open} shown @param {Route} route @param {Proof} proof */
function fill(shown, route, proof) {
  const { name } = collection();
  const { result, query: asked } = proof;
  const { photo, query } = finder(route);
  const sides = [
    { address: photo ? thumbnail(name, { key: photo }, 1280) : queryAddress(query, 1280), name: t("proof.query"), ...pick(asked) },
    { address: thumbnail(name, result, 1280), name: shortName(result.id), ...pick(result) },
  ];
  const stage = new Stage(sides[0], sides[1]);
  shown.stage = stage;
  const facts = [t("result.score", { score: decimal(result.score) }), ...(result.inliers ? [count("inliers", result.inliers)] : [])].join(" · ");
  const mark = h("div", { class: "row" }, badge(classOf(result)), h("span", { class: "number soft" }, facts));
  shown.body.replaceChildren(header(shortName(result.id), mark, modes(stage, proof)), h("div", { class: "framed" }, stage.element, toolbar(stage)), slider(stage), words(route, proof, result));
  stage.prove({ transform: proof.transform, inliers: proof.inliers, outline: proof.outline, boxes: asked.boxes });
  /** @type {HTMLElement} */ (shown.body.querySelector("h2")).focus();
  announce([shortName(result.id), t(`match.${classOf(result)}`), facts].join(", "));
}

/** @param {{ width: number, height: number }} size */
const pick = ({ width, height }) => ({ width, height });

/** Side by side, or one on the other where a transform is known. @param {Stage} stage @param {Proof} proof */
function modes(stage, proof) {
  const mode = segments(t("proof.mode"), "mode", [["pair", t("proof.pair")], ["compare", t("proof.compare")]], "pair", (value) => setMode(stage, value === "compare"));
  mode.querySelector("legend")?.classList.add("unseen");
  mode.disabled = !proof.transform;
  return mode;
}

/** What is shown of the pair, and how large. @param {Stage} stage */
function toolbar(stage) {
  return h(
    "div", { class: "strip-tools", role: "group", "aria-label": t("proof.tools") },
    toggle("lines", t("proof.lines"), "only-pair", true, (on) => ((stage.lines = on), stage.draw())),
    toggle("blink", t("proof.blink"), "only-compare", false, (on) => stage.blink(on)),
    toggle("object", t("proof.object"), "", false, (on) => stage.fit(on)),
    button("plus", t("proof.in"), () => stage.zoomBy(1.45), { bare: true }), button("minus", t("proof.out"), () => stage.zoomBy(0.7), { bare: true }),
  );
}

/** A button that stays pressed. @param {string} name @param {string} label @param {string} kind @param {boolean} pressed @param {(on: boolean) => void} set */
function toggle(name, label, kind, pressed, set) {
  const one = button(name, label, () => {
    const on = one.getAttribute("aria-pressed") !== "true";
    one.setAttribute("aria-pressed", String(on));
    set(on);
  }, { bare: true, "aria-pressed": String(pressed) });
  if (kind) one.classList.add(kind);
  return one;
}

/** @param {Stage} stage @param {boolean} compare */
function setMode(stage, compare) {
  stage.compare = compare;
  stage.element.closest(".proof-body")?.classList.toggle("comparing", compare);
  stage.blink(false);
  stage.element.closest(".proof-body")?.querySelector(".strip-tools .only-compare")?.setAttribute("aria-pressed", "false");
  stage.draw();
}

/** @param {Stage} stage */
function slider(stage) {
  const range = h("input", { type: "range", min: "0", max: "100", value: "50", id: "split", oninput: () => ((stage.split = Number(range.value)), stage.draw()) });
  stage.element.addEventListener("split", (event) => (range.value = String(/** @type {CustomEvent} */ (event).detail)));
  return h("div", { class: "slider only-compare" }, h("label", { htmlFor: "split" }, t("proof.split")), range);
}

/** What geometry says, the way through the graph, and what can be done next. @param {Route} route @param {Proof} proof @param {Result} result */
function words(route, proof, result) {
  const { collection: name } = route;
  const chain = (/** @type {string} */ title, /** @type {Proof["path"]} */ photos, /** @type {string} */ kind) =>
    photos.length > 0 && h("div", { class: "chain" }, h("h3", {}, title), h("ol", {}, photos.map((photo) => h("li", { class: kind }, link(photo, name)))));
  return h(
    "div", { class: "proof-words" },
    proof.significance && h("p", { lang: "en" }, proof.significance), proof.transform ? null : h("p", { class: "soft" }, t("proof.no-transform")),
    chain(t("proof.path"), proof.path, "way"),
    more(proof, chain(t("proof.sources"), proof.sources, "")),
    h(
      "div", { class: "row" },
      h("a", { class: "button", href: href({ collection: name, photo: result.key, recipe: route.recipe, where: route.where }) }, icon("search"), t("result.use.title")),
      h("a", { class: "button", href: href({ view: "neighbours", collection: name, photo: result.key }) }, icon("graph"), t("ask.neighbours")),
    ),
    h("p", { class: "soft keys" }, t("proof.keys")),
  );
}

/** What every stage of the recipe has to say, and the photos that widened the query. @param {Proof} proof @param {HTMLElement | false} sources */
const more = ({ stages }, sources) =>
  (stages.length > 0 || sources) &&
  h("details", { class: "fold" }, h("summary", {}, t("proof.stages")), h("div", { class: "body" }, h("dl", { class: "stages soft", lang: "en" }, stages.flatMap(({ stage, summary }) => [h("dt", {}, stage), h("dd", {}, summary)])), sources));

/** @param {{ key: string, id: string }} photo @param {string} name */
const link = (photo, name) =>
  h("a", { href: href({ collection: name, photo: photo.key }), "aria-label": t("result.use", { name: shortName(photo.id) }) }, picture(thumbnail(collection().name, photo, 160), ""), h("span", {}, shortName(photo.id)));
