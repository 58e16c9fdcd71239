// What the other scripts of the page share: requests, elements, and values in words.
// Texts only ever become textContent, so that no name is markup.

export function address(path, query = {}) {
  // Not relative to the page, whose own address may have a password in it.
  const url = new URL(path, location.origin + location.pathname);
  for (const [name, values] of Object.entries(query)) {
    for (const value of [values].flat()) url.searchParams.append(name, value);
  }
  return url;
}

export async function get(path, query) {
  const response = await fetch(address(path, query), {cache: "no-store"});
  if (!response.ok) throw new Error(`${response.status} ${(await response.text()).trim()}`);
  return response.json();
}

let ahead = 0; // of this browser's clock, the server's

export const now = () => Date.now() / 1000 + ahead;

export function setClock(at) {
  ahead = at - Date.now() / 1000;
}

export function element(name, text = "", attributes = {}, ...children) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export const utc = (at, length = 19) => new Date(at * 1000).toISOString().slice(0, length).replace("T", " ");

export function duration(ns) {
  if (ns === null || ns === undefined) return "-";
  if (ns >= 1e9) return `${+(ns / 1e9).toPrecision(4)} s`;
  return ns >= 1e6 ? `${+(ns / 1e6).toPrecision(4)} ms` : `${+(ns / 1e3).toPrecision(3)} us`;
}

export function edge(bucket) { // Where a coarse bucket begins, in ns; see Histogram.coarse.
  const fine = bucket * 8;
  if (fine < 128) return fine;
  const shift = Math.floor(fine / 64) - 1;
  return (64 + fine % 64) * 2 ** shift;
}

export function pairs(flat) {
  const found = [];
  for (let i = 0; i < flat.length; i += 2) found.push([flat[i], flat[i + 1]]);
  return found;
}
