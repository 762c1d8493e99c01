// The list of repositories: all of them are held here, so that search, filters and pages need no question to the controller.

import { $, ATTENTION, KINDS, Live, bdi, clock, duration, h, judge, number, pages, plural, stateMark, time, troubleList, troubles } from "./common.js";

const SIZE = 50; // repositories on one page
const COLUMNS = 5; // sites that have a column each
const SHOWN = 3; // troubles of one repository that are shown here; its own page has all

const rows = new Map(); // what the controller has sent, by path
const drawn = new Map(); // the elements of a row, and what they show
let sites = []; // names of all sites, this controller's own first
let here = [];
let loading = true; // the first messages come in parts
let changed = new Set(); // paths of which news came since the last drawing
const wish = read(new URLSearchParams(location.search));

function read(query) {
  return {
    q: query.get("q") ?? "",
    state: query.get("state") ?? "",
    site: query.get("site") ?? "",
    group: query.get("group") ?? "",
    page: Math.max(0, (parseInt(query.get("page") ?? "1", 10) || 1) - 1),
  };
}

function remember() {
  const query = new URLSearchParams();
  for (const name of ["q", "state", "site", "group"]) if (wish[name]) query.set(name, wish[name]);
  if (wish.page) query.set("page", wish.page + 1);
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
}

function choose(change) {
  Object.assign(wish, { page: 0 }, change);
  draw();
  remember();
}

// ---- what is known

function learn(list) {
  for (const row of list) {
    row.text = `${row.path}\n${row.group}`.toLowerCase();
    row.folder = row.group.includes("/") ? row.group.slice(0, row.group.lastIndexOf("/")) : "";
    rows.set(row.path, row);
  }
}

function settle() {
  const found = new Set();
  here = [...new Set([...rows.values()].map((row) => row.site).filter(Boolean))].sort();
  for (const row of rows.values()) for (const site of row.sites) if (site.state !== "left") found.add(site.name);
  sites = [...found].sort((a, b) => here.includes(b) - here.includes(a) || (a < b ? -1 : 1));
}

function order(a, b) {
  return b.rank - a.rank || (a.rank >= ATTENTION ? b.lag - a.lag : (b.push?.at ?? 0) - (a.push?.at ?? 0)) || (a.path < b.path ? -1 : 1);
}

const fits = (row) =>
  (!wish.q || wish.q.toLowerCase().split(/\s+/).every((word) => row.text.includes(word))) &&
  (!wish.group || row.folder === wish.group) &&
  (!wish.site || row.sites.some((site) => site.name === wish.site && site.state !== "left"));

// ---- drawing

let kept = []; // the order that is shown: it stays while somebody points at a row or is in one with the keyboard

function draw() {
  if (loading || live.heard === null) return;
  const now = live.now();
  const all = [...rows.values()].map((row) => judge(row, now));
  const fitting = all.filter(fits);
  let chosen = wish.state ? fitting.filter((row) => row.found.has(wish.state)) : fitting;
  const busy = $("table").tBodies[0].matches(":hover, :focus-within");
  chosen.sort(order);
  if (busy) {
    const place = new Map(kept.map((path, index) => [path, index]));
    chosen = chosen.map((row, index) => [place.get(row.path) ?? kept.length + index, row]).sort((a, b) => a[0] - b[0]).map(([, row]) => row);
  }
  kept = chosen.map((row) => row.path);
  wish.page = Math.min(wish.page, Math.max(0, Math.ceil(chosen.length / SIZE) - 1));
  drawHead(all, now);
  drawSites(all);
  drawTools(all, fitting);
  drawRows(chosen.slice(wish.page * SIZE, (wish.page + 1) * SIZE), now);
  $("nothing").hidden = chosen.length > 0;
  $("nothing").textContent = rows.size ? "No repository matches. Clear the search or choose another state." : "This controller serves no repository yet.";
  pages($("pages"), wish.page, SIZE, chosen.length, (page) => {
    choose({ page });
    $("list").scrollIntoView({ block: "start" });
  });
  changed = new Set();
}

function set(id, text) {
  if ($(id).textContent !== text) $(id).textContent = text;
}

function drawHead(all, now) {
  const bad = all.filter((row) => row.rank >= ATTENTION).length;
  const arriving = all.filter((row) => row.arriving).length;
  const total = plural(all.length, "repository", "repositories");
  const silent = sites.filter((name) => all.some((row) => row.sites.some((site) => site.name === name && site.now.kind === "silent")));
  const who = silent.length > 3 ? `${silent.length} sites` : silent.join(" and ");
  const one = all.length === 1 ? "The repository" : "";
  const need = bad && one ? `${one} needs attention` : bad ? `${number(bad)} of ${total} ${bad === 1 ? "needs" : "need"} attention` : "";
  const fine = one ? `${one} is in step` : `All ${total} are in step`;
  const words = silent.length ? `${who} ${silent.length === 1 ? "is" : "are"} silent` : need || fine;
  set("headline", all.length ? words : "No repository yet");
  const was = live.live ? "" : `This was so at ${clock(now)}. `;
  const on = arriving ? ` ${plural(arriving, "repository has", "repositories have")} a change on its way.` : "";
  set("lede", `${was}${plural(sites.length, "site")}, as the controller at ${here.join(", ") || "this server"} sees them.${silent.length && need ? ` ${need}.` : ""}${on}`);
  document.title = (live.live ? "" : "NOT LIVE: ") + (bad ? `(${number(bad)}) piehole` : "piehole");
}

