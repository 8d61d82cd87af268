// Near duplicates in groups. Nothing is ever deleted here: what is decided is remembered, and can be saved as a list.

import { json } from "./api.js";
import { announce, button, download, h, loadStyle } from "./dom.js";
import { aspect, frame, shortName } from "./results.js";
import { segments } from "./dialogs.js";
import { EMPTY, current, go, href } from "./route.js";
import { collection, here, may } from "./session.js";
import { empty, failure, loading } from "./states.js";
import { count, t } from "./strings.js";

/** @typedef {import("./types.js").Photo} Photo */
/** @typedef {{ kind: string, photos: Photo[] }} Group */
/** @typedef {{ keep: string, gone: string[] } | "different"} Decision keep one and list the others, or they are no duplicates */

const PAGE = 20;
const KINDS = ["exact", "near"];

/** What was decided, by the keys of a group; kept in this browser. */
const store = {
  name: () => `resight-duplicates ${collection().name}`,
  /** @returns {Record<string, Decision>} */
  read: () => JSON.parse(localStorage.getItem(store.name()) ?? "{}"),
  /** @param {Record<string, Decision>} all */
  write: (all) => localStorage.setItem(store.name(), JSON.stringify(all)),
};

/** @param {Group} group */
const nameOf = (group) => group.photos.map((photo) => photo.key).sort().join(" ");

/** @param {HTMLElement} root @returns {import("./main.js").View} */
export function mount(root) {
  const list = h("ol", { class: "groups" });
  const foot = h("div", { class: "foot" });
  const save = button("download", t("duplicates.save"), saveList);
  const kinds = h("div");
  let kind = "";
  /** @type {AbortController | null} */
  let running = null;
  const ready = loadStyle("duplicates.css").then(() => {
    root.replaceChildren(h("div", { class: "head" }, h("h1", {}, t("duplicates.title")), save), h("p", { class: "soft lead" }, t("duplicates.text")), kinds, list, foot);
  });

  /** @param {import("./route.js").Route} route */
  async function update(route) {
    await ready;
    const asked = route.kind || KINDS[0];
    if (asked === kind) return;
    kind = asked;
    const choices = KINDS.map((name) => [name, t(`duplicates.${name}`)]);
    kinds.replaceChildren(segments(t("duplicates.kind"), "kind", choices, kind, (value) => go({ ...EMPTY, view: "duplicates", collection: current().collection, kind: value === "near" ? value : "" }, { replace: true })));
    list.replaceChildren();
    void load("");
  }

  /** @param {string} cursor */
  async function load(cursor) {
    running?.abort();
    const control = (running = new AbortController());
    foot.replaceChildren(loading());
    try {
      const answer = await json(here(["duplicates"], { kind, cursor, limit: PAGE }), { signal: control.signal });
      list.append(...answer.groups.map(groupCard));
      const unknown = kind === "near" && !answer.near;
      foot.replaceChildren(...(answer.next ? [button("plus", t("duplicates.more"), () => void load(answer.next))] : []));
      if (unknown) foot.replaceChildren(empty("duplicates", t("duplicates.unknown"), t("duplicates.unknown.text"), may("write") ? button("search", t("duplicates.look"), () => void look(), { class: "primary" }) : null));
      else if (!list.children.length) foot.replaceChildren(empty("duplicates", t("duplicates.none"), t("duplicates.none.text")));
      announce(count("groups", list.children.length));
    } catch (error) {
      if (running === control && !control.signal.aborted) foot.replaceChildren(failure(error, () => void load(cursor)));
    }
    tally();
  }

  /** Compare all photos in a job, which is shown with the others. */
  async function look() {
    try {
      await json(here(["jobs"]), { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ kind: "duplicates" }) });
      go({ ...EMPTY, view: "jobs", collection: current().collection });
    } catch (error) {
      foot.replaceChildren(failure(error, () => void look()));
    }
  }

  function tally() {
    const listed = Object.values(store.read()).reduce((sum, one) => sum + (one === "different" ? 0 : one.gone.length), 0);
    save.disabled = !listed;
    /** @type {HTMLElement} */ (save.querySelector("span")).textContent = listed ? `${t("duplicates.save")} (${listed})` : t("duplicates.save");
  }

  /** @param {Group} group */
  function groupCard(group) {
    const name = nameOf(group);
    const title = h("h2", {}, count("photos", group.photos.length));
    const state = h("span", { class: "badge pending", role: "status" });
    const photos = [...group.photos].sort((a, b) => b.width * b.height - a.width * a.height);
    const decided = store.read()[name];
    const kept = decided && decided !== "different" ? decided.keep : photos[0].key;
    const item = h("li", { class: "panel group", data: { group: name } });
    const decide = (/** @type {Decision | null} */ decision) => {
      const { [name]: _, ...others } = store.read();
      store.write(decision ? { ...others, [name]: decision } : others);
      show();
      tally();
    };
    const show = () => {
      const decision = store.read()[name];
      item.classList.toggle("decided", Boolean(decision));
      state.hidden = !decision;
      state.textContent = decision === "different" ? t("duplicates.different") : decision ? count("listed", decision.gone.length) : "";
      undo.hidden = !decision;
    };
    const accept = () => {
      const keep = /** @type {HTMLInputElement} */ (item.querySelector("input:checked")).value;
      decide({ keep, gone: group.photos.filter((photo) => photo.key !== keep).map((photo) => photo.id) });
    };
    const undo = button("close", t("duplicates.undo"), () => decide(null));
    item.append(
      h("div", { class: "row" }, title, state),
      h("ul", { class: "grid small" }, photos.map((photo) => choice(photo, name, photo.key === kept))),
      h("div", { class: "row" }, button("proven", t("duplicates.keep"), accept), button("close", t("duplicates.not"), () => decide("different")), undo),
    );
    show();
    return item;
  }

  return { update: (route) => void update(route), leave: () => running?.abort() };
}

/** @param {Photo} photo @param {string} group @param {boolean} kept */
function choice(photo, group, kept) {
  const route = current();
  const name = shortName(photo.id);
  const radio = h("input", { type: "radio", name: group, value: photo.key, checked: kept });
  const label = h("label", { class: "check" }, radio, h("span", { class: "words" }, h("span", {}, t("duplicates.keep-this")), h("span", { class: "name", title: photo.id }, name), h("span", { class: "name number" }, `${photo.width} × ${photo.height}`)));
  return h("li", { class: "card", style: { "--aspect": aspect(photo) } }, frame(photo, href({ view: "photos", collection: route.collection, photo: photo.key }), t("photos.open", { name })), label);
}

/** Write the ids of the photos that may go, one per line. */
function saveList() {
  const lines = Object.values(store.read()).flatMap((one) => (one === "different" ? [] : one.gone));
  download(`${collection().name}-duplicates.txt`, "text/plain", `${[...new Set(lines)].join("\n")}\n`);
}
