// How is searched: the recipe, and the options that it offers.

import { h } from "./dom.js";
import { current, go } from "./route.js";
import { collection } from "./session.js";
import { t } from "./strings.js";

/** @typedef {import("./route.js").Route} Route */
/** @typedef {import("./session.js").Option} Option */

/** @param {Route} route */
export function methodFold(route) {
  const { searchable, recipe } = collection();
  const used = route.recipe || recipe;
  const options = searchable.find((one) => one.recipe === used)?.options ?? [];
  const choices = searchable.map((one) => h("option", { value: one.recipe, selected: one.recipe === used }, one.recipe));
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
    go({ ...current(), options: text === "" || text === String(option.default) ? others : { ...others, [option.name]: text }, result: "" }, { replace: true });
  };
  const label = option.name.replaceAll("_", " ");
  if (option.type === "bool" || option.type === "boolean") {
    const box = h("input", { type: "checkbox", id, checked: (value ?? String(option.default)) === "true", onchange: () => set(String(box.checked)) });
    return h("label", { class: "check", title: option.help ?? "" }, box, h("span", {}, label));
  }
  const number = /int|float|number/.test(option.type);
  const input = h("input", { id, type: number ? "number" : "text", step: option.type.includes("int") ? 1 : "any", value: value ?? "", placeholder: option.default === null ? t("method.automatic") : String(option.default), onchange: () => set(input.value.trim()) });
  return h("div", { class: "field" }, h("label", { htmlFor: id, title: option.help ?? "" }, label), input);
}
