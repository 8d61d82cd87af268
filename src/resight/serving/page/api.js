// Requests to the server: one place for the key, for errors and for streams of events.

/** @typedef {import("./types.js").Problem} Problem */

const KEY = "resight-key";
const ROOT = new URL("v1/", document.baseURI);

/** What the server, or the way to it, refused; `status` 0 where there was no answer at all. */
export class ApiError extends Error {
  /** @param {number} status @param {string} title @param {string} detail @param {number} [wait] seconds to wait before the next try */
  constructor(status, title, detail, wait = 0) {
    super(detail || title);
    this.status = status;
    this.title = title;
    this.detail = detail;
    this.wait = wait;
  }
}

/** @type {(rejected: boolean) => Promise<boolean>} */
let askKey = async () => false;

/** Say who asks the reader for a key; it answers whether one was given. @param {(rejected: boolean) => Promise<boolean>} ask */
export function setKeyAsker(ask) {
  askKey = ask;
}

export const key = () => sessionStorage.getItem(KEY) ?? "";

/** @param {string} value "" forgets the key */
export function setKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

/**
 * The address of an endpoint below /v1; parts of a path are escaped.
 * @param {string[]} parts @param {Record<string, any>} [query] empty values are left out, lists are repeated
 */
export function url(parts, query = {}) {
  const found = new URL(parts.map(encodeURIComponent).join("/"), ROOT);
  for (const [name, value] of Object.entries(query)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one !== "" && one !== null && one !== undefined) found.searchParams.append(name, String(one));
    }
  }
  return found.pathname + found.search;
}

/**
 * Ask the server; a refusal is an ApiError. A missing key is asked for, and the request made again.
 * @param {string} address @param {RequestInit} [init] @returns {Promise<Response>}
 */
export async function request(address, init = {}) {
  for (;;) {
    const used = key();
    const response = await reach(address, init, used);
    if (response.ok) return response;
    if (response.status === 401 && (key() !== used || (await askKey(Boolean(used))))) continue;
    throw await refusal(response);
  }
}

/** @param {string} address @param {RequestInit} init @param {string} used */
async function reach(address, init, used) {
  const headers = new Headers(init.headers);
  if (used) headers.set("Authorization", `Bearer ${used}`);
  try {
    return await fetch(address, { ...init, headers, credentials: "omit" });
  } catch (error) {
    if (error instanceof TypeError) throw new ApiError(0, "offline", "");
    throw error; // an abort
  }
}

/** @param {Response} response @returns {Promise<ApiError>} */
async function refusal(response) {
  const wait = Number(response.headers.get("Retry-After")) || 0;
  const kind = response.headers.get("Content-Type") ?? "";
  const problem = /** @type {Partial<Problem>} */ (kind.includes("json") ? await response.json().catch(() => ({})) : {});
  return new ApiError(response.status, problem.title ?? response.statusText, problem.detail ?? "", wait);
}

/** @param {string} address @param {RequestInit} [init] @returns {Promise<any>} */
export async function json(address, init) {
  return (await request(address, init)).json();
}

/** Whether an error says only that the reader went on to something else. @param {unknown} error */
export const aborted = (error) => error instanceof DOMException && error.name === "AbortError";

/**
 * The events of a stream (WHATWG server-sent events) as they come; fetch instead of EventSource, which can neither post
 * nor send a key.
 * @param {Response} response
 * @returns {AsyncGenerator<{ event: string, data: any, id: string }>}
 */
export async function* events(response) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).pipeThrough(/** @type {any} */ (new TextDecoderStream())).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text = (text + value).replaceAll("\r\n", "\n");
    const blocks = text.split("\n\n");
    text = blocks.pop() ?? "";
    for (const block of blocks) {
      const event = parseEvent(block);
      if (event) yield event;
    }
  }
}

/** @param {string} block @returns {{ event: string, data: any, id: string } | null} */
export function parseEvent(block) {
  const found = { event: "message", data: "", id: "" };
  for (const line of block.split("\n")) {
    const [, name, value] = /^(event|data|id): ?(.*)$/.exec(line) ?? [];
    if (name === "data") found.data += found.data ? `\n${value}` : value;
    else if (name) found[/** @type {"event" | "id"} */ (name)] = value;
  }
  return found.data ? { ...found, data: JSON.parse(found.data) } : null;
}
