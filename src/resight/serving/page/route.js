// What the page shows is its address: every state can be mailed, kept as a bookmark and reached by the back button.

/** @typedef {[number, number, number, number]} Box Left, top, right, bottom in pixels of the upright photo. */
/**
 * @typedef {object} Route
 * @property {string} view search, photos, duplicates, neighbours or jobs
 * @property {string} collection "" for the first
 * @property {string} photo key of a photo: the query of a search, the open photo elsewhere
 * @property {string} query token of an uploaded photo
 * @property {Box[]} boxes
 * @property {string[]} also keys of photos that show it, too
 * @property {string[]} without keys of photos that show something else
 * @property {string} recipe "" for that of the collection
 * @property {Record<string, string>} options
 * @property {Record<string, string>} where filters by name: folder, from, to, tag, min_side, max_side
 * @property {string} result key of the result whose proof is open
 * @property {string} by key of the example in `also` that found the result; "" for the query itself
 * @property {string} only "match": other results are hidden
 * @property {string} order of photos: "name", "" for by time
 * @property {string} kind of duplicates: "near", "" for exact
 */

export const VIEWS = ["search", "photos", "duplicates", "neighbours", "jobs"];
export const FILTERS = ["folder", "from", "to", "tag", "min_side", "max_side"];

/** @type {Route} */
export const EMPTY = {
  view: "search", collection: "", photo: "", query: "", boxes: [], also: [], without: [], recipe: "", options: {}, where: {},
  result: "", by: "", only: "", order: "", kind: "",
};

/** @param {string} search the part of an address after "?" @returns {Route} */
export function parse(search) {
  const params = new URLSearchParams(search);
  const get = (/** @type {string} */ name) => params.get(name) ?? "";
  const keys = (/** @type {string} */ name) => [...new Set(params.getAll(name).filter(Boolean))];
  const where = Object.fromEntries(FILTERS.filter((name) => get(name)).map((name) => [name, get(name)]));
  const options = Object.fromEntries([...params].filter(([name]) => name.startsWith("o.")).map(([name, value]) => [name.slice(2), value]));
  return {
    view: VIEWS.includes(get("view")) ? get("view") : "search", collection: get("collection"), photo: get("photo"),
    query: get("query"), boxes: params.getAll("box").flatMap(parseBox), also: keys("also"), without: keys("without"), recipe: get("recipe"), options, where,
    result: get("result"), by: get("by"), only: get("only") === "match" ? "match" : "", order: get("order") === "name" ? "name" : "",
    kind: get("kind") === "near" ? "near" : "",
  };
}

/** A box, or nothing where the text is none. @param {string} text @returns {Box[]} */
function parseBox(text) {
  const [x0, y0, x1, y1, ...more] = text.split(",").map(Number);
  return more.length || !(x1 > x0 && y1 > y0 && x0 >= 0 && y0 >= 0 && Number.isFinite(x1 + y1)) ? [] : [[x0, y0, x1, y1]];
}

/** The address of a route, relative to the page. @param {Partial<Route>} route @returns {string} */
export function href(route) {
  const { view, boxes, also, without, options, where, ...plain } = { ...EMPTY, ...route };
  const params = new URLSearchParams();
  if (view !== "search") params.set("view", view);
  for (const [name, value] of Object.entries(plain)) if (value) params.set(name, value);
  for (const box of boxes) params.append("box", box.map((side) => Math.round(side)).join(","));
  for (const key of also) params.append("also", key);
  for (const key of without) params.append("without", key);
  for (const [name, value] of Object.entries(options)) params.set(`o.${name}`, value);
  for (const [name, value] of Object.entries(where)) if (value) params.set(name, value);
  const text = params.toString().replaceAll("%2C", ",");
  return text ? `?${text}` : "./";
}

export const current = () => parse(location.search);

/** @type {((route: Route, moved: boolean) => void)[]} */
const listeners = [];

/** Call with the route whenever it changes; `moved`: by the reader, so that the focus may follow. */
export function onRoute(/** @type {(route: Route, moved: boolean) => void} */ listener) {
  listeners.push(listener);
}

/**
 * Go to a route: a new entry of the history, or in place of the present one.
 * @param {Partial<Route>} route @param {{ replace?: boolean, quiet?: boolean }} [how]
 */
export function go(route, { replace = false, quiet = false } = {}) {
  history[replace ? "replaceState" : "pushState"](null, "", href(route));
  if (!quiet) tell(!replace);
}

/** @param {boolean} moved */
function tell(moved) {
  for (const listener of listeners) listener(current(), moved);
}

/** Follow links inside the page without loading it again. */
export function followLinks() {
  addEventListener("popstate", () => tell(true));
  document.addEventListener("click", (event) => {
    const link = /** @type {Element} */ (event.target).closest?.("a[href^='?'], a[href='./']");
    if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    history.pushState(null, "", link.getAttribute("href"));
    tell(true);
  });
}
