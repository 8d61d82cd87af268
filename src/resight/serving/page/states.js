// What stands where nothing can be shown: loading, nothing there, an error with its remedy.

import { ApiError } from "./api.js";
import { button, h, icon } from "./dom.js";
import { t } from "./strings.js";

/** @param {string} [message] */
export const loading = (message = t("state.loading")) =>
  h("div", { class: "state" }, h("div", { class: "row" }, h("span", { class: "spinner", "aria-hidden": "true" }), h("span", {}, message)));

/** @param {string} name of an icon @param {string} title @param {string} text @param {...(Node | null)} more */
export const empty = (name, title, text, ...more) => h("div", { class: "state" }, icon(name), h("h2", {}, title), h("p", {}, text), more);

/**
 * An error as title, sentence and a way on.
 * @param {unknown} error @param {() => void} [again] what "Try again" does
 */
export function failure(error, again) {
  const [title, text] = explain(error);
  return h(
    "div", { class: "state error", role: "alert" }, icon("warn"), h("h2", {}, title), text && h("p", {}, text),
    again && button("search", t("state.again"), again, { class: "primary" }),
  );
}

/** Title and sentence of an error. @param {unknown} error @returns {[string, string]} */
export function explain(error) {
  if (!(error instanceof ApiError)) return [t("error.page"), String(/** @type {any} */ (error)?.message ?? error)];
  if (error.status === 0) return [t("error.offline"), t("error.offline.text")];
  if (error.status === 429 || error.status === 503) return [t("error.busy"), error.detail || t("error.busy.text", { seconds: error.wait || 1 })];
  return [error.title, error.detail];
}
