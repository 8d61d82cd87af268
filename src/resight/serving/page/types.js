// What the server answers, for the type checker; this file is never loaded by the page.

/** @typedef {import("./route.js").Box} Box */
/** @typedef {{ title: string, detail: string, status: number }} Problem */
/** @typedef {{ key: string, id: string, width: number, height: number, version: string, taken_at?: string | null, folder?: string, tags?: string[] }} Photo */
/** @typedef {"proven" | "possible" | "none"} Match */
/**
 * @typedef {object} Result
 * @property {string} key @property {string} id @property {number} width @property {number} height @property {string} version
 * @property {number} score @property {Match | null} match null: geometry has not looked at it yet
 * @property {number | null} inliers @property {string | null} significance @property {[number, number][] | null} outline
 * @property {string | null} example key of the example of `also` that found it; null: the query itself
 */
/** @typedef {{ token: string | null, key: string | null, width: number, height: number, boxes: Box[] }} QueryInfo */
/**
 * @typedef {object} Explanation
 * @property {QueryInfo} query @property {Result} result @property {number[][] | null} transform
 * @property {[number, number, number, number][]} inliers @property {[number, number][] | null} outline
 * @property {string | null} significance @property {{ stage: string, summary: string }[]} stages
 * @property {{ key: string, id: string }[]} path @property {{ key: string, id: string }[]} sources
 */
/** @typedef {{ resight: string, read_only: boolean, keys: boolean, scope: string | null }} Version */
/** @typedef {{ name: string, photos: number, recipe: string, updated: string, version: string }} Summary */
/**
 * @typedef {Summary & { recipes: { name: string, options: Record<string, any> }[], pending: number, proof: boolean,
 *   threshold: number | null, read_only: boolean, original_allowed: boolean, can_upload: boolean }} Info
 */
/**
 * @typedef {object} Job
 * @property {string} id @property {string} kind @property {"waiting" | "running" | "done" | "failed" | "stopped"} state
 * @property {string} created @property {string} step @property {number} done @property {number} of
 * @property {number} per_second @property {number | null} seconds_left @property {{ kind: string, message: string }[]} problems
 * @property {Record<string, any> | null} result @property {string | null} error
 */
export {};
