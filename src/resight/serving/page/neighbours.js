export const mount = (/** @type {HTMLElement} */ root) => ({ update() { root.replaceChildren(); } });
