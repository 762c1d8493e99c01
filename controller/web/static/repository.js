// One repository. Its row comes with the live feed; refs, moves and kept tips are asked for when that row says that they may have changed.

import { $, ATTENTION, Live, bdi, clock, duration, h, judge, number, pages, plural, refresh, stateMark, time, isMild, troubleList, troubles } from "./common.js";

const SIZE = 50;
const path = new URLSearchParams(location.search).get("path") ?? "";
let row = null;
let gone = false;

const proven = (site, now) => {
  const at = Date.parse(site.proven) / 1000;
  if (!Number.isFinite(at)) return "not known";
  return h("span", {}, time(at, now), site.overdue ? h("span", { class: "minor" }, "overdue") : null);
};

const signOfLife = (site, now) => {
  const heard = site.silent ?? (site.name in live.silences ? live.heard - live.silences[site.name] : null);
  if (site.name === row.site) return "this controller";
  return heard === null ? "not known" : time(heard, now);
};

const mover = (move, now) => {
  if (!move) return h("span", { class: "minor" }, "not known");
  const when = move.at ? [", ", time(move.at, now)] : [];
  const who = move.who ? bdi(move.who) : "by hand";
  const at = move.site ? ["at ", bdi(move.site)] : [];
  return h("span", {}, who, h("span", { class: "minor" }, ...at, ...when, move.kind ? [`, ${move.kind}`] : []));
};

const oid = (value) => bdi(value, { class: "oid" });
const cell = (label, ...children) => h("td", { "data-label": label }, h("span", {}, ...children));
const head = (...children) => h("th", { scope: "row" }, ...children);

// ---- the parts that are asked for

class Part {
  constructor(name, depends, draw, nothing) {
    Object.assign(this, { name, depends, draw, nothing, page: 0, query: "", seen: "", rests: 0, busy: false, found: null });
  }

  /** Ask anew where the row has changed in what this part depends on, or something else is wished for. */
  async refresh(force = false) {
    const due = force || this.seen !== this.depends(row);
    if (!due || this.busy || (!force && performance.now() < this.rests)) return;
    this.busy = true;
    const [seen, asked, began] = [this.depends(row), `${this.page} ${this.query}`, performance.now()];
    try {
      const query = new URLSearchParams({ path, part: this.name, page: this.page, q: this.query });
      const answer = await fetch(`repository/data?${query}`, { cache: "no-store" });
      if (!answer.ok) throw new Error(await answer.text());
      this.found = await answer.json();
      this.seen = seen;
      this.page = this.found.page;
    } catch (error) {
      this.found ??= { total: 0, items: [], error: error.message };
    }
    this.busy = false;
    // A large group is asked for less often: this must not keep the controller busy.
    const end = performance.now();
    this.rests = end + Math.min(10000, Math.max(0, 4 * (end - began) - 200));
    this.show();
    if (asked !== `${this.page} ${this.query}` && this.query !== asked.slice(asked.indexOf(" ") + 1)) this.refresh(true);
  }

  show() {
    if (!this.found) return;
    const { total, items, error } = this.found;
    $(`${this.name}-part`).hidden = false;
    const table = $(this.name);
    const now = live.now();
    table.hidden = !items.length;
    refresh(table.tBodies[0], [items, this.name === "refs" && row.faults], () => items.flatMap((item) => this.draw(item, now)));
    $(`${this.name}-nothing`).hidden = items.length > 0;
    $(`${this.name}-nothing`).textContent = error ?? this.nothing();
    pages($(`${this.name}-pages`), this.page, SIZE, total, (page) => {
      this.page = page;
      this.refresh(true);
    });
  }
}

