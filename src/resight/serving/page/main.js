// The frame: bar, views, language, theme, errors of the whole page.

import { setKeyAsker } from "./api.js";
import { askForKey, openSettings, setTheme, theme } from "./dialogs.js";
import { button, h, icon } from "./dom.js";
import { current, followLinks, go, href, onRoute } from "./route.js";
import { openSession, session } from "./session.js";
import { empty, failure, loading } from "./states.js";
import { language, t } from "./strings.js";

/** @typedef {import("./route.js").Route} Route */
/** @typedef {{ update: (route: Route, moved: boolean) => void, leave?: () => void }} View */
/** @typedef {{ mount: (root: HTMLElement) => View }} ViewModule */

/** @type {Record<string, () => Promise<ViewModule>>} */
const MODULES = {
  search: () => import("./search.js"),
  photos: () => import("./photos.js"),
  duplicates: () => import("./duplicates.js"),
  neighbours: () => import("./neighbours.js"),
  jobs: () => import("./jobs.js"),
};
const TABS = ["search", "photos", "duplicates", "jobs"];

const bar = /** @type {HTMLElement} */ (document.getElementById("bar"));
const main = /** @type {HTMLElement} */ (document.getElementById("view"));
/** @type {View | null} */
let view = null;
let shown = "";

function drawBar() {
  const route = current();
  const at = route.view === "neighbours" ? "photos" : route.view;
  const link = (/** @type {string} */ name) =>
    h("a", { href: href({ view: name, collection: route.collection }), "aria-current": name === at ? "page" : null }, icon(name), h("span", {}, t(`nav.${name}`)));
  bar.replaceChildren(
    h(
      "div", { class: "bar" },
      h("a", { class: "brand", href: href({ collection: route.collection }), "aria-label": t("nav.home") }, icon("brand"), h("span", {}, "resight")),
      h("nav", { "aria-label": t("nav.label") }, TABS.map(link)),
      chooser(route), button("more", t("settings"), () => openSettings(redraw), { bare: true }),
    ),
  );
}

/** @param {Route} route */
function chooser(route) {
  if (session.collections.length < 2) return null;
  const options = session.collections.map(({ name }) => h("option", { value: name, selected: name === session.info?.name }, name));
  const change = (/** @type {Event} */ event) => go({ view: route.view === "neighbours" ? "photos" : route.view, collection: /** @type {HTMLSelectElement} */ (event.target).value });
  return h("div", { class: "collection" }, h("select", { "aria-label": t("nav.collection"), onchange: change }, options));
}

/** @param {Route} route @param {boolean} moved */
async function show(route, moved) {
  try {
    if (!session.info || (route.collection || session.collections[0]?.name) !== session.info.name) {
      leave();
      main.replaceChildren(loading());
      await openSession();
    }
    drawBar();
    document.title = `${t(`nav.${route.view}`)} · ${session.info?.name ?? ""} · resight`;
    if (!session.info) main.replaceChildren(empty("folder", t("state.none"), t("state.none.text")));
    else await showView(route, moved);
  } catch (error) {
    leave();
    main.replaceChildren(failure(error, () => show(current(), false)));
  }
}

function leave() {
  view?.leave?.();
  view = null;
  shown = "";
}

/** @param {Route} route @param {boolean} moved */
async function showView(route, moved) {
  const name = `${route.view} ${session.info?.name}`;
  if (name !== shown) {
    leave();
    shown = name;
    main.replaceChildren();
    const module = await MODULES[route.view]();
    if (shown !== name) return; // the reader went on while it loaded
    view = module.mount(main);
    if (moved) main.focus({ preventScroll: true }), scrollTo(0, 0);
  }
  view?.update(route, moved);
}

function redraw() {
  document.documentElement.lang = language();
  const skip = /** @type {HTMLElement} */ (document.querySelector(".skip"));
  skip.textContent = t("nav.skip");
  leave();
  session.info = null;
  void show(current(), false);
}

function watchConnection() {
  const strip = /** @type {HTMLElement} */ (document.getElementById("offline"));
  const tell = () => {
    strip.hidden = navigator.onLine;
    strip.replaceChildren(...(navigator.onLine ? [] : [icon("warn"), t("error.offline.text")]));
  };
  addEventListener("online", tell);
  addEventListener("offline", tell);
  tell();
}

setTheme(theme());
setKeyAsker(askForKey);
onRoute((route, moved) => void show(route, moved));
followLinks();
watchConnection();
redraw();
