// What the whole page knows: the collections, the one in use, and what the server and the reader allow.

import { json, url } from "./api.js";
import { current } from "./route.js";

/** @typedef {import("./types.js").Info} Info */

/** @type {{ collections: import("./types.js").Summary[], info: Info | null, scope: string }} */
export const session = { collections: [], info: null, scope: "" };

/** Learn what the server holds; the collection of the address, or the first. */
export async function openSession() {
  const [version, list] = await Promise.all([json(url(["version"])), json(url(["collections"]))]);
  session.scope = version.scope ?? "";
  session.collections = list;
  const asked = current().collection;
  const name = asked || session.collections[0]?.name;
  session.info = name ? await json(url(["collections", name])) : null;
}

/** The collection in use. */
export function collection() {
  if (!session.info) throw new Error("no collection is open");
  return session.info;
}

/** Whether the reader may change the collection. @param {"write" | "admin"} scope */
export const may = (scope) => !collection().read_only && (session.scope === "admin" || session.scope === scope);

/** The address of an endpoint of the collection in use. @param {string[]} parts @param {Record<string, any>} [query] */
export const here = (parts, query) => url(["collections", collection().name, ...parts], query);
