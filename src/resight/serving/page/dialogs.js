// Small modal dialogs: settings, the key, a question.

import { key, setKey } from "./api.js";
import { button, h } from "./dom.js";
import { language, LANGUAGES, setLanguage, t } from "./strings.js";

const THEME = "resight-theme";
let number = 0;

/**
 * Open a modal dialog with a title; it leaves the document when it closes, and the focus goes back by itself.
 * @param {string} title @param {Node[]} content @param {string} [name] class
 */
export function openDialog(title, content, name = "") {
  const id = `dialog-${(number += 1)}`;
  const close = button("close", t("close"), () => dialog.close(), { bare: true });
  const head = h("div", { class: "row" }, h("h2", { id, class: "grow", tabIndex: -1 }, title), close);
  const dialog = h("dialog", { class: name, "aria-labelledby": id }, h("div", { class: "inside" }, head, content));
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** Ask for yes or no. @param {string} title @param {string} text @param {string} yes @returns {Promise<boolean>} */
export function confirmed(title, text, yes) {
  return new Promise((resolve) => {
    let answer = false;
    const accept = h("button", { type: "button", class: "danger", onclick: () => ((answer = true), dialog.close()) }, yes);
    const refuse = h("button", { type: "button", onclick: () => dialog.close(), autofocus: true }, t("cancel"));
    const dialog = openDialog(title, [h("p", {}, text), h("div", { class: "row end" }, refuse, accept)]);
    dialog.addEventListener("close", () => resolve(answer));
  });
}

/** @type {Promise<boolean> | null} */
let asking = null;

/** Ask for the key of the server, once however many requests wait for it. @param {boolean} rejected a key was refused */
export function askForKey(rejected) {
  asking ??= new Promise((/** @type {(given: boolean) => void} */ resolve) => {
    let given = false;
    const input = h("input", { id: "key", type: "password", autocomplete: "current-password", required: true, spellcheck: false, "aria-describedby": "key-note" });
    const form = h(
      "form", { method: "dialog", class: "fields", onsubmit: () => ((given = true), setKey(input.value.trim())) },
      rejected && h("p", { class: "badge-line", role: "alert" }, t("key.rejected")),
      h("div", { class: "field" }, h("label", { htmlFor: "key" }, t("key.label")), input),
      h("p", { class: "soft", id: "key-note" }, t("key.note")),
      h("div", { class: "row end" }, h("button", { class: "primary" }, t("key.use"))),
    );
    const dialog = openDialog(t("key.title"), [form], "key");
    input.focus();
    dialog.addEventListener("close", () => {
      asking = null;
      resolve(given);
    });
  });
  return asking;
}

/** Language, light or dark, and the key. @param {() => void} changed draws the page anew */
export function openSettings(changed) {
  const change = (/** @type {() => void} */ how) => (how(), changed());
  const forget = button("key", t("key.forget"), () => change(() => (setKey(""), dialog.close())));
  const dialog = openDialog(t("settings"), [
    segments(t("settings.theme"), "theme", ["", "light", "dark"].map((name) => [name, t(`settings.theme.${name || "system"}`)]), theme(), setTheme),
    segments(t("settings.language"), "language", LANGUAGES, language(), (name) => change(() => (dialog.close(), setLanguage(name)))),
    ...(key() ? [forget] : []),
    h("p", { class: "soft" }, t("settings.private")),
    h("p", {}, h("a", { href: new URL("v1/openapi.json", document.baseURI).pathname }, t("settings.api"))),
  ]);
}

/**
 * A choice of a few things, as radio buttons.
 * @param {string} label @param {string} name @param {string[][]} choices value and label @param {string} value @param {(value: string) => void} chosen
 */
export function segments(label, name, choices, value, chosen) {
  const radios = choices.map(([one, text]) =>
    h("label", {}, h("input", { type: "radio", name, value: one, checked: one === value, onchange: () => chosen(one) }), h("span", {}, text)),
  );
  return h("fieldset", { class: "field" }, h("legend", {}, label), h("div", { class: "segments" }, radios));
}

export const theme = () => localStorage.getItem(THEME) ?? "";

/** @param {string} name "" follows the system */
export function setTheme(name) {
  if (name) localStorage.setItem(THEME, name);
  else localStorage.removeItem(THEME);
  document.documentElement.dataset.theme = name;
}