const parts = [
  new Part(
    "refs",
    (row) => JSON.stringify([row.push, row.refs, row.faults]),
    ({ ref, value, fault, move }, now) => {
      // Above are the worst of all that is wrong; what is not among them is told here.
      const told = fault && row.faults.some((one) => one.ref === fault.ref && one.kind === fault.kind);
      const mark = fault ? h("span", { class: "minor" }, stateMark({ look: isMild(fault.kind) ? "late" : "bad", words: fault.kind })) : null;
      const first = h("tr", { class: fault && !told ? "with-trouble" : "" }, head(bdi(ref), mark), cell("Value", value ? oid(value) : "none"), cell("Moved by", mover(move, now)));
      return fault && !told ? [first, h("tr", { class: "trouble" }, h("td", { colspan: 3 }, troubleList([fault])))] : [first];
    },
    () => ($("search").value ? "No ref matches." : "The group has no ref yet."),
  ),
  new Part(
    "moves",
    (row) => JSON.stringify([row.push, row.refs]),
    (move, now) => [h("tr", {}, head(bdi(move.ref)), cell("Move", move.old ? oid(move.old) : "not known", " → ", move.new ? oid(move.new) : "no value"), cell("By", mover(move, now)))],
    () => "This site has seen no move yet.",
  ),
  new Part(
    "kept",
    (row) => String(row.kept),
    (tip, now) => [h("tr", {}, head(oid(tip.oid)), cell("Was at", tip.ref ? bdi(tip.ref) : "not known"), cell("Kept", tip.at ? time(tip.at, now) : "not known"))],
    () => "Nothing was replaced here.",
  ),
];

// ---- what the feed tells

function take(message) {
  if (message.first) gone = true;
  for (const one of message.repositories) if (one.path === path) [row, gone] = [one, false];
  if (message.gone?.includes(path)) gone = true;
  if (message.version) $("footer").textContent = `piehole ${message.version}. This page only shows; it changes nothing.`;
}

function draw() {
  if (gone && live.live) {
    $("headline").textContent = "No such repository";
    $("lede").textContent = `The controller serves no repository ${path} (any more).`;
    for (const part of document.querySelectorAll("section")) part.hidden = true;
    return;
  }
  if (!row) return;
  const now = live.now();
  judge(row, now);
  const name = path.replace(/^.*\/(?=.)/, "");
  document.title = `${live.live ? "" : "NOT LIVE: "}${name}, piehole`;
  refresh($("headline"), name, () => [bdi(name)]);
  const state = row.rank >= ATTENTION ? [...row.found].join(", ") : row.arriving ? "a change is on its way" : "in step";
  const was = live.live ? "" : ` This was so at ${clock(now)}.`;
  refresh($("lede"), [row.group, state, row.refs, row.push, was], () => {
    const push = row.push ? [" Last push: ", bdi(row.push.who || "somebody"), " at ", bdi(row.push.site), ...(row.push.at ? [", ", time(row.push.at, now)] : []), "."] : [];
    return ["Group ", bdi(row.group), `, ${plural(row.refs, "ref")}: ${state}.`, ...push, was, h("span", { class: "minor" }, bdi(path))];
  });
  const wrong = troubles(row);
  refresh($("trouble"), wrong, () => (wrong.length ? [troubleList(wrong)] : []));
  $("sites-part").hidden = false;
  const shown = row.sites.map((site) => [site, site.now.words, duration(site.now.lag)]);
  refresh($("sites").tBodies[0], [shown, live.silences], () =>
    row.sites.map((site) =>
      h(
        "tr",
        {},
        head(bdi(site.name), site.name === row.site ? h("span", { class: "here" }, "this server") : null),
        cell("State", stateMark(site.now), site.state !== "behind" && site.now.lag ? h("span", { class: "minor" }, `behind ${duration(site.now.lag)}`) : null),
        cell("Refs behind", site.state === "left" ? "" : number(site.behind)),
        cell("Last sign of life", signOfLife(site, now)),
        cell("Objects proven", proven(site, now)),
      ),
    ),
  );
  for (const part of parts) {
    if (live.live) part.refresh();
    part.show();
  }
}

let typing = 0;
$("search").addEventListener("input", (event) => {
  clearTimeout(typing);
  typing = setTimeout(() => {
    Object.assign(parts[0], { query: event.target.value, page: 0 });
    parts[0].refresh(true);
  }, 150);
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.matches("input")) {
    event.preventDefault();
    $("search").focus();
  }
});

const live = new Live("events", take, draw);
