// Homographies and views: points (x, y) in pixels, matrices 3 x 3 as rows, acting on columns.

/** @typedef {[number, number]} Point */
/** @typedef {number[][]} Matrix */
/** @typedef {{ width: number, height: number }} Size */
/** @typedef {{ scale: number, x: number, y: number }} View a point p of a photo is shown at scale * p + (x, y) */

/** Where a homography takes a point. @param {Matrix} m @param {Point} point @returns {Point} */
export function apply(m, [x, y]) {
  const w = m[2][0] * x + m[2][1] * y + m[2][2];
  return [(m[0][0] * x + m[0][1] * y + m[0][2]) / w, (m[1][0] * x + m[1][1] * y + m[1][2]) / w];
}

/** The inverse, by cofactors; null where there is none. @param {Matrix} m @returns {Matrix | null} */
export function invert([[a, b, c], [d, e, f], [g, h, i]]) {
  const [p, q, r] = [e * i - f * h, f * g - d * i, d * h - e * g];
  const det = a * p + b * q + c * r;
  if (!Number.isFinite(det) || Math.abs(det) < 1e-12) return null;
  return [[p, c * h - b * i, b * f - c * e], [q, a * i - c * g, c * d - a * f], [r, b * g - a * h, a * e - b * d]].map((row) => row.map((value) => value / det));
}

/** @param {Matrix} a @param {Matrix} b @returns {Matrix} */
export const product = (a, b) => a.map((row) => [0, 1, 2].map((j) => row[0] * b[0][j] + row[1] * b[1][j] + row[2] * b[2][j]));

/** @param {View} view @returns {Matrix} */
export const viewMatrix = ({ scale, x, y }) => [[scale, 0, x], [0, scale, y], [0, 0, 1]];

/** A homography as CSS writes it, column by column, for a transform origin of 0 0. @param {Matrix} m */
export function matrix3d(m) {
  const [[a, b, c], [d, e, f], [g, h, i]] = m;
  return `matrix3d(${[a, d, 0, g, b, e, 0, h, 0, 0, 1, 0, c, f, 0, i].map((value) => value / i).join(",")})`;
}

/**
 * The view that shows `centre` of a photo in the middle of a pane, moved where the photo would leave the pane empty.
 * @param {Size} photo @param {Size} pane @param {number} scale @param {Point} centre @returns {View}
 */
export function viewOf(photo, pane, scale, centre) {
  const offset = (/** @type {number} */ full, /** @type {number} */ room, /** @type {number} */ at) => {
    const slack = room - full * scale;
    return slack >= 0 ? slack / 2 : Math.min(0, Math.max(slack, room / 2 - at * scale));
  };
  return { scale, x: offset(photo.width, pane.width, centre[0]), y: offset(photo.height, pane.height, centre[1]) };
}

/** The largest scale at which a rectangle [x0, y0, x1, y1] fits a pane. @param {number[]} rectangle @param {Size} pane */
export const fitScale = ([x0, y0, x1, y1], pane) => Math.min(pane.width / Math.max(x1 - x0, 1), pane.height / Math.max(y1 - y0, 1));

/** The rectangle around points, with a margin, inside a photo. @param {Point[]} points @param {Size} photo @returns {number[]} */
export function around(points, photo) {
  const xs = points.map(([x]) => x), ys = points.map(([, y]) => y);
  const margin = 0.12 * Math.max(Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys));
  return [Math.max(Math.min(...xs) - margin, 0), Math.max(Math.min(...ys) - margin, 0), Math.min(Math.max(...xs) + margin, photo.width), Math.min(Math.max(...ys) + margin, photo.height)];
}
