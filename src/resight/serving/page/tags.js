// The tags of one photo: shown, and changed by who may.

import { json } from "./api.js";
import { announce, button, h } from "./dom.js";
import { current, href } from "./route.js";
import { here, may, openSession } from "./session.js";
import { failure } from "./states.js";
import { t } from "./strings.js";

/** @typedef {import("./types.js").Photo} Photo */
/** @typedef {import("./types.js").Job} Job */

const LONGEST = 100; // characters of a tag
const AGAIN = 250; // ms between two looks at the job

/** @param {Photo} photo */
export function tagEditor(photo) {
  const box = h("div", { class: "tags" });
  draw(box, photo, photo.tags ?? []);
  return box;
}

/** @param {HTMLElement} box @param {Photo} photo @param {string[]} tags */
function draw(box, photo, tags) {
  const chips = tags.map((tag) =>
    h("li", { class: "tag" }, h("a", { href: href({ view: "photos", collection: current().collection, where: { tag } }) }, tag),
      may("write") && button("close", t("photo.tag.remove", { tag }), () => void change(box, photo, tags, [], [tag]), { bare: true })));
  box.replaceChildren(h("ul", { class: "row", "aria-label": t("photo.tags") }, chips));
  if (may("write")) box.append(adding(box, photo, tags));
}

/** @param {HTMLElement} box @param {Photo} photo @param {string[]} tags */
function adding(box, photo, tags) {
  const input = h("input", { id: "tag", type: "text", maxLength: LONGEST, required: true, placeholder: t("photo.tag.new"), "aria-label": t("photo.tag.new") });
  const form = h("form", { class: "row", onsubmit: (/** @type {Event} */ event) => {
    event.preventDefault();
    const tag = input.value.trim();
    if (tag) void change(box, photo, tags, [tag], []);
  } }, input, h("button", {}, t("photo.tag.add")));
  form.addEventListener("keydown", (event) => event.stopPropagation()); // arrows are for the text here
  return form;
}

/** @param {HTMLElement} box @param {Photo} photo @param {string[]} tags @param {string[]} add @param {string[]} remove */
async function change(box, photo, tags, add, remove) {
  box.setAttribute("aria-busy", "true");
  try {
    const body = JSON.stringify({ photos: [photo.key], add, remove });
    await ended(await json(here(["tags"]), { method: "POST", headers: { "Content-Type": "application/json" }, body }));
    await openSession(); // the numbers beside the filters are others now
    photo.tags = [...new Set([...tags, ...add])].filter((tag) => !remove.includes(tag)).sort();
    draw(box, photo, photo.tags);
    announce(t("photo.tagged"));
    /** @type {HTMLElement | null} */ (box.querySelector("input"))?.focus();
  } catch (error) {
    draw(box, photo, tags);
    box.append(failure(error));
  } finally {
    box.removeAttribute("aria-busy");
  }
}

/** @param {Job} job */
async function ended(job) {
  while (job.state === "waiting" || job.state === "running") {
    await new Promise((resolve) => setTimeout(resolve, AGAIN));
    job = await json(here(["jobs", job.id]));
  }
  if (job.state !== "done") throw new Error(job.error ?? job.state);
}
