// What the whole page knows: the collections, the one in use, and what the server and the reader allow.

import { json, url } from "./api.js";
import { current } from "./route.js";

/** @typedef {{ name: string, photos: number, recipe: string }} Listed */
/** @typedef {{ name: string, type: string, default: any, help?: string, choices?: string[] }} Option */
/** @typedef {{ recipe: string, options: Option[] }} Searchable */
/**
 * @typedef {object} Info
 * @property {string} name @property {number} photos @property {string} recipe @property {Searchable[]} searchable
 * @property {string} updated @property {number} version @property {boolean} read_only @property {boolean} original_allowed
 */

/** @type {{ collections: Listed[], info: Info | null }} */
export const session = { collections: [], info: null };

/** Learn what the server holds; the collection of the address, or the first. */
export async function openSession() {
  session.collections = (await json(url(["collections"]))).collections;
  const asked = current().collection;
  const name = asked || session.collections[0]?.name;
  session.info = name ? await json(url(["collections", name])) : null;
}

/** The collection in use. */
export function collection() {
  if (!session.info) throw new Error("no collection is open");
  return session.info;
}

/** The address of an endpoint of the collection in use. @param {string[]} parts @param {Record<string, any>} [query] */
export const here = (parts, query) => url(["collections", collection().name, ...parts], query);
