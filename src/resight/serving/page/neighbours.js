// The graph around a photo: what geometry joins to it, and by which way. The same as a picture and as a list.

import { json } from "./api.js";
import { h, icon, loadStyle, svg } from "./dom.js";
import { shown, thumbnail } from "./images.js";
import { current, href } from "./route.js";
import { shortName } from "./results.js";
import { collection, here } from "./session.js";
import { empty, failure, loading } from "./states.js";
import { count, decimal, t } from "./strings.js";

/** @typedef {import("./types.js").Photo & { x: number, y: number }} Node */
/** @typedef {{ a: number, b: number, inliers: number | null, similarity: number | null }} Edge numbers of two nodes; inliers where geometry proves it */
/** @typedef {{ nodes: Node[], edges: Edge[] }} Graph */

const [WIDTH, HEIGHT] = [1000, 720]; // of the drawing, in its own units
const RADIUS = 46;

/** @param {HTMLElement} root @returns {import("./main.js").View} */
export function mount(root) {
  let asked = "";
  /** @type {AbortController | null} */
  let running = null;

  /** @param {import("./route.js").Route} route */
  async function update(route) {
    await loadStyle("neighbours.css");
    const { openProof, closeProof } = await import("./proof.js");
    if (route.result) void openProof(route, () => []);
    else closeProof();
    const name = route.photo;
    if (name === asked || !name) return name ? undefined : root.replaceChildren(empty("graph", t("neighbours.none"), t("neighbours.choose")));
    asked = name;
    running?.abort();
    const control = (running = new AbortController());
    root.replaceChildren(loading());
    try {
      const graph = /** @type {Graph} */ (await json(here(["photos", name, "neighbours"]), { signal: control.signal }));
      draw(root, graph);
    } catch (error) {
      asked = "";
      if (!control.signal.aborted) root.replaceChildren(failure(error, () => void update(current())));
    }
  }

  return { update: (route) => void update(route), leave: () => (running?.abort(), void import("./proof.js").then(({ closeProof }) => closeProof())) };
}

/** @param {HTMLElement} root @param {Graph} graph the first node is the photo itself */
function draw(root, graph) {
  const route = current();
  const { key, id } = graph.nodes[0];
  const title = h("div", { class: "head" }, h("h1", {}, t("neighbours.title", { name: shortName(id) })),
    h("a", { class: "button", href: href({ collection: route.collection, photo: key }) }, icon("search"), t("result.use.title")),
    h("button", { type: "button", onclick: () => history.back() }, icon("left"), t("neighbours.back")));
  if (graph.nodes.length < 2) return root.replaceChildren(title, empty("graph", t("neighbours.none"), t("neighbours.none.text")));
  const lists = h("section", { class: "panel list", "aria-labelledby": "edges" }, h("h2", { id: "edges" }, count("edges", graph.edges.length)), h("ul", {}, sorted(graph).map((edge) => row(edge, graph.nodes))));
  root.replaceChildren(title, h("div", { class: "graph" }, h("div", { class: "panel" }, picture(graph), legend()), lists));
}

/** Edges of the photo itself before others, those with the most inliers first. @param {Graph} graph */
const sorted = ({ edges }) =>
  [...edges].sort((one, other) => Math.min(one.a, one.b) - Math.min(other.a, other.b) || (other.inliers ?? 0) - (one.inliers ?? 0) || (other.similarity ?? 0) - (one.similarity ?? 0));

const legend = () =>
  h("ul", { class: "legend soft" }, ["proven", "near"].map((name) => h("li", {}, svg("svg", { viewBox: "0 0 36 8", class: "sample", "aria-hidden": "true" }, svg("line", { class: `edge ${name}`, x1: 0, y1: 4, x2: 36, y2: 4 })), t(`neighbours.${name}`))));

/** @param {Edge} edge */
const facts = (edge) => (edge.inliers ? count("inliers", edge.inliers) : edge.similarity === null ? t("neighbours.near") : t("neighbours.weight", { weight: decimal(edge.similarity, 2) }));

/** @param {Edge} edge @param {Node[]} nodes */
function row(edge, nodes) {
  const [first, second] = [nodes[Math.min(edge.a, edge.b)], nodes[Math.max(edge.a, edge.b)]];
  const own = first === nodes[0];
  const to = href({ ...current(), view: own ? "neighbours" : "search", photo: first.key, result: second.key });
  const kind = edge.inliers ? "proven" : "none";
  return h("li", {}, h("a", { href: to }, own ? shortName(second.id) : `${shortName(first.id)} – ${shortName(second.id)}`), h("span", { class: `badge ${kind}` }, icon(kind), facts(edge)));
}

/** Where a node stands in the drawing. @param {Node} node @returns {[number, number]} */
const place = ({ x, y }) => [1.5 * RADIUS + x * (WIDTH - 3 * RADIUS), 1.5 * RADIUS + y * (HEIGHT - 3 * RADIUS)];

/** @param {Graph} graph */
function picture({ nodes, edges }) {
  const lines = edges.map((edge) => {
    const [[x1, y1], [x2, y2]] = [place(nodes[edge.a]), place(nodes[edge.b])];
    return svg("line", { class: `edge ${edge.inliers ? "proven" : "near"}`, x1, y1, x2, y2 });
  });
  const photos = nodes.map((node, i) => nodeOf(node, place(node), !i));
  return svg("svg", { class: "net", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "group", "aria-label": t("neighbours.picture") }, lines, photos.reverse());
}

/** @param {Node} node @param {[number, number]} place @param {boolean} centre */
function nodeOf(node, [x, y], centre) {
  const radius = centre ? RADIUS * 1.25 : RADIUS;
  const image = svg("image", { x: x - radius, y: y - radius, width: 2 * radius, height: 2 * radius, preserveAspectRatio: "xMidYMid slice", class: "face" });
  void shown(thumbnail(collection().name, node, 160)).then((address) => {
    image.setAttribute("href", address);
    if (address.startsWith("blob:")) image.addEventListener("load", () => URL.revokeObjectURL(address), { once: true });
  }).catch(() => image.remove());
  const name = shortName(node.id);
  const to = href({ ...current(), photo: node.key, result: "" });
  return svg("a", { href: to, class: centre ? "node centre" : "node", "aria-label": t("neighbours.around", { name }), "aria-current": centre ? "true" : null },
    svg("title", {}, node.id), svg("circle", { cx: x, cy: y, r: radius, class: "well" }), image, svg("circle", { cx: x, cy: y, r: radius, class: "rim" }));
}

