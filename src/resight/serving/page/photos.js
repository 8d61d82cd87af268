// The whole collection by time and folder. Pages far from the screen give their elements back, so that a hundred
// thousand photos cost a list of numbers and a few hundred elements.

import { json } from "./api.js";
import { h, icon, loadStyle, setStyle } from "./dom.js";
import { filterFold, timeline } from "./filters.js";
import { aspect, frame, shortName } from "./results.js";
import { current, go, href } from "./route.js";
import { here } from "./session.js";
import { empty, failure, loading } from "./states.js";
import { closePhoto, openPhoto } from "./photo.js";
import { count, date, t } from "./strings.js";

/** @typedef {import("./route.js").Route} Route */
/** @typedef {import("./types.js").Photo} Photo */
/** @typedef {{ element: HTMLElement, photos: Photo[], before: string }} Page */

const PAGE = 120;
const NEAR = "1500px"; // pages within this of the screen have elements

/** @param {HTMLElement} root @returns {import("./main.js").View} */
export function mount(root) {
  const title = h("h1", {});
  const list = h("div", { class: "pages" });
  const foot = h("div", { class: "foot" });
  const side = h("aside", { class: "beside", "aria-label": t("filter.title") });
  const order = h("select", { id: "order", onchange: () => go({ ...current(), order: order.value === "name" ? "name" : "" }, { replace: true }) });
  /** @type {Map<Element, Page>} */
  const pages = new Map();
  const seen = new IntersectionObserver((entries) => entries.forEach(({ target, isIntersecting }) => fill(pages.get(target), isIntersecting)), { rootMargin: NEAR });
  const end = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && void load(), { rootMargin: NEAR });
  let asked = "";
  /** @type {string | null} */
  let next = null;
  /** @type {AbortController | null} */
  let running = null;

  const ready = loadStyle("photos.css").then(() => {
    root.replaceChildren(
      h("div", { class: "head" }, title, h("div", { class: "row" }, h("label", { class: "unseen", htmlFor: "order" }, t("photos.order")), order)),
      h("div", { class: "browse" }, side, h("div", {}, list, foot)),
    );
  });

  /** @param {Route} route */
  async function update(route) {
    await ready;
    const question = JSON.stringify([route.where, route.order]);
    if (question !== asked) {
      asked = question;
      order.replaceChildren(...["time", "name"].map((name) => h("option", { value: name, selected: name === (route.order || "time") }, t(`photos.order.${name}`))));
      side.replaceChildren(timeline(route), filterFold(route, true));
      begin();
    }
    if (route.photo) void openPhoto(route, () => [...pages.values()].flatMap((page) => page.photos));
    else closePhoto();
  }

  function begin() {
    running?.abort();
    running = null;
    pages.clear();
    seen.disconnect();
    list.replaceChildren();
    next = "";
    void load();
  }

  async function load() {
    if (running || next === null) return;
    const control = (running = new AbortController());
    foot.replaceChildren(loading());
    const { where, order } = current();
    try {
      const answer = await json(here(["photos"], { ...where, order: order || "time", cursor: next, limit: PAGE }), { signal: control.signal });
      if (running !== control) return;
      title.textContent = count("photos", answer.total);
      next = answer.next;
      add(answer.photos);
      foot.replaceChildren(...(next === null ? [h("p", { class: "soft" }, pages.size ? t("photos.end") : "")] : [h("span", { class: "spinner" })]));
      if (!pages.size) list.replaceChildren(empty("photos", t("photos.empty"), t("photos.empty.text")));
      running = null;
      end.disconnect();
      if (next !== null) end.observe(foot); // observed anew, it tells again although it never left the screen
    } catch (error) {
      if (running !== control) return;
      running = null;
      foot.replaceChildren(failure(error, () => void load()));
    }
  }

  /** @param {Photo[]} photos */
  function add(photos) {
    if (!photos.length) return;
    const last = [...pages.values()].at(-1)?.photos.at(-1);
    const page = { element: h("section", { class: "page" }), photos, before: last ? month(last) : "" };
    pages.set(page.element, page);
    list.append(page.element);
    fill(page, true);
    seen.observe(page.element);
  }

  return { update: (route) => void update(route), leave: () => (running?.abort(), seen.disconnect(), end.disconnect(), closePhoto()) };
}

/** Give a page its elements, or take them and keep its height. @param {Page | undefined} page @param {boolean} near */
function fill(page, near) {
  if (!page || near === page.element.hasChildNodes()) return;
  if (near) {
    page.element.replaceChildren(...groups(page));
    setStyle(page.element, { height: "auto" });
  } else {
    setStyle(page.element, { height: `${page.element.offsetHeight}px` });
    page.element.replaceChildren();
  }
}

/** @param {Photo} photo */
const month = (photo) => photo.taken_at?.slice(0, 7) ?? "none";

/** The photos of a page in rows, under a heading where a month begins. @param {Page} page */
function groups({ photos, before }) {
  const byTime = !current().order;
  /** @type {Map<string, Photo[]>} */
  const runs = new Map();
  for (const photo of photos) {
    const name = byTime ? month(photo) : "";
    runs.set(name, [...(runs.get(name) ?? []), photo]);
  }
  return [...runs].flatMap(([name, members]) => [
    ...(byTime && name !== before && (name !== "none" || before || runs.size > 1) ? [h("h2", { class: "month" }, name === "none" ? t("filter.undated") : date(`${name}-15`, { month: "long", year: "numeric" }))] : []),
    h("ul", { class: "grid small" }, members.map(tile)),
  ]);
}

/** @param {Photo} photo */
function tile(photo) {
  const name = shortName(photo.id);
  const route = current();
  const use = h("a", { class: "button bare use", href: href({ collection: route.collection, photo: photo.key }), "aria-label": t("result.use", { name }), title: t("result.use.title") }, icon("search"));
  return h("li", { class: "card tile", style: { "--aspect": aspect(photo) }, data: { key: photo.key } }, frame(photo, href({ ...route, photo: photo.key }), t("photos.open", { name })), use);
}