function drawSites(all) {
  const sums = new Map(sites.map((name) => [name, { in: 0, bad: 0, late: 0, rank: 0, worst: null, lag: 0 }]));
  for (const row of all)
    for (const site of row.sites) {
      const sum = sums.get(site.name);
      if (!sum || site.state === "left") continue;
      if (site.now.rank > 1) sum.late += 1;
      else sum.in += 1;
      if (site.now.rank > sum.rank || (site.now.rank === sum.rank && site.now.lag > sum.lag)) Object.assign(sum, { rank: site.now.rank, worst: site.now, lag: site.now.lag });
    }
  const list = $("sites");
  list.hidden = !sites.length;
  list.className = sites.length <= COLUMNS ? "sites few" : "sites";
  list.style.setProperty("--sites", sites.length);
  keyed(list, sites, (name) => {
    const sum = sums.get(name);
    const fine = sum.rank < 2;
    const words = fine ? { look: "good", words: "in step" } : sum.worst;
    const rest = fine ? plural(sum.in, "repository", "repositories") : `${number(sum.late)} of ${plural(sum.in + sum.late, "repository", "repositories")}`;
    return {
      shows: JSON.stringify([words.look, words.words, rest, wish.site === name, here.includes(name)]),
      make: () => [
        h(
          "button",
          { type: "button", "aria-pressed": String(wish.site === name), title: wish.site === name ? "Show all sites" : "Show only this site", onclick: () => choose({ site: wish.site === name ? "" : name }) },
          h("span", { class: "site-name" }, bdi(name), here.includes(name) ? h("span", { class: "here" }, "this server") : null),
          h("span", { class: "site-words" }, stateMark(words), h("span", { class: "minor" }, rest)),
        ),
      ],
    };
  });
}

/** Bring the children of a list in line with names; an element is made anew only where it shows something else. */
function keyed(list, names, describe, tag = "li") {
  const known = new Map([...list.children].map((child) => [child.dataset.key, child]));
  names.forEach((name, index) => {
    const { shows, make } = describe(name);
    let child = known.get(name);
    if (!child) child = h(tag, { "data-key": name });
    known.delete(name);
    if (child.dataset.shows !== shows) {
      const focused = child.contains(document.activeElement);
      child.replaceChildren(...make());
      child.dataset.shows = shows;
      if (focused) child.querySelector("button, a")?.focus();
    }
    if (list.children[index] !== child) list.insertBefore(child, list.children[index] ?? null);
  });
  for (const child of known.values()) child.remove();
}

function drawTools(all, fitting) {
  $("tools").hidden = rows.size < 2;
  if (document.activeElement !== $("search") && $("search").value !== wish.q) $("search").value = wish.q;
  const counts = new Map([["", fitting.length]]);
  for (const row of fitting) for (const kind of row.found) counts.set(kind, (counts.get(kind) ?? 0) + 1);
  const shown = ["", ...KINDS.filter((kind) => counts.has(kind) || kind === wish.state)];
  keyed($("states"), shown, (kind) => ({
    shows: JSON.stringify([counts.get(kind) ?? 0, kind === wish.state]),
    make: () => [
      h("button", { type: "button", "aria-pressed": String(kind === wish.state), onclick: () => choose({ state: kind }) }, kind || "all", " ", h("span", { class: "count" }, number(counts.get(kind) ?? 0))),
    ],
  }), "span");
  const folders = [...new Set(all.map((row) => row.folder))].sort();
  const select = $("folder");
  select.hidden = folders.length < 2;
  const shows = JSON.stringify(folders);
  if (select.dataset.shows !== shows) {
    select.dataset.shows = shows;
    select.replaceChildren(h("option", { value: "" }, "All groups"), ...folders.filter(Boolean).map((name) => h("option", { value: name }, `${name}/`)));
  }
  if (select.value !== wish.group) select.value = wish.group;
}

