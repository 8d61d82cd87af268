// The search view: what is asked on the left, what was found on the right.

import { ApiError, aborted, request } from "./api.js";
import { announce, button, download, h } from "./dom.js";
import { dropZone, watchFiles } from "./files.js";
import { asker } from "./ask.js";
import { EMPTY, current, go } from "./route.js";
import { classOf, drawResults, ghosts, judged } from "./results.js";
import { failure } from "./states.js";
import { answerAddress, stream } from "./stream.js";
import { startScreen } from "./start.js";
import { collection } from "./session.js";
import { count, decimal, t } from "./strings.js";

/** @typedef {import("./route.js").Route} Route */
/** @typedef {import("./stream.js").Found} Found */

const BUSY_TRIES = 3;

/** Everything of a route that changes what is found. @param {Route} route */
const question = ({ photo, query, boxes, also, without, recipe, options, where }) => JSON.stringify([photo, query, boxes, also, without, recipe, options, where]);

/** @param {HTMLElement} root @returns {import("./main.js").View} */
export function mount(root) {
  const verdict = h("div", { class: "verdict" });
  const list = h("div", { class: "found" });
  const foot = h("div", { class: "foot" });
  const ask = asker((file) => void take(file), forget);
  const unwatch = watchFiles(root, (file) => void take(file));
  /** @type {AbortController | null} */
  let running = null;
  let asked = "";
  /** @type {Found | null} */
  let found = null;
  let waited = 0;

  /** @param {Route} route */
  function update(route) {
    if (!route.photo && !route.query) return start();
    lay();
    if (question(route) !== asked) {
      ask.show(route);
      void search(null);
    } else if (found) draw(found);
    void showProof(route);
  }

  function start() {
    stop();
    asked = "";
    found = null;
    root.replaceChildren(startScreen((file) => void take(file)));
  }

  function lay() {
    if (!root.querySelector(".asking")) root.replaceChildren(h("div", { class: "asking" }, ask.element, h("div", {}, verdict, list, foot)));
  }

  function stop() {
    running?.abort();
    running = null;
  }

  /** @param {File} file */
  async function take(file) {
    performance.mark("resight-dropped");
    lay();
    void ask.preview(file); // beside the search: a large photo takes a while to decode here too
    await search(file);
  }

  function forget() {
    go({ ...EMPTY, collection: current().collection });
  }

  /** @param {File | null} file */
  async function search(file) {
    stop();
    const control = (running = new AbortController());
    const route = current();
    asked = file ? "" : question(route);
    found = null;
    begin(control);
    try {
      for await (const now of stream(route, file, control.signal)) {
        if (file && now.token && !asked) named(route, now.token);
        if (!found) performance.mark("resight-first-result");
        found = now;
        draw(now);
      }
      finish();
    } catch (error) {
      if (!aborted(error)) fail(error, file);
    } finally {
      if (running === control) running = null;
    }
  }

  /** An uploaded photo has a name now, so the address can say what is shown. @param {Route} route @param {string} token */
  function named(route, token) {
    const next = { ...route, photo: "", query: token, boxes: [], also: [], without: [], result: "", by: "" };
    ask.remember(token);
    asked = question(next);
    go(next, { quiet: true });
  }

  /** @param {AbortController} control */
  function begin(control) {
    const cancel = button("close", t("cancel"), () => (control.abort(), stopped()));
    verdict.className = "verdict";
    verdict.replaceChildren(h("span", { class: "spinner", "aria-hidden": "true" }), h("h1", {}, t("search.running")), h("div", { class: "tools" }, cancel));
    if (!list.querySelector(".card:not(.ghost)")) list.replaceChildren(ghosts());
    list.setAttribute("aria-busy", "true");
    foot.replaceChildren();
  }

  function stopped() {
    verdict.replaceChildren(h("h1", {}, t("search.cancelled")), h("div", { class: "tools" }, button("again", t("state.again"), () => void search(null))));
    if (list.querySelector(".ghost")) list.replaceChildren();
    list.removeAttribute("aria-busy");
  }

  function finish() {
    performance.mark("resight-done");
    waited = 0;
    if (!found) return;
    list.removeAttribute("aria-busy");
    announce(title(found));
  }

  /** @param {unknown} error @param {File | null} file */
  function fail(error, file) {
    list.removeAttribute("aria-busy");
    if (error instanceof ApiError && [429, 503].includes(error.status) && waited < BUSY_TRIES) {
      waited += 1;
      setTimeout(() => void search(file), 1000 * (error.wait || 1));
      verdict.replaceChildren(h("span", { class: "spinner", "aria-hidden": "true" }), h("h1", {}, t("error.busy")), h("p", {}, t("error.busy.text", { seconds: error.wait || 1 })));
      return;
    }
    verdict.className = "verdict";
    if (!file && current().query && error instanceof ApiError && error.status === 404) {
      verdict.replaceChildren(h("h1", {}, t("ask.gone")));
      return list.replaceChildren(h("p", { role: "alert" }, t("ask.gone.text")), h("div", { class: "foot" }, dropZone((one) => void take(one))));
    }
    verdict.replaceChildren(h("h1", {}, t("search.failed")));
    list.replaceChildren(failure(error, () => void search(file)));
  }

  /** @param {Found} now */
  function draw(now) {
    const route = current();
    drawVerdict(now, route);
    if (now.results.length) drawResults(list, now.results, route.only);
    else list.replaceChildren();
    foot.replaceChildren(...(now.next && now.done ? [button("plus", t("search.more"), () => void more(now))] : []), ...(now.done && now.results.length ? [meaning()] : []));
  }

  /** @param {Found} now @param {Route} route */
  function drawVerdict(now, route) {
    const sure = now.results.some((result) => result.match === "proven");
    verdict.className = `verdict ${sure ? "sure" : now.done && judged() ? "unsure" : ""}`;
    const only = h("button", { type: "button", "aria-pressed": String(Boolean(route.only)), onclick: () => go({ ...route, only: route.only ? "" : "match" }, { replace: true }) }, t("search.only"));
    const tools = h(
      "div", { class: "tools" }, sure && only,
      button("link", t("search.copy"), () => void copy(), { bare: true }),
      now.done && [fileLink("csv", now), fileLink("json", now)],
    );
    const facts = now.done ? t("search.facts", { ms: Math.round(now.took), recipe: now.recipe, photos: collection().photos }) : "";
    verdict.replaceChildren(...(now.done ? [] : [h("span", { class: "spinner", "aria-hidden": "true" })]), h("h1", {}, title(now)), tools, h("p", {}, [facts, now.pending ? t("search.pending", { n: now.pending }) : ""].filter(Boolean).join(". ")));
  }

  /** The answer at its own address; fetched, as a link cannot send a key. @param {"csv" | "json"} kind @param {Found} now */
  function fileLink(kind, now) {
    const [name, label] = [`${collection().name}.${kind}`, t("search.file", { kind: kind.toUpperCase() })];
    const save = async () => {
      try {
        download(name, kind === "csv" ? "text/csv" : "application/json", await (await request(to)).text());
      } catch (error) {
        verdict.append(failure(error, () => void save()));
      }
    };
    const to = answerAddress(current(), kind, now.results.length);
    const onclick = (/** @type {MouseEvent} */ event) => (event.ctrlKey || event.metaKey || event.shiftKey ? undefined : (event.preventDefault(), void save()));
    return h("a", { class: "button bare", href: to, "aria-label": label, title: label, onclick }, kind.toUpperCase());
  }

  async function copy() {
    await navigator.clipboard?.writeText(location.href);
    announce(t("search.copied"));
  }

  /** @param {Found} now */
  async function more(now) {
    const control = (running = new AbortController());
    foot.replaceChildren(h("span", { class: "spinner", "aria-hidden": "true" }));
    try {
      for await (const next of stream(current(), null, control.signal, now.next)) {
        if (!next.done) continue; // the ranking before the proof begins at the first result again
        const known = new Set(now.results.map((result) => result.key));
        found = { ...next, results: [...now.results, ...next.results.filter((result) => !known.has(result.key))] };
        draw(found);
      }
    } catch (error) {
      if (!aborted(error)) foot.replaceChildren(failure(error, () => void more(now)));
    }
  }

  /** @param {Route} route */
  async function showProof(route) {
    const { openProof, closeProof } = await import("./proof.js");
    if (!route.result) closeProof();
    else if (current().result === route.result) await openProof(route, () => found?.results ?? []);
  }

  return { update, leave: () => (stop(), unwatch(), void import("./proof.js").then(({ closeProof }) => closeProof())) };
}

/** What score, inliers and the three classes say. */
function meaning() {
  const { proof, threshold } = collection();
  const kind = threshold === null ? (proof ? "proof" : "none") : proof ? "both" : "score";
  const rule = t(`search.rule.${kind}`, { score: decimal(threshold ?? 0) });
  const lines = ["score", "inliers", "match"].map((name) => h("p", {}, t(`search.meaning.${name}`, { rule })));
  return h("details", { class: "fold meaning" }, h("summary", {}, t("search.meaning")), h("div", { class: "body soft" }, lines));
}

/** @param {Found} now */
function title(now) {
  const matches = now.results.filter((result) => classOf(result) === "proven").length;
  if (matches) return count("matches", matches);
  if (!now.done) return t("search.checking");
  if (!now.results.length) return t("search.nothing");
  return judged() ? t("search.unsure") : count("results", now.results.length);
}
