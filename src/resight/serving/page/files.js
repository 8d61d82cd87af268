// Photos come by drop, paste, file chooser or camera.

import { announce, button, h, icon } from "./dom.js";
import { openDialog } from "./dialogs.js";
import { explain } from "./states.js";
import { t } from "./strings.js";

/** @typedef {(file: File) => void} Take */

/** @param {DataTransfer | null} data @returns {File | undefined} */
const imageOf = (data) => [...(data?.files ?? [])].find((file) => !file.type || file.type.startsWith("image/"));

/**
 * Take photos that are dropped anywhere on the page or pasted; answers how to stop.
 * @param {HTMLElement} root is marked while a file hovers @param {Take} take
 */
export function watchFiles(root, take) {
  const stop = new AbortController();
  const { signal } = stop;
  const hover = (/** @type {boolean} */ on) => root.classList.toggle("dragging", on);
  const given = (/** @type {DataTransfer | null} */ data) => {
    const file = imageOf(data);
    if (file) take(file);
    else if (data?.files.length) announce(t("drop.no-photo"));
    return Boolean(data?.files.length);
  };
  addEventListener("dragover", (event) => (event.preventDefault(), hover(Boolean(event.dataTransfer?.types.includes("Files")))), { signal });
  addEventListener("dragleave", (event) => !event.relatedTarget && hover(false), { signal });
  addEventListener("drop", (event) => (event.preventDefault(), hover(false), given(event.dataTransfer)), { signal });
  addEventListener("paste", (event) => given(event.clipboardData) && event.preventDefault(), { signal });
  return () => stop.abort();
}

/** A button that opens the file chooser, or on a phone the camera. @param {string} name @param {string} label @param {Take} take @param {Record<string, any>} [props] */
export function chooseButton(name, label, take, { capture = "", ...props } = {}) {
  const input = h("input", { type: "file", accept: "image/*", hidden: true, "aria-hidden": "true", tabIndex: -1, onchange: taken });
  if (capture) input.setAttribute("capture", capture);
  function taken() {
    const file = input.files?.[0];
    input.value = ""; // the same photo can be chosen again
    if (file) take(file);
  }
  return [button(name, label, () => input.click(), props), input];
}

/** The camera: of a phone by its own application, of a computer in a dialog. @param {Take} take @param {boolean} [bare] */
export function cameraButton(take, bare = false) {
  if (matchMedia("(pointer: coarse)").matches) return chooseButton("camera", t("drop.camera"), take, { capture: "environment", bare });
  return [button("camera", t("drop.camera"), () => void openCamera(take), { bare })];
}

/** @param {Take} take */
async function openCamera(take) {
  const video = h("video", { autoplay: true, playsInline: true, muted: true, class: "viewfinder" });
  const shoot = button("camera", t("camera.take"), () => void shot(), { class: "primary" });
  const note = h("p", { class: "soft", role: "status" }, t("camera.wait"));
  const dialog = openDialog(t("drop.camera"), [video, note, h("div", { class: "row end" }, shoot)]);
  shoot.disabled = true;
  /** @type {MediaStream | undefined} */
  let media;
  dialog.addEventListener("close", () => media?.getTracks().forEach((track) => track.stop()));
  try {
    media = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    video.srcObject = media;
    await video.play();
    note.textContent = "";
    shoot.disabled = false;
  } catch (error) {
    note.textContent = t("camera.none", { reason: explain(error)[1] });
  }

  async function shot() {
    const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d")?.drawImage(video, 0, 0);
    const blob = await new Promise((/** @type {(blob: Blob | null) => void} */ resolve) => canvas.toBlob(resolve, "image/jpeg", 0.92));
    dialog.close();
    if (blob) take(new File([blob], "camera.jpg", { type: "image/jpeg" }));
  }
}

/** The large place to drop a photo on. @param {Take} take */
export function dropZone(take) {
  return h(
    "div", { class: "drop" }, icon("upload"), h("p", {}, h("b", {}, t("drop.title")), h("br"), h("span", { class: "soft" }, t("drop.text"))),
    h("div", { class: "row" }, chooseButton("upload", t("drop.choose"), take, { class: "primary" }), cameraButton(take)),
  );
}