function drawRows(list, now) {
  // Many sites share one column, which names those that are not in step.
  const columns = wish.site ? [wish.site] : sites.length <= COLUMNS ? sites : ["Sites"];
  const table = $("table");
  table.hidden = !list.length;
  const head = JSON.stringify(columns);
  if (table.dataset.head !== head) {
    table.dataset.head = head;
    table.tHead.replaceChildren(
      h("tr", {}, ...["Repository", ...columns.map((name) => bdi(name)), "Last push"].map((text) => h("th", { scope: "col" }, text))),
    );
    drawn.clear();
  }
  const wanted = [];
  for (const row of list) {
    const wrong = troubles(row);
    const states = row.sites.map((site) => [site.name, site.now.words, site.now.look, site.behind, duration(site.now.lag)]);
    const first = piece(`${row.path} row`, [states, row.push, row.group, wrong.length > 0], () => makeRow(row, columns, wrong, now));
    if (changed.has(row.path)) {
      first.classList.remove("changed");
      void first.offsetWidth; // begins the animation anew
      first.classList.add("changed");
    }
    wanted.push(first);
    if (wrong.length) wanted.push(piece(`${row.path} trouble`, [wrong, row.kinds, columns.length], () => makeTrouble(row, columns, wrong)));
  }
  const body = table.tBodies[0];
  wanted.forEach((element, index) => {
    if (body.children[index] !== element) body.insertBefore(element, body.children[index] ?? null);
  });
  while (body.children.length > wanted.length) {
    drawn.delete(body.lastElementChild.dataset.key);
    body.lastElementChild.remove();
  }
}

/** A row of the table, made anew only where it shows something else; the keyboard stays where it is. */
function piece(key, shows, make) {
  const text = JSON.stringify(shows);
  const known = drawn.get(key);
  if (known?.text === text) return known.element;
  const element = make();
  element.dataset.key = key;
  if (known) {
    const at = [...known.element.querySelectorAll("a, button")].indexOf(document.activeElement);
    known.element.replaceWith(element);
    if (at >= 0) element.querySelectorAll("a, button")[at]?.focus();
  }
  drawn.set(key, { text, element });
  return element;
}

function makeRow(row, columns, wrong, now) {
  const name = row.path.replace(/^.*\/(?=.)/, "");
  const named = wish.site || sites.length <= COLUMNS;
  const cells = named ? columns.map((column) => h("td", { "data-label": column }, stateOf(row.sites.find((one) => one.name === column)))) : [h("td", { "data-label": "Sites" }, statesOf(row.sites))];
  return h(
    "tr",
    { class: wrong.length ? "with-trouble" : "" },
    h("th", { scope: "row", class: "repository" }, h("a", { href: link(row), title: row.path }, bdi(name)), row.group !== name.replace(/\.git$/, "") ? h("span", { class: "minor" }, bdi(row.group)) : null),
    ...cells,
    h("td", { "data-label": "Last push" }, h("span", {}, row.push ? pushWords(row.push, now) : h("span", { class: "minor" }, "not known"))),
  );
}

function stateOf(site) {
  if (!site) return h("span", { class: "hidden-text" }, "not in this group");
  const refs = site.behind && site.now.rank ? plural(site.behind, "ref") : "";
  const lag = site.state !== "behind" && site.now.lag ? `behind ${duration(site.now.lag)}` : "";
  const more = [refs, lag].filter(Boolean).join(", ");
  return h("span", {}, stateMark(site.now), more ? h("span", { class: "minor" }, more) : null);
}

function statesOf(all) {
  const wrong = all.filter((site) => site.now.rank).sort((a, b) => b.now.rank - a.now.rank || b.now.lag - a.now.lag);
  const fine = all.filter((site) => site.now.kind === "in step").length;
  const rest = { look: "good", words: `in step at ${wrong.length ? `${number(fine)} of ` : ""}${plural(wrong.length + fine, "site")}` };
  return h("span", {}, ...wrong.map((site) => h("div", { class: "one-of" }, bdi(site.name), " ", stateOf(site))), fine ? stateMark(rest) : null);
}

function makeTrouble(row, columns, wrong) {
  const rest = Object.values(row.kinds).reduce((sum, count) => sum + count, 0) - row.faults.length + wrong.length - SHOWN;
  const more = rest > 0 ? h("a", { class: "minor", href: link(row) }, `and ${number(rest)} more`) : null;
  return h("tr", { class: "trouble" }, h("td", { colspan: columns.length + 2 }, troubleList(wrong.slice(0, SHOWN)), more));
}

const link = (row) => `repository?${new URLSearchParams({ path: row.path })}`;

function pushWords(push, now) {
  return h("span", {}, bdi(push.who || "somebody"), h("span", { class: "minor" }, "at ", bdi(push.site), ...(push.at === null ? [] : [", ", time(push.at, now)])));
}

// ---- begin

const search = $("search");
search.value = wish.q;
search.addEventListener("input", () => choose({ q: search.value }));
$("folder").addEventListener("change", (event) => choose({ group: event.target.value }));
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.matches("input, select")) {
    event.preventDefault();
    search.focus();
  }
});
addEventListener("popstate", () => {
  Object.assign(wish, read(new URLSearchParams(location.search)));
  draw();
});

function take(message) {
  if (message.first) rows.clear();
  for (const path of message.gone ?? []) rows.delete(path);
  loading = message.more;
  learn(message.repositories);
  if (!message.first) for (const row of message.repositories) changed.add(row.path);
  if (message.version) set("footer", `piehole ${message.version}. This page only shows; it changes nothing.`);
  if (!message.more && (message.repositories.length || message.gone?.length)) settle();
}

const live = new Live("events", take, draw);
