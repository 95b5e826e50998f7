// What the page is made of. Names of files and classes are others' words: they only ever become text.

export const find = (id) => document.getElementById(id);
const ENDS = { "0.0": ["0", "<0.1"], "100.0": ["100", ">99.9"] };
export const percent = (share) => {
  const text = (100 * share).toFixed(1);
  return `${ENDS[text]?.[Number(share > 0 && share < 1)] ?? text}\u00a0%`;
};
// Marks that turn text round, or break lines, would make a name look like a different one; a number keeps its % on the line.
export const visible = (text) =>
  text
    .replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (mark) => `\\u${mark.codePointAt(0).toString(16).padStart(4, "0")}`)
    .replace(/(?<=\d) (?=%)/g, "\u00a0");

export function make(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text !== undefined) element.textContent = text;
  return element;
}

export function symbol(name) {
  const [svg, use] = ["svg", "use"].map((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  use.setAttribute("href", `#${name}`);
  svg.setAttribute("class", name);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}
