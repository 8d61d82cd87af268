// Which photos are meant: folder, time, size and tag, each with the number of photos that are left.

import { json } from "./api.js";
import { button, h } from "./dom.js";
import { current, go } from "./route.js";
import { collection, here } from "./session.js";
import { date, number, t } from "./strings.js";

/** @typedef {import("./route.js").Route} Route */
/** @typedef {{ value: string, count: number }} Counted */
/** @typedef {{ folders: Counted[], months: Counted[], sizes: Counted[], tags: Counted[] }} Facets */

/** @type {Map<string, Promise<Facets>>} */
const known = new Map();

/** Counts of the photos that pass all filters but those named; asked for once. @param {Record<string, string>} where @param {string[]} without @returns {Promise<Facets>} */
export function facets(where, without) {
  const rest = Object.fromEntries(Object.entries(where).filter(([name]) => !without.includes(name)));
  const address = here(["facets"], rest);
  const name = `${collection().version} ${address}`;
  if (!known.has(name)) known.set(name, json(address));
  const found = /** @type {Promise<Facets>} */ (known.get(name));
  found.catch(() => known.delete(name));
  return found;
}

/** Set filters; "" removes one. @param {Record<string, string>} changes */
function set(changes) {
  const route = current();
  const where = Object.fromEntries(Object.entries({ ...route.where, ...changes }).filter(([, value]) => value));
  go({ ...route, where, result: "", photo: route.view === "photos" ? "" : route.photo }, { replace: true });
}

/** @param {Route} route @param {boolean} [open] */
export function filterFold(route, open = false) {
  const active = Object.keys(route.where).length;
  const body = h("div", { class: "body" });
  const fold = h("details", { class: "fold", open: Boolean(active) || (open && innerWidth > 832) }, h("summary", {}, t("filter.title"), active ? h("span", { class: "badge pending" }, String(active)) : null), body);
  const load = () => void fill(body, route.where);
  if (fold.open) load();
  else fold.addEventListener("toggle", load, { once: true });
  return fold;
}

/** @param {HTMLElement} body @param {Record<string, string>} where */
async function fill(body, where) {
  const [folders, tags, sizes] = await Promise.all([facets(where, ["folder"]), facets(where, ["tag"]), facets(where, ["min_side", "max_side"])]);
  const dated = folders.months.some(({ value }) => value);
  body.replaceChildren(
    ...choice("folder", where.folder, folders.folders.filter(({ value }) => value), (value) => value),
    ...choice("tag", where.tag, tags.tags, (value) => value),
    ...(dated || where.from || where.to ? [h("div", { class: "pair" }, day("from", where.from), day("to", where.to))] : []),
    ...choice("size", sizeValue(where), sizes.sizes, sizeLabel),
    ...(Object.keys(where).length ? [button("close", t("filter.clear"), () => set(Object.fromEntries(Object.keys(where).map((name) => [name, ""]))))] : []),
  );
  if (!body.childElementCount) body.replaceChildren(h("p", { class: "soft" }, t("filter.none")));
}

/** A choice among counted values, left out where there is none. @param {string} name @param {string | undefined} value @param {Counted[]} counted @param {(value: string) => string} label */
function choice(name, value, counted, label) {
  if (!counted.length || (counted.length < 2 && !value && name !== "tag")) return [];
  const listed = value && !counted.some((one) => one.value === value) ? [...counted, { value, count: 0 }] : counted;
  const options = listed.map((one) => h("option", { value: one.value, selected: one.value === value }, `${label(one.value)} (${number(one.count)})`));
  const change = (/** @type {Event} */ event) => {
    const chosen = /** @type {HTMLSelectElement} */ (event.target).value;
    set(name === "size" ? sizeFilter(chosen) : { [name]: chosen });
  };
  return [h("div", { class: "field" }, h("label", { htmlFor: `filter-${name}` }, t(`filter.${name}`)), h("select", { id: `filter-${name}`, onchange: change }, h("option", { value: "" }, t("filter.any")), options))];
}

/** @param {string} name @param {string | undefined} value */
function day(name, value) {
  const input = h("input", { type: "date", id: `filter-${name}`, value: value?.length === 10 ? value : value ? `${value}-01-01`.slice(0, 10) : "", onchange: () => set({ [name]: input.value }) });
  return h("div", { class: "field" }, h("label", { htmlFor: `filter-${name}` }, t(`filter.${name}`)), input);
}

/** @param {Record<string, string>} where */
const sizeValue = ({ min_side: least, max_side: most }) => (least || most ? `${least ?? 0}-${most ?? ""}` : "");

/** @param {string} value "640-1279", the last without an end */
function sizeFilter(value) {
  const [least, most] = value.split("-");
  return { min_side: value && least !== "0" ? least : "", max_side: most ?? "" };
}

/** @param {string} value */
function sizeLabel(value) {
  const [least, most] = value.split("-");
  return most ? `${least}–${most} px` : `≥ ${least} px`;
}

/** Years, and the months of the one in use, to jump to. @param {Route} route */
export function timeline(route) {
  const nav = h("nav", { class: "timeline", "aria-label": t("filter.years"), hidden: true });
  void facets(route.where, ["from", "to"]).then(({ months }) => fillTimeline(nav, route, months)).catch(() => undefined);
  return nav;
}

/** @param {HTMLElement} nav @param {Route} route @param {Counted[]} months */
function fillTimeline(nav, route, months) {
  /** @type {Map<string, number>} */
  const years = new Map();
  for (const { value, count } of months) if (value) years.set(value.slice(0, 4), (years.get(value.slice(0, 4)) ?? 0) + count);
  if (!years.size) return;
  const from = route.where.from ?? "";
  const entry = (/** @type {string} */ start, /** @type {string} */ end, /** @type {string} */ label, /** @type {number} */ count, /** @type {boolean} */ on, name = "") =>
    h("li", { class: name }, h("button", { type: "button", "aria-pressed": String(on), onclick: () => set(on ? { from: "", to: "" } : { from: start, to: end }) }, h("span", {}, label), h("span", { class: "count soft number" }, number(count))));
  const items = [...years].sort().reverse().flatMap(([year, total]) => [
    entry(year, String(Number(year) + 1), year, total, from === year),
    ...(from.startsWith(year) ? months.filter(({ value }) => value.startsWith(year)).map(({ value, count }) => entry(value, after(value), date(`${value}-15`, { month: "long" }), count, from === value, "month")) : []),
  ]);
  nav.replaceChildren(h("h2", {}, t("filter.years")), h("ul", {}, items));
  nav.hidden = false;
}

/** The month after one. @param {string} month as 2019-03 */
function after(month) {
  const [year, number] = month.split("-").map(Number);
  return number === 12 ? `${year + 1}-01` : `${year}-${String(number + 1).padStart(2, "0")}`;
}
