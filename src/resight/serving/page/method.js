// How is searched: the recipe, and the options that it offers.

import { h } from "./dom.js";
import { current, go } from "./route.js";
import { collection } from "./session.js";
import { t } from "./strings.js";

/** @typedef {import("./route.js").Route} Route */
/** @typedef {{ name: string, preset: any }} Option */

/** @param {Route} route */
export function methodFold(route) {
  const { recipes: searchable, recipe } = collection();
  const used = route.recipe || recipe;
  const options = Object.entries(searchable.find((one) => one.name === used)?.options ?? {}).map(([name, preset]) => ({ name, preset }));
  const choices = searchable.map((one) => h("option", { value: one.name, selected: one.name === used }, one.name));
  const change = (/** @type {Event} */ event) => {
    const value = /** @type {HTMLSelectElement} */ (event.target).value;
    go({ ...current(), recipe: value === recipe ? "" : value, options: {}, result: "" }, { replace: true });
  };
  const recipes = h("div", { class: "field" }, h("label", { htmlFor: "recipe" }, t("method.recipe")), h("select", { id: "recipe", onchange: change }, choices));
  return h(
    "details", { class: "fold", open: Boolean(route.recipe || Object.keys(route.options).length) }, h("summary", {}, t("method.title"), h("span", { class: "soft" }, used)),
    h("div", { class: "body" }, recipes, options.map((option) => optionField(option, route.options[option.name]))),
  );
}

/** @param {Option} option @param {string | undefined} value */
function optionField(option, value) {
  const id = `option-${option.name}`;
  const set = (/** @type {string} */ text) => {
    const { [option.name]: _, ...others } = current().options;
    go({ ...current(), options: text === "" || text === String(option.preset) ? others : { ...others, [option.name]: text }, result: "" }, { replace: true });
  };
  const label = option.name.replaceAll("_", " ");
  if (typeof option.preset === "boolean") {
    const box = h("input", { type: "checkbox", id, checked: (value ?? String(option.preset)) === "true", onchange: () => set(String(box.checked)) });
    return h("label", { class: "check" }, box, h("span", {}, label));
  }
  const number = typeof option.preset === "number";
  const input = h("input", { id, type: number ? "number" : "text", step: Number.isInteger(option.preset) ? 1 : "any", value: value ?? "", placeholder: option.preset === null ? t("method.automatic") : String(option.preset), onchange: () => set(input.value.trim()) });
  return h("div", { class: "field" }, h("label", { htmlFor: id }, label), input);
}
