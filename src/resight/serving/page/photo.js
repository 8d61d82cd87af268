// One photo of the collection, large: what is known of it, and what can be done with it.

import { ApiError, json, request } from "./api.js";
import { announce, button, h, icon, loadStyle } from "./dom.js";
import { confirmed } from "./dialogs.js";
import { picture, thumbnail } from "./images.js";
import { current, go, href } from "./route.js";
import { shortName } from "./results.js";
import { collection, here, may } from "./session.js";
import { failure } from "./states.js";
import { date, t } from "./strings.js";
import { tagEditor } from "./tags.js";

/** @typedef {import("./types.js").Photo} Photo */

/** @type {{ dialog: HTMLDialogElement, key: string, photos: () => Photo[] } | null} */
let open = null;

/** @param {import("./route.js").Route} route @param {() => Photo[]} photos those around it, for the next and the one before */
export async function openPhoto(route, photos) {
  if (open?.key === route.photo) return;
  await loadStyle("photos.css");
  open ??= { dialog: makeDialog(), key: "", photos };
  open.key = route.photo;
  const { dialog } = open;
  try {
    const photo = await json(here(["photos", route.photo]));
    if (open?.key === route.photo) fill(dialog, photo);
  } catch (error) {
    dialog.replaceChildren(bar(t("nav.photos")), failure(error));
  }
}

export function closePhoto() {
  const { dialog } = open ?? {};
  open = null;
  dialog?.close();
}

function makeDialog() {
  const dialog = h("dialog", { class: "photo", "aria-labelledby": "photo-title" });
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (open?.dialog !== dialog) return;
    open = null;
    go({ ...current(), photo: "" });
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight") step(1);
    if (event.key === "ArrowLeft") step(-1);
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** @param {number} by */
function step(by) {
  const keys = open?.photos().map((photo) => photo.key) ?? [];
  const next = keys[keys.indexOf(open?.key ?? "") + by];
  if (next) go({ ...current(), photo: next }, { replace: true });
}

/** @param {string} title */
const bar = (title) =>
  h("header", { class: "photo-head" }, h("h2", { id: "photo-title", tabIndex: -1, autofocus: true }, title),
    h("div", { class: "tools" }, button("left", t("photo.before"), () => step(-1), { bare: true }), button("right", t("photo.next"), () => step(1), { bare: true }), button("close", t("close"), () => open?.dialog.close(), { bare: true })));

/** @param {HTMLDialogElement} dialog @param {any} photo */
function fill(dialog, photo) {
  const name = shortName(photo.id);
  const { name: collectionName, original_allowed: original } = collection();
  const route = current();
  const facts = [photo.id, t("photo.size", { width: photo.width, height: photo.height }), photo.taken_at && date(photo.taken_at)].filter(Boolean);
  const act = (/** @type {string} */ to, /** @type {string} */ symbol, /** @type {string} */ text, className = "button") => h("a", { class: className, href: to }, icon(symbol), h("span", {}, text));
  dialog.replaceChildren(
    bar(name),
    h("div", { class: "large" }, picture(thumbnail(collectionName, photo, 1280), name, { eager: true, width: photo.width, height: photo.height })),
    h("div", { class: "inside" },
      h("ul", { class: "facts soft" }, facts.map((fact) => h("li", {}, fact))),
      tagEditor(photo),
      h("div", { class: "row" },
        act(href({ collection: route.collection, photo: photo.key }), "search", t("result.use.title"), "button primary"),
        act(href({ view: "neighbours", collection: route.collection, photo: photo.key }), "graph", t("ask.neighbours")),
        original && button("download", t("photo.original"), () => void openOriginal(photo)),
        may("write") && button("trash", t("photo.remove"), () => void remove(photo), { class: "danger" }))),
  );
  /** @type {HTMLElement} */ (dialog.querySelector("h2")).focus();
}

/** @param {Photo} photo */
async function openOriginal(photo) {
  const blob = await (await request(here(["photos", photo.key, "original"]))).blob();
  const address = URL.createObjectURL(blob);
  h("a", { href: address, download: shortName(photo.id) }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** @param {Photo} photo */
async function remove(photo) {
  const name = shortName(photo.id);
  if (!(await confirmed(t("photo.remove"), t("photo.remove.ask", { name }), t("photo.remove")))) return;
  try {
    await request(here(["photos", photo.key]), { method: "DELETE" });
    document.querySelector(`[data-key="${photo.key}"]`)?.remove();
    open?.dialog.close();
    announce(t("photo.removed", { name }));
  } catch (error) {
    if (error instanceof ApiError) open?.dialog.append(failure(error));
  }
}
