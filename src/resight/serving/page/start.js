// Nothing is asked yet: drop a photo, or start from one of the collection.

import { json } from "./api.js";
import { h } from "./dom.js";
import { dropZone } from "./files.js";
import { picture, thumbnail } from "./images.js";
import { aspect, shortName } from "./results.js";
import { current, href } from "./route.js";
import { collection, here } from "./session.js";
import { number, t } from "./strings.js";

const [READ, SHOWN] = [84, 14]; // every sixth: photos that follow each other are often of one thing

/** @param {import("./files.js").Take} take */
export function startScreen(take) {
  const info = collection();
  const strip = h("section", { class: "strip", "aria-labelledby": "strip", hidden: true });
  void fillStrip(strip);
  return h(
    "div", { class: "start" },
    h("header", {}, h("h1", {}, t("start.title")), h("p", {}, t("start.text", { photos: number(info.photos), name: info.name }))),
    dropZone(take), strip,
  );
}

/** @param {HTMLElement} strip */
async function fillStrip(strip) {
  const { photos } = await json(here(["photos"], { limit: READ, order: "time" })).catch(() => ({ photos: [] }));
  if (!photos.length) return;
  const route = current();
  const item = (/** @type {import("./types.js").Photo} */ photo) =>
    h(
      "li", { style: { "--aspect": aspect(photo) } },
      h("a", { href: href({ collection: route.collection, photo: photo.key }), "aria-label": t("result.use", { name: shortName(photo.id) }) }, picture(thumbnail(collection().name, photo, 320), "")),
    );
  strip.replaceChildren(h("h2", { id: "strip" }, t("start.strip")), h("ul", {}, photos.filter((/** @type {unknown} */ _, /** @type {number} */ i) => i % Math.ceil(photos.length / SHOWN) === 0).map(item)));
  strip.hidden = false;
}
