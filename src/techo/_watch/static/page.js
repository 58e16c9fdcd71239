// The page of techo watch: keeps its table up to date, and has a strip drawn for each target.

import {address, element, get, now, setClock, utc} from "./common.js";
import {Strip, patterns, readColours} from "./strip.js";

const RANGES = {"1h": [3600, 60], "6h": [6 * 3600, 120], "1d": [86400, 600], "1w": [7 * 86400, 3600]};
const STEPS = [60, 120, 300, 600, 1800, 3600, 7200, 21600, 43200, 86400];
const MOST = 200; // columns, where the range is all there is
const MOST_TARGETS = 20; // in one request, as in web_app.py
const MOST_NAMES = 3000; // characters of their names in its address
const AGAIN = 10_000; // milliseconds until the next try, where the server is full

const byId = (id) => document.getElementById(id);
const html = document.documentElement;

// ---- the time that is shown

let zoom = sessionStorage.getItem("zoom") ?? "1d";
let oldest = JSON.parse(html.dataset.oldest); // that anything is known of, or null

function rangeNow() {
  let [length, step] = RANGES[zoom] ?? [now() - (oldest ?? now() - 3600), 0];
  step ||= STEPS.find((each) => length / each <= MOST) ?? Math.ceil(length / MOST / 86400) * 86400;
  const until = Math.ceil(now() / step) * step;
  return {since: Math.floor((until - length) / step) * step, until, step};
}

// ---- the table, brought up to date

const form = document.querySelector("form");
const strips = [...document.querySelectorAll("tr.target")].map((row) => new Strip(row, closeOthers));
let asOf = Number(html.dataset.at); // by the server's clock
let current = null; // the range that all strips show
let refreshed = 0;
let source = null; // of events, while the page can be seen

function closeOthers(chosen) {
  for (const each of strips) if (each !== chosen && each.at !== null) each.close();
}

async function loadAll() {
  const next = rangeNow();
  const same = ["since", "until", "step"].every((name) => current?.[name] === next[name]);
  if (!same) current = next;
  byId("range").textContent = `${utc(current.since, 16)} to ${utc(current.until, 16)} UTC`;
  const seen = strips.filter((each) => each.seen);
  const range = current;
  const queue = batches(seen.filter((each) => each.lacks(range)));
  const work = async () => { // two at once, so that the first are there before the last
    for (const batch of queue) await load(batch.filter((each) => each.lacks(range)), range);
  };
  await Promise.all([work(), work()]);
  if (html.dataset.drawn === undefined && seen.some((each) => each.range !== null)) {
    performance.measure("techo: all strips drawn"); // since the page began to load
    html.dataset.drawn = seen.length;
  }
}

function* batches(all) { // of strips whose names fit into an address
  let batch = [];
  let size = 0;
  for (const strip of all) {
    const more = String(new URLSearchParams({"": strip.target})).length;
    if (batch.length === MOST_TARGETS || (batch.length && size + more > MOST_NAMES)) {
      yield batch;
      batch = [];
      size = 0;
    }
    batch.push(strip);
    size += more;
  }
  if (batch.length) yield batch;
}

async function load(batch, range) {
  if (batch.length === 0 || range !== current) return;
  for (const each of batch) Object.assign(each, {wanted: range, stale: false});
  const {since, until, step} = range;
  const target = batch.map((each) => each.target);
  try {
    const found = await get("spans.json", {target, since, until, seconds: step});
    batch.forEach((each, index) => each.take(range, found.targets[index]));
  } catch (error) {
    for (const each of batch) each.fail(error);
  }
}

function refresh() { // What is not over goes on in the last column.
  if (current === null || Date.now() / 1000 - refreshed < current.step / 10) return;
  refreshed = Date.now() / 1000;
  for (const each of strips) each.stale = true;
  loadAll();
}

function showAge(connected) {
  const text = `as of ${utc(asOf)} UTC`;
  byId("connection").textContent = connected ? text : `${text}; no connection since then`;
  html.classList.toggle("old", !connected);
}

function update(found) {
  if (found.version !== html.dataset.version) { // there are other targets
    location.reload();
    return;
  }
  asOf = found.at;
  setClock(asOf);
  showAge(true);
  byId("summary").textContent = found.summary;
  document.title = `${found.summary} - techo watch`;
  found.rows.forEach(({state, cells}, index) => {
    strips[index].row.className = `target ${state}`;
    for (const cell of strips[index].row.querySelectorAll("[data-cell]")) {
      const text = cells[cell.dataset.cell];
      if (cell.textContent !== text) cell.textContent = text;
    }
  });
  filter();
  oldest = found.oldest;
}

function filter() {
  const {group, problems} = form.elements;
  for (const body of document.querySelectorAll("[data-group]")) {
    body.hidden = Boolean(group?.value) && body.dataset.group !== group.value;
  }
  for (const {row, holder, panel} of strips) {
    row.hidden = holder.hidden = problems.checked && row.classList.contains("up");
    if (panel) panel.hidden = row.hidden;
  }
}

function poll() {
  return get("rows.json").then(update).catch(() => showAge(false));
}

function connect() {
  source = new EventSource(address("events"));
  source.addEventListener("rows", (event) => update(JSON.parse(event.data)));
  source.addEventListener("change", (event) => {
    const {target} = JSON.parse(event.data);
    for (const each of strips) each.stale ||= each.target === target;
    loadAll();
  });
  source.addEventListener("error", async () => {
    showAge(false);
    if (source.readyState !== EventSource.CLOSED) return; // it tries again by itself
    await poll();
    setTimeout(turnTo, AGAIN);
  });
}

function turnTo() { // A browser has six connections to one server, for all its tabs.
  source?.close();
  if (document.hidden) return;
  connect();
  refresh();
}

// ---- the controls

function show(value) {
  zoom = value;
  sessionStorage.setItem("zoom", value);
  for (const button of byId("zoom").children) {
    button.setAttribute("aria-pressed", button.value === zoom);
  }
  closeOthers(null);
  loadAll();
}

function sample(kind, text) { // of the legend
  const canvas = element("canvas", "", {width: 24, height: 12});
  const draw = canvas.getContext("2d");
  draw.fillStyle = patterns[kind];
  draw.fillRect(0, 0, 24, 12);
  return element("span", "", {}, canvas, ` ${text}`);
}

function paint() {
  readColours();
  byId("legend").replaceChildren(
    "Each strip: the slower the higher; the stronger, the more of the probes. ",
    sample("lost", "lost, from the top"), sample("down", "down"),
    sample("degraded", "degraded"), sample("flapping", "flapping"));
  for (const each of strips) each.draw();
}

const observer = new IntersectionObserver((entries) => {
  for (const {target, isIntersecting} of entries) target.strip.show(isIntersecting);
  loadAll();
}, {rootMargin: "200px"});

setClock(asOf);
paint();
byId("show").hidden = true;
byId("zoom").hidden = byId("legend").hidden = false;
byId("zoom").addEventListener("click", ({target}) => target.value && show(target.value));
form.addEventListener("change", () => {
  filter();
  history.replaceState(null, "", `?${new URLSearchParams(new FormData(form))}`);
});
addEventListener("resize", () => strips.forEach((each) => each.draw()));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
for (const each of strips) observer.observe(each.canvas);
document.addEventListener("visibilitychange", turnTo);
show(zoom);
turnTo();
setInterval(() => document.hidden ? poll() : refresh(), 60_000);
