// Pictures of photos. Where the server asks for a key an <img> cannot send it, so the bytes are fetched and shown as a blob.

import { key, request, url } from "./api.js";
import { h } from "./dom.js";
import { t } from "./strings.js";

const MOST = 6; // fetches at once, as many as a browser opens connections to one host
/** @type {(() => Promise<void>)[]} */
const queue = [];
let running = 0;

/**
 * The address of a small picture; with the version of the photo it may be cached for ever.
 * @param {string} collection @param {{ key: string, version?: string }} photo @param {number} size 160, 320, 640 or 1280
 */
export const thumbnail = (collection, photo, size) => url(["collections", collection, "photos", photo.key, "thumbnail"], { size, v: photo.version });

/**
 * An <img> of an address of the server, loaded when it comes near the screen.
 * @param {string} address @param {string} alt @param {Record<string, any>} [props] `eager` loads at once; `lost`: what to say where it cannot be shown
 * @returns {HTMLImageElement}
 */
export function picture(address, alt, { eager = false, lost = t("photo.gone"), ...props } = {}) {
  const image = h("img", { alt, decoding: "async", loading: eager ? "eager" : "lazy", draggable: false, ...props });
  image.addEventListener("error", () => gone(image, lost));
  if (!key() || address.startsWith("blob:")) image.src = address; // what is in the page already needs no key
  else if (eager) queueFetch(image, address);
  else watch(image, address);
  return image;
}

/** Say in place of a picture that it cannot be shown; a frame that vanishes explains nothing. @param {HTMLImageElement} image @param {string} lost */
function gone(image, lost) {
  const label = image.alt ? `${image.alt}: ${lost}` : lost;
  image.replaceWith(h("span", { class: `${image.className} gone`, role: "img", "aria-label": label }, lost));
}

/** @type {WeakMap<Element, string>} */
const waiting = new WeakMap();
const near = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      const address = waiting.get(target);
      if (!isIntersecting || !address) continue;
      near.unobserve(target);
      queueFetch(/** @type {HTMLImageElement} */ (target), address);
    }
  },
  { rootMargin: "600px" },
);

/** @param {HTMLImageElement} image @param {string} address */
function watch(image, address) {
  waiting.set(image, address);
  near.observe(image);
}

/** @param {HTMLImageElement} image @param {string} address */
function queueFetch(image, address) {
  queue.push(() => fetchInto(image, address));
  next();
}

function next() {
  if (running >= MOST) return;
  const job = queue.shift();
  if (!job) return;
  running += 1;
  void job().finally(() => {
    running -= 1;
    next();
  });
}

/** @param {HTMLImageElement} image @param {string} address */
async function fetchInto(image, address) {
  try {
    const blob = await (await request(address)).blob();
    const local = URL.createObjectURL(blob);
    image.addEventListener("load", () => URL.revokeObjectURL(local), { once: true });
    image.src = local;
  } catch {
    image.dispatchEvent(new Event("error"));
  }
}

/**
 * The address under which an SVG <image> can show a photo: of the server, or of a blob where a key is needed.
 * @param {string} address @returns {Promise<string>}
 */
export async function shown(address) {
  return key() ? URL.createObjectURL(await (await request(address)).blob()) : address;
}
