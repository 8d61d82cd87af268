// A search as the server answers it: the ranking at once, proofs as they come.

import { ApiError, events, request } from "./api.js";
import { here } from "./session.js";

/** @typedef {import("./types.js").Result} Result */
/**
 * @typedef {object} Found
 * @property {Result[]} results @property {boolean} done
 * @property {number} pending photos that are not searchable yet @property {string} recipe @property {number} took milliseconds
 * @property {string | null} next cursor of the next page @property {string} token of an uploaded query
 */

const TOP = 50;
const MOST = 500; // results of one answer

/**
 * What is found, again and again until it is complete.
 * @param {import("./route.js").Route} route @param {File | null} file @param {AbortSignal} signal @param {string | null} [cursor]
 * @returns {AsyncGenerator<Found>}
 */
export async function* stream(route, file, signal, cursor = null) {
  const body = form(route, file, cursor);
  const response = await request(here(["search"]), { method: "POST", body, signal, headers: { Accept: "text/event-stream" } });
  /** @type {Found} */
  let found = { results: [], done: false, pending: 0, recipe: "", took: 0, next: null, token: "" };
  for await (const { event, data } of events(response)) {
    if (event === "problem") throw new ApiError(data.status, data.title, data.detail);
    found = merge(found, event, data);
    yield found;
    if (event === "done") return;
  }
  if (!found.done) throw new ApiError(0, "offline", "");
}

/** @param {import("./route.js").Route} route @param {File | null} file @param {string | null} cursor */
function form(route, file, cursor) {
  const body = new FormData();
  if (file) body.set("file", file, file.name || "photo.jpg");
  for (const [name, values] of Object.entries({ ...(file ? {} : asked(route)), ...how(route, TOP), cursor: cursor ?? "" })) {
    for (const value of [values].flat()) if (value !== "") body.append(name, String(value));
  }
  return body;
}

/** What a route asks about, as fields; a new photo has neither boxes nor examples yet. @param {import("./route.js").Route} route */
const asked = ({ photo, query, boxes, also, without }) => ({ photo, query: photo ? "" : query, box: boxes.map((box) => box.join(",")), also, without });

/** How it is searched for, as fields. @param {import("./route.js").Route} route @param {number} top */
const how = ({ recipe, options, where }, top) => ({
  recipe, options: Object.keys(options).length ? JSON.stringify(typed(options)) : "",
  where: Object.keys(where).length ? JSON.stringify({ ...where, ...sides(where) }) : "", top,
});

/** The address of an answer with as many results as are shown. @param {import("./route.js").Route} route @param {"csv" | "json"} kind @param {number} shown */
export const answerAddress = (route, kind, shown) => here([`search.${kind}`], { ...asked(route), ...how(route, Math.min(Math.max(shown, TOP), MOST)) });

/** Bounds of the size as the numbers that they are. @param {Record<string, string>} where */
const sides = (where) => Object.fromEntries(["min_side", "max_side"].filter((name) => where[name]).map((name) => [name, Number(where[name])]));

/** Numbers and truth values as such; an address holds only text. @param {Record<string, string>} values */
export function typed(values) {
  const of = (/** @type {string} */ value) => (value === "true" ? true : value === "false" ? false : /^-?\d+(\.\d+)?$/.test(value) ? Number(value) : value);
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, of(value)]));
}

/** @param {Found} found @param {string} event @param {any} data @returns {Found} */
export function merge(found, event, data) {
  const query = data.query ?? {};
  const results = data.results ? (event === "proof" ? updated(found.results, data.results) : data.results) : found.results;
  return {
    results, done: event === "done", pending: data.pending ?? found.pending, recipe: data.recipe ?? found.recipe,
    took: data.took_ms ?? found.took, next: data.next === undefined ? found.next : data.next, token: query.token ?? found.token,
  };
}

/** Results with some of them replaced, best first. @param {Result[]} results @param {Result[]} proofs */
function updated(results, proofs) {
  const by = new Map(proofs.map((result) => [result.key, result]));
  return results.map((result) => by.get(result.key) ?? result).sort((a, b) => b.score - a.score);
}
