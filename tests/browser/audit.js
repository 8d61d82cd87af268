// What an auditor of WCAG 2.2 AA checks by machine, on the page as it is shown: every finding is one sentence.
() => {
  const found = [];
  const dialogs = [...document.querySelectorAll("dialog[open]")];
  const root = dialogs.at(-1) ?? document.body;
  const shown = (element) => element.checkVisibility({ checkOpacity: false, checkVisibilityCSS: true }) && element.getClientRects().length > 0;
  const say = (element, what) => found.push(`${element.outerHTML.slice(0, 140)}: ${what}`);
  const text = (element) => (element?.textContent ?? "").trim();

  const nameOf = (element) => {
    const by = element.getAttribute("aria-labelledby");
    if (by) return by.split(" ").map((id) => text(document.getElementById(id))).join(" ").trim();
    const label = element.getAttribute("aria-label")?.trim() || [...(element.labels ?? [])].map(text).join(" ").trim();
    const pictures = [...element.querySelectorAll("img")].map((image) => image.alt).join(" ").trim();
    return label || text(element) || pictures || element.getAttribute("title") || "";
  };

  const controls = [...root.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0'], [role=button]")].filter(shown);
  for (const control of controls) {
    if (!nameOf(control)) say(control, "has no accessible name");
    const { width, height } = (control.matches("input[type=checkbox], input[type=radio]") ? (control.closest("label") ?? control) : control).getBoundingClientRect();
    const inline = control.matches("p a, dd a, li > a:only-child");
    if (!inline && !control.matches(".box, .skip") && (width < 43.5 || height < 43.5) && !control.matches("input[type=range], svg a")) say(control, `is ${Math.round(width)} x ${Math.round(height)}, smaller than 44 pixels`);
    if (control.tabIndex > 0) say(control, "has a tabindex above 0, which breaks the order of the focus");
  }
  for (const image of root.querySelectorAll("img")) if (!image.hasAttribute("alt")) say(image, "has no alt");
  for (const label of root.querySelectorAll("[role=application], [role=group], [role=toolbar], section[aria-labelledby], dialog, nav, aside")) {
    if (shown(label) && label.matches("[role], dialog, nav, aside") && !nameOf(label)) say(label, "has a role and no name");
  }
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  for (const id of new Set(ids)) if (ids.filter((one) => one === id).length > 1) found.push(`the id ${id} is there more than once`);
  for (const name of ["aria-labelledby", "aria-describedby", "aria-controls"]) {
    for (const element of root.querySelectorAll(`[${name}]`)) for (const id of element.getAttribute(name).split(" ")) if (!document.getElementById(id)) say(element, `${name} names ${id}, which is not there`);
  }
  if (!document.documentElement.lang) found.push("the page has no language");
  if (!document.title) found.push("the page has no title");
  if (document.querySelectorAll("main").length !== 1) found.push("there is not one main");
  if (!dialogs.length) {
    const headings = [...document.querySelectorAll("h1, h2, h3")].filter(shown).map((heading) => Number(heading.tagName[1]));
    if (headings.filter((level) => level === 1).length !== 1) found.push(`there are ${headings.filter((level) => level === 1).length} headings of level 1`);
  }

  for (const card of root.querySelectorAll(".card")) {
    const picture = card.querySelector(".frame");
    if (picture && shown(card) && picture.getBoundingClientRect().right > card.getBoundingClientRect().right + 1) say(card, "is narrower than its picture");
  }

  const parse = (colour) => {
    const canvas = (window.__canvas ??= Object.assign(document.createElement("canvas"), { width: 1, height: 1 }));
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.clearRect(0, 0, 1, 1);
    context.fillStyle = colour;
    context.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const light = ([r, g, b]) => {
    const part = (value) => ((value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const behind = (element) => {
    const layers = [];
    for (let one = element; one; one = one.parentElement) layers.push(parse(getComputedStyle(one).backgroundColor));
    return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
  };
  const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.textContent.trim() || !element || !shown(element) || element.closest(".unseen, .skip, :disabled, option, title, noscript, .stage, .frame")) continue;
    const style = getComputedStyle(element);
    const below = behind(element);
    const [a, b] = [light(over(parse(style.color), below)), light(below)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) say(element, `has a contrast of ${ratio.toFixed(2)}`);
  }
  const width = Math.min(innerWidth, screen.width); // a phone makes its viewport as wide as what overflows
  if (document.documentElement.scrollWidth > width + 1) found.push(`the page is ${document.documentElement.scrollWidth} wide and scrolls sideways at ${width}`);
  return [...new Set(found)];
};
