"use strict";
const box = document.getElementById("search");
const found = document.getElementById("found");
const main = document.getElementById("main");
const MOST = 40;

const begins = word => new RegExp("(?<![\\p{L}\\d])" + word.replace(/[^\p{L}\d]/gu, "\\$&"), "giu");
const hits = (pattern, text) => (text.match(pattern) ?? []).length;

// A section counts if every word begins a word of it; words in its heading or title weigh more.
function weight(patterns, [, title, heading, text]) {
  const of_each = patterns.map(
    p => 30 * hits(p, heading) + 10 * hits(p, title) + Math.min(9, hits(p, text)));
  return of_each.includes(0) ? 0 : of_each.reduce((sum, one) => sum + one, 0);
}

function excerpt(patterns, text) {
  const at = Math.max(0, text.search(patterns[0]));
  const from = at < 60 ? 0 : text.indexOf(" ", at - 60) + 1;
  const to = text.indexOf(" ", from + 220);
  const piece = (from ? "… " : "") + text.slice(from, to < 0 ? undefined : to) + (to < 0 ? "" : " …");
  const any = new RegExp(`(${patterns.map(p => p.source).join("|")})`, "giu");
  const line = document.createElement("p");
  piece.split(any).forEach((part, i) => {
    line.append(i % 2 ? Object.assign(document.createElement("mark"), {textContent: part}) : part);
  });
  return line;
}

function entry(patterns, [address, title, heading, text]) {
  const item = document.createElement("li");
  const link = Object.assign(document.createElement("a"), {href: address, textContent: heading});
  const where = Object.assign(document.createElement("span"), {textContent: title});
  link.addEventListener("click", () => show(""));
  item.append(link, " ", where, excerpt(patterns, text));
  return item;
}

function show(query) {
  const words = query.trim().split(/\s+/).filter(Boolean);
  found.hidden = !words.length;
  main.hidden = !found.hidden;
  if (found.hidden) return;
  const patterns = words.map(begins);
  window.scrollTo(0, 0);
  const best = SECTIONS.map(section => [weight(patterns, section), section])
    .filter(([weight]) => weight > 0).sort((a, b) => b[0] - a[0]);
  found.querySelector("[role=status]").textContent =
    best.length ? `${best.length} sections with “${query.trim()}”` : `Nothing with “${query.trim()}”`;
  found.querySelector("ol").replaceChildren(
    ...best.slice(0, MOST).map(([, section]) => entry(patterns, section)));
}

box.addEventListener("input", () => show(box.value));
document.addEventListener("keydown", event => {
  if (event.key === "/" && document.activeElement !== box) {
    event.preventDefault();
    box.focus();
  }
  if (event.key === "Escape") {
    box.value = "";
    show("");
  }
});
