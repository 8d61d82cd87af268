// The panel with the photo that is asked for: boxes on it, the method, the filters.

import { ApiError, json } from "./api.js";
import { BoxEditor } from "./boxes.js";
import { button, h } from "./dom.js";
import { chips } from "./examples.js";
import { cameraButton, chooseButton } from "./files.js";
import { filterFold } from "./filters.js";
import { thumbnail } from "./images.js";
import { methodFold } from "./method.js";
import { current, go, href } from "./route.js";
import { shortName } from "./results.js";
import { collection, here } from "./session.js";
import { failure } from "./states.js";
import { t } from "./strings.js";

/** @typedef {import("./route.js").Route} Route */

const SETTLE = 350; // ms after the last change of a box before the search begins
/** Photos uploaded since the page was opened, by token. @type {Map<string, string>} */
const uploads = new Map();

/** @param {(file: File) => void} take @param {() => void} forget */
export function asker(take, forget) {
  const editor = new BoxEditor();
  const touch = matchMedia("(pointer: coarse)").matches;
  const name = h("p", { class: "grow name" });
  const hint = h("p", { class: "hint", hidden: touch }, t(touch ? "box.hint.touch" : "box.hint"));
  const folds = h("div", { class: "two" });
  const draw = h("button", { type: "button", "aria-pressed": "false", class: "draw", onclick: () => drawing(draw.getAttribute("aria-pressed") !== "true") }, t("box.draw"));
  const clear = button("fit", t("box.clear"), () => (editor.set([]), editor.changed()));
  const add = button("box", t("box.add"), () => editor.add());
  const examples = h("div", { class: "examples" });
  let timer = 0;
  let local = "";
  let previewed = "";

  const element = h(
    "aside", { class: "asked", "aria-label": t("ask.label") },
    h("div", { class: "panel" }, editor,
      h("div", { class: "row known" }, name, chooseButton("upload", t("ask.other"), take, { bare: true }), touch && cameraButton(take, true), button("close", t("ask.forget"), forget, { bare: true })),
      h("div", { class: "row" }, touch && draw, add, clear), hint, examples),
    h("div", { class: "panel folds" }, folds),
  );
  editor.addEventListener("boxes", (event) => {
    const boxes = /** @type {CustomEvent} */ (event).detail;
    clear.hidden = !boxes.length;
    clearTimeout(timer);
    timer = window.setTimeout(() => go({ ...current(), boxes, result: "", by: "" }, { replace: true }), SETTLE);
  });

  /** @param {boolean} on */
  function drawing(on) {
    draw.setAttribute("aria-pressed", String(on));
    hint.hidden = !on;
    editor.drawing(on);
  }

  /** Show the query of a route. @param {Route} route */
  function show(route) {
    clear.hidden = !route.boxes.length;
    examples.replaceChildren(...chips(route));
    folds.replaceChildren(methodFold(route), filterFold(route));
    const shown = `${collection().name} ${route.photo} ${route.query}`;
    if (shown === local) return editor.set(route.boxes);
    local = shown;
    void load(route);
  }

  /** @param {Route} route */
  async function load(route) {
    try {
      const photo = route.photo ? await json(here(["photos", route.photo])) : await sizeOf(route.query);
      const { width, height, id } = photo;
      const address = route.photo ? thumbnail(collection().name, photo, 640) : queryAddress(route.query, 640);
      const alt = id ? shortName(id) : t("ask.uploaded");
      editor.show(address, alt, width, height, route.boxes);
      name.replaceChildren(alt, ...(id ? [" · ", h("a", { href: href({ view: "neighbours", collection: route.collection, photo: route.photo }) }, t("ask.neighbours"))] : []));
    } catch (error) {
      local = "";
      const lost = error instanceof ApiError && error.status === 404; // the list of results says what to do
      editor.replaceChildren(lost ? h("div", { class: "gone" }, t("photo.gone.short")) : failure(error));
    }
  }

  /** The size of an uploaded photo that is no longer in this page. @param {string} token */
  async function sizeOf(token) {
    const address = uploads.get(token);
    return address ? { ...(await measure(address)), id: "" } : json(here(["queries", token]));
  }

  /** Show a photo that is about to be sent. @param {File} file */
  async function preview(file) {
    const address = (previewed = URL.createObjectURL(file));
    local = "";
    clear.hidden = true;
    examples.replaceChildren();
    name.textContent = file.name || t("ask.uploaded");
    folds.replaceChildren(methodFold(current()), filterFold(current()));
    // A format that this browser cannot show, such as HEIC, may still be read by the server.
    const size = await measure(address).catch(() => ({ width: 4, height: 3 }));
    editor.show(address, name.textContent, size.width, size.height, []);
  }

  /** The photo that was shown last is now kept by the server as `token`. @param {string} token */
  function remember(token) {
    uploads.set(token, previewed);
    local = `${collection().name}  ${token}`;
  }

  return { element, show, preview, remember };
}

/** Width and height of a picture, upright. @param {string} address @returns {Promise<{ width: number, height: number }>} */
async function measure(address) {
  const image = new Image();
  image.src = address;
  await image.decode();
  return { width: image.naturalWidth, height: image.naturalHeight };
}

/** Where the photo of an uploaded query can be seen. @param {string} token @param {number} size */
export const queryAddress = (token, size) => uploads.get(token) ?? here(["queries", token, "thumbnail"], { size });
