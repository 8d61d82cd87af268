// What takes long: adding photos, building graphs, looking for duplicates; each with live progress.

import { aborted, events, json, request } from "./api.js";
import { announce, button, h, icon, loadStyle } from "./dom.js";
import { collection, here, may, openSession } from "./session.js";
import { empty, failure, loading } from "./states.js";
import { date, decimal, t } from "./strings.js";

/** @typedef {import("./types.js").Job} Job */

const ENDED = ["done", "failed", "stopped"];
const AGAIN = 2000; // ms until a broken stream of events is opened again
const KINDS = ["graph", "duplicates"];

/** @param {HTMLElement} root @returns {import("./main.js").View} */
export function mount(root) {
  const list = h("ul", { class: "jobs" });
  const note = h("div", { class: "note", role: "status" });
  /** @type {Map<string, AbortController>} */
  const followed = new Map();

  async function begin() {
    await loadStyle("jobs.css");
    const start = may("write") ? adding(send, startWork) : h("p", { class: "soft" }, t("jobs.read-only"));
    root.replaceChildren(h("div", { class: "head" }, h("h1", {}, t("jobs.title"))), start, note, list);
    list.replaceChildren(loading());
    await refresh();
  }

  async function refresh() {
    try {
      const { jobs } = await json(here(["jobs"]));
      list.replaceChildren(...(jobs.length ? jobs.map(jobCard) : [h("li", {}, empty("jobs", t("jobs.none"), t("jobs.none.text")))]));
      for (const job of jobs) if (!ENDED.includes(job.state)) void follow(job.id);
    } catch (error) {
      list.replaceChildren(failure(error, () => void refresh()));
    }
  }

  /** @param {File[]} files */
  async function send(files) {
    const body = new FormData();
    for (const file of files) body.append("file", file, file.name);
    note.replaceChildren(loading(t("jobs.uploading", { n: files.length })));
    await started(request(here(["photos"]), { method: "POST", body, headers: { "Idempotency-Key": crypto.randomUUID() } }));
  }

  /** @param {Record<string, any>} work */
  async function startWork(work) {
    await started(request(here(["jobs"]), { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(work) }));
  }

  /** @param {Promise<Response>} answer */
  async function started(answer) {
    try {
      await answer;
      note.replaceChildren();
      await refresh();
    } catch (error) {
      note.replaceChildren(failure(error));
    }
  }

  /** Draw a job whenever it changes. @param {string} id */
  async function follow(id) {
    if (followed.has(id)) return;
    const control = new AbortController();
    followed.set(id, control);
    let last = "";
    for (let ended = false; !ended && !control.signal.aborted; ) {
      try {
        const response = await request(here(["jobs", id, "events"]), { signal: control.signal, headers: { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) } });
        for await (const { data, id: number } of events(response)) {
          last = number || last;
          if (!data.state) continue;
          ended = ENDED.includes(data.state);
          if (ended) await openSession(); // the collection may hold other photos now
          show(data);
        }
      } catch (error) {
        if (aborted(error)) return;
      }
      if (!ended) await new Promise((resolve) => setTimeout(resolve, AGAIN));
    }
    followed.delete(id);
  }

  /** @param {Job} job */
  function show(job) {
    const old = list.querySelector(`[data-job="${job.id}"]`);
    const fresh = jobCard(job);
    if (!old) return;
    const focused = old.contains(document.activeElement);
    old.replaceWith(fresh);
    if (focused) fresh.querySelector("button")?.focus();
    if (ENDED.includes(job.state)) announce(`${kindOf(job)}: ${t(`jobs.state.${job.state}`)}`);
  }

  void begin();
  return { update() {}, leave: () => followed.forEach((control) => control.abort()) };
}

/** @param {Job} job */
const kindOf = (job) => t(`jobs.kind.${job.kind}`);

const SIGNS = { waiting: "pending", running: "pending", done: "proven", failed: "none", stopped: "none" };

/** @param {Job} job */
function jobCard(job) {
  const running = !ENDED.includes(job.state);
  const sign = SIGNS[job.state];
  const cancel = button("close", t("jobs.cancel"), () => void request(here(["jobs", job.id]), { method: "DELETE" }).catch(() => undefined));
  return h(
    "li", { class: `panel job ${job.state}`, data: { job: job.id } },
    h("div", { class: "row" }, h("h2", { class: "grow" }, kindOf(job)), h("span", { class: `badge ${sign}` }, icon(sign), t(`jobs.state.${job.state}`)), h("span", { class: "soft" }, date(job.created, { timeStyle: "short", dateStyle: "medium" }))),
    running && h("progress", { "aria-label": kindOf(job), max: job.of || 1, ...(job.of ? { value: job.done } : {}) }),
    running && h("p", { class: "soft number" }, progressWords(job)),
    job.error && h("p", { class: "wrong" }, job.error),
    job.problems.length > 0 && h("details", { class: "fold" }, h("summary", {}, t("jobs.failed"), h("span", { class: "badge none" }, String(job.problems.length))), h("ul", { class: "body soft" }, job.problems.map(({ message }) => h("li", {}, message)))),
    running && may("write") && h("div", { class: "row" }, cancel),
  );
}

/** @param {Job} job */
function progressWords(job) {
  const parts = [job.step, job.of && t("jobs.progress", { done: job.done, total: job.of }), job.per_second && t("jobs.speed", { speed: decimal(job.per_second) }), job.seconds_left !== null && t("jobs.left", { seconds: Math.ceil(job.seconds_left) })];
  return parts.filter(Boolean).join(" · ");
}

/** @param {(files: File[]) => void} send @param {(work: Record<string, any>) => void} start */
function adding(send, start) {
  const input = h("input", { type: "file", accept: "image/*", multiple: true, hidden: true, onchange: () => (input.files?.length && send([...input.files]), (input.value = "")) });
  const folder = h("input", { id: "folder", name: "folder", required: true, autocomplete: "off", spellcheck: false });
  const form = h("form", { class: "row", onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), start({ kind: "add", folder: folder.value.trim() })) },
    h("div", { class: "field grow" }, h("label", { htmlFor: "folder" }, t("jobs.folder")), folder), button("folder", t("jobs.folder.add"), () => form.requestSubmit()));
  return h("div", { class: "panel adding" },
    h("div", {}, h("h2", {}, t("jobs.add")), h("p", { class: "soft" }, t("jobs.add.text"))),
    h("div", { class: "row" }, button("upload", t("jobs.choose"), () => input.click(), { class: "primary", disabled: !collection().can_upload }), input),
    form,
    h("div", { class: "row other" }, h("span", { class: "soft" }, t("jobs.other")), KINDS.map((kind) => button(kind, t(`jobs.kind.${kind}`), () => start({ kind })))));
}
