// What both pages share: making elements, words for times and states, and the connection that keeps a page live.
// Text from outside (refs, people, sites, reasons) only ever becomes a text node or an attribute, never markup.

export const $ = (id) => document.getElementById(id);

/** An element. Properties that begin with "aria-", "data-" or are named here become attributes; "text" and children become text. */
export function h(name, properties = {}, ...children) {
  const made = document.createElement(name);
  // On a phone rows are blocks; these roles keep them a table for those who listen.
  if (name in ROLES) made.setAttribute("role", properties.scope ? `${properties.scope === "col" ? "column" : "row"}header` : ROLES[name]);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") made.className = value;
    else if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const ROLES = { tr: "row", td: "cell", th: "columnheader" };

/** Text that others wrote: it cannot change the direction of what is around it. */
export const bdi = (text, properties = {}) => h("bdi", properties, text);

export const number = (value) => value.toLocaleString("en");
export const plural = (value, word, words = `${word}s`) => `${number(value)} ${value === 1 ? word : words}`;

export function duration(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} days`;
}
export const ago = (seconds) => (seconds < 2 ? "just now" : `${duration(seconds)} ago`);

const clockFormat = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dateFormat = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
export const clock = (seconds) => clockFormat.format(seconds * 1000);
export const date = (seconds) => dateFormat.format(seconds * 1000);

/** A moment, told as an age that grows in place. */
export function time(seconds, now) {
  return h("time", { datetime: new Date(seconds * 1000).toISOString(), title: date(seconds), "data-at": seconds }, ago(now - seconds));
}

function age(now) {
  for (const one of document.querySelectorAll("time[data-at]")) {
    const text = ago(now - one.dataset.at);
    if (one.textContent !== text) one.textContent = text;
  }
}

/** Show something anew only where it differs: what somebody has selected or focused stays. */
export function refresh(place, shows, make) {
  const text = JSON.stringify(shows);
  if (place.dataset.shows === text) return;
  place.dataset.shows = text;
  place.replaceChildren(...make());
}

// ---- states

const ARRIVING = 5; // seconds behind that are normal: a change is on its way
const LONG = 300; // seconds; the alert rules say the same
export const ATTENTION = 3; // from this rank on, somebody should look

/** How one site stands: the kind of its state, the words, how to show it, how long it is behind, and how bad it is (0: not at all). */
export function standing(site, now) {
  const lag = site.since === null ? 0 : Math.max(0, now - site.since);
  const behind = site.since === null ? "behind" : `behind ${duration(lag)}`;
  if (site.state === "left") return { kind: "left", words: "left", look: "off", rank: 0, lag: 0 };
  if (site.state in RANKS) return { kind: site.state, words: site.state, look: "bad", rank: RANKS[site.state], lag };
  if (site.silent !== null) {
    const words = `silent ${duration(now - site.silent)}`;
    return { kind: "silent", words, look: "bad", rank: RANKS.silent, lag };
  }
  if (site.state === "in step") return { kind: "in step", words: "in step", look: "good", rank: 0, lag: 0 };
  if (site.state !== "behind") return { kind: site.state, words: site.state, look: "late", rank: 3, lag };
  if (site.since !== null && lag < ARRIVING) return { kind: "arriving", words: behind, look: "moving", rank: 1, lag };
  return { kind: "behind", words: behind, look: lag < LONG ? "late" : "bad", rank: lag < LONG ? 3 : 4, lag };
}

const RANKS = { halted: 9, corrupt: 8, refused: 7, failing: 6, stuck: 6, silent: 5 };
const MILD = { "too few copies": 3, locked: 2, unadopted: 2, "proof overdue": 2 }; // they do not put a site behind
export const isMild = (kind) => kind in MILD;
export const KINDS = [...Object.keys(RANKS), "behind", "never seen", ...Object.keys(MILD), "in step"]; // the worst first

/** How a repository stands now: `found`, the kinds of its trouble; the worst `rank`; the longest `lag`; whether something is `arriving`. */
export function judge(row, now) {
  const found = new Set(Object.keys(row.kinds));
  if (row.state in RANKS) found.add(row.state);
  if (row.copies && !row.copies.kept) found.add("too few copies");
  if (row.sites.some((site) => site.overdue)) found.add("proof overdue");
  let rank = Math.max(0, ...[...found].map((kind) => RANKS[kind] ?? MILD[kind] ?? 3));
  let lag = 0;
  let arriving = false;
  for (const site of row.sites) {
    const state = (site.now = standing(site, now));
    if (state.kind === "arriving") arriving = true;
    else if (state.rank) found.add(state.kind);
    if (state.kind !== "arriving") rank = Math.max(rank, state.rank);
    lag = Math.max(lag, state.lag);
  }
  if (!found.size) found.add("in step");
  return Object.assign(row, { found, rank, lag, arriving });
}

export const stateMark = (state) => h("span", { class: `state ${state.look}` }, state.words);

/** What is wrong, why, and the command that fixes it; `sites` that say why, and too few copies, are among it. */
export function troubles(row) {
  const sites = row.sites.filter((site) => site.why && site.state !== "left");
  return [
    ...row.faults,
    ...sites.map((site) => ({ kind: site.state, ref: `at ${site.name}`, why: site.why, fix: "" })),
    ...(row.copies && !row.copies.kept ? [{ kind: "too few copies", ref: "", why: row.copies.words, fix: "" }] : []),
  ];
}

export const troubleList = (list) => h("ul", { class: "troubles" }, ...list.map(trouble));

const trouble = ({ kind, ref, why, fix }) =>
  h(
    "li",
    { class: isMild(kind) ? "mild" : "" },
    h("p", { class: "why" }, h("span", { class: "what" }, kind, ...(ref ? [" ", bdi(ref)] : [])), why ? ": " : "", bdi(why)),
    fix ? command(fix) : null,
  );

function command(fix) {
  const code = h("code", {}, fix);
  const button = h("button", { class: "copy", type: "button", "aria-label": `Copy the command ${fix.slice(0, 200)}` }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(fix);
    } catch {
      // Browsers give the clipboard only to https and localhost.
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  return h("div", { class: "command" }, code, button);
}

/** A row of buttons to turn pages; `turn` gets the number of the page. */
export function pages(nav, page, size, total, turn) {
  nav.hidden = total <= size;
  const last = Math.max(0, Math.ceil(total / size) - 1);
  const button = (label, to) => h("button", { type: "button", disabled: to < 0 || to > last, onclick: () => turn(to) }, label);
  const text = `${number(page * size + 1)} to ${number(Math.min(total, (page + 1) * size))} of ${number(total)}`;
  const focused = nav.contains(document.activeElement) ? document.activeElement.textContent : "";
  refresh(nav, text, () => [h("span", {}, text), button("Previous", page - 1), button("Next", page + 1)]);
  const again = [...nav.querySelectorAll("button")].find((one) => one.textContent === focused);
  if (again) (again.disabled ? nav.querySelector("button:enabled") : again)?.focus();
}

// ---- live

const HIDDEN = 600; // seconds
const SILENCE = 5; // seconds without a word of the controller, which says something every second

/**
 * Keep the page live: `take` gets what the controller sends, `tick` is called each second and after each message.
 *
 * `now()` is the controller's clock; while the page is not live it stands still, so that no age is shown that nobody knows.
 */
export class Live {
  constructor(url, take, tick) {
    this.url = url;
    this.use = take;
    this.tick = tick;
    this.offset = 0; // the controller's clock minus that of this machine, in seconds
    this.heard = null; // when it last said something, by the controller's clock
    this.heardHere = performance.now();
    this.live = false;
    this.etcds = [];
    this.silences = {}; // seconds since the last sign of life of each site's controller, when it was last heard
    this.connect();
    setInterval(() => this.look(), 1000);
    // A page that nobody has seen for long gives its connection back.
    document.addEventListener("visibilitychange", () => {
      clearTimeout(this.rest);
      if (document.hidden) this.rest = setTimeout(() => this.pause(), HIDDEN * 1000);
      else if (!this.live) this.connect();
    });
  }

  now() {
    return this.live || this.heard === null ? Date.now() / 1000 + this.offset : this.heard;
  }

  connect() {
    this.source?.close();
    this.asked = performance.now();
    this.source = new EventSource(this.url);
    this.source.onmessage = (event) => this.take(JSON.parse(event.data));
    this.source.onerror = () => this.lose();
  }

  pause() {
    this.source.close();
    this.lose();
  }

  take(message) {
    this.heardHere = this.asked = performance.now();
    this.use(message);
    if (message.more) return;
    this.offset = message.now - Date.now() / 1000;
    this.heard = message.now;
    this.etcds = message.etcds;
    this.silences = message.silences;
    this.live = true;
    this.redraw();
  }

  lose() {
    this.live = false;
    this.redraw();
  }

  look() {
    const silent = (performance.now() - this.heardHere) / 1000;
    if (this.live && silent > SILENCE) this.lose();
    // A connection that hangs is given up; one that was refused for good is tried again.
    if (!this.live && !document.hidden && (performance.now() - this.asked) / 1000 > SILENCE) this.connect();
    this.redraw();
  }

  redraw() {
    this.show();
    this.tick();
    age(this.now());
  }

  show() {
    const away = this.etcds.filter((one) => !one.connected);
    const mark = $("live");
    mark.className = this.live ? "live" : "live waiting";
    mark.textContent = this.live ? `live, ${clock(this.now())}` : this.heard === null ? "connecting" : "not live";
    document.body.classList.toggle("stale", !this.live && this.heard !== null);
    document.title = document.title.replace(/^NOT LIVE: /, "");
    if (!this.live && (this.heard !== null || (performance.now() - this.asked) / 1000 > 2)) {
      document.title = `NOT LIVE: ${document.title}`;
      const since = this.heard === null ? "Not live" : `Not live since ${clock(this.heard)}`;
      const seconds = (performance.now() - this.heardHere) / 1000;
      const rest =
        this.heard === null
          ? "The controller has not answered yet. This page keeps trying."
          : `The controller does not answer. Everything below is ${duration(seconds)} old. This page keeps trying.`;
      this.alarm(since, rest);
    } else if (this.live && away.length) {
      const since = Math.min(...away.map((one) => one.heard ?? Infinity));
      this.alarm(
        Number.isFinite(since) ? `No etcd since ${clock(since)}` : "No etcd",
        `The controller cannot reach ${away.map((one) => one.etcd).join("; ")}. What the sites have done since then is not known here.`,
      );
    } else this.alarm("", "");
  }

  alarm(what, rest) {
    $("alarm").hidden = !what;
    // Only the first words are read out, once; the others change each second.
    if ($("alarm-what").textContent !== what) $("alarm-what").textContent = what;
    $("alarm-rest").textContent = rest;
  }
}
