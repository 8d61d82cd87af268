// What the server answers, for the type checker; this file is never loaded by the page.

/** @typedef {{ title: string, detail: string, status: number }} Problem */
/** @typedef {"proven" | "possible" | "none"} Match */
/** @typedef {import("./route.js").Box} Box */
/** @typedef {{ key: string, id: string, width: number, height: number, taken_at?: string | null, folder?: string }} Photo */
/**
 * @typedef {object} Result
 * @property {string} key @property {string} id @property {number} width @property {number} height
 * @property {number} score @property {Match | null} match @property {number} inliers
 * @property {number | null} [significance] @property {[number, number][] | null} [outline]
 */
/**
 * @typedef {object} Answer
 * @property {{ token?: string | null, key?: string | null, width: number, height: number, boxes: Box[] }} query
 * @property {string} recipe @property {number} collection_version @property {Result[]} results
 * @property {string | null} next @property {number} took_ms @property {string} sentence
 */
export {};
