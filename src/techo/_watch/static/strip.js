// A strip of a target's past, drawn on a canvas: its smoke, what was lost, and what lasted.

import {duration, edge, element, get, now, pairs, utc} from "./common.js";
import {moment} from "./moment.js";

const HEIGHT = 56; // in CSS pixels, as in style.css
const BAND = 9; // of these, at the bottom, for what lasted: outages and so on

// ---- colours and patterns: what the eye tells apart without colours, too

let ink;
export let patterns;

export function readColours() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const [paper, text, loss] = ["--paper", "--text", "--loss"].map(colour);
  ink = colour("--ink").match(/[0-9a-f]{2}/gi).map((two) => parseInt(two, 16));
  patterns = {
    lost: pattern(loss, paper, [[0, 6, 6, 0], [-1, 1, 1, -1], [5, 7, 7, 5]]),
    down: text,
    degraded: pattern(paper, text, [[1, 1, 3, 3], [4, 4, 6, 6]]),
    flapping: pattern(paper, text, [[1, 0, 1, 6], [4, 0, 4, 6]]),
  };
}

function pattern(below, above, lines) {
  const tile = element("canvas", "", {width: 6, height: 6});
  const draw = tile.getContext("2d");
  draw.fillStyle = below;
  draw.fillRect(0, 0, 6, 6);
  draw.strokeStyle = above;
  draw.lineWidth = 1.5;
  for (const [x, y, toX, toY] of lines) {
    draw.beginPath();
    draw.moveTo(x, y);
    draw.lineTo(toX, toY);
    draw.stroke();
  }
  return draw.createPattern(tile, "repeat");
}

// ---- a strip

const picture = new OffscreenCanvas(1, 1); // one for all, since making one takes a millisecond

export class Strip {
  constructor(row, onChosen) {
    this.row = row; // of the table
    this.onChosen = onChosen; // is called with this when a moment is chosen
    this.target = JSON.parse(row.dataset.target); // its name, of which the table may show a part
    this.seen = false;
    this.wanted = null; // the range that is being loaded, or was
    this.range = null; // the range of which there are spans
    this.stale = false;
    this.at = null; // the beginning of the column that was chosen
    this.panel = null; // what is known of that column
    this.canvas = element("canvas", "", {role: "img", tabindex: "0", "aria-label": "not loaded yet"});
    this.canvas.strip = this;
    this.scale = element("span", "", {class: "scale"});
    const frame = element("div", "", {}, this.canvas, this.scale);
    const cell = element("td", "", {colspan: row.cells.length}, frame);
    this.holder = element("tr", "", {class: "strip"}, cell);
    row.after(this.holder);
    this.canvas.addEventListener("click", ({offsetX}) => this.range && this.choose(this.startAt(offsetX)));
    this.canvas.addEventListener("pointermove", ({offsetX}) => {
      if (this.range) this.canvas.title = `${utc(this.startAt(offsetX), 16)} UTC`;
    });
    this.canvas.addEventListener("keydown", (event) => this.press(event));
  }

  show(seen) {
    this.seen = seen;
    if (seen) this.draw();
    else this.canvas.width = this.canvas.height = 0; // a thousand of them would take a gigabyte
  }

  lacks(range) {
    return this.stale || this.wanted !== range;
  }

  take(range, {spans, events}) {
    if (this.wanted !== range) return; // another range was chosen meanwhile
    this.spans = spans.map((span) => ({...span, buckets: pairs(span.buckets)}));
    this.events = events;
    this.range = range;
    this.draw();
  }

  fail(error) {
    this.stale = true;
    this.scale.textContent = `not loaded: ${error.message}`;
  }

  draw() {
    const {canvas, spans, range: shown} = this;
    if (!this.seen || shown === null || canvas.clientWidth === 0) return;
    const begun = performance.now();
    const {since, until, step} = shown;
    const dots = window.devicePixelRatio || 1;
    const width = canvas.width = Math.round(canvas.clientWidth * dots);
    const height = canvas.height = Math.round(HEIGHT * dots);
    const top = height - Math.round(BAND * dots); // of the band
    const draw = canvas.getContext("2d");
    const x = (at) => Math.round(Math.min(Math.max((at - since) / (until - since), 0), 1) * width);
    const box = (from, to, y, high) => draw.fillRect(x(from), y, Math.max(x(to) - x(from), 2 * dots), high);

    const used = spans.flatMap((span) => span.buckets.map(([bucket]) => bucket));
    const low = used.reduce((a, b) => Math.min(a, b), Infinity) - 1;
    const high = Math.max(used.reduce((a, b) => Math.max(a, b), 0) + 2, low + 8);
    if (used.length) {
      draw.imageSmoothingEnabled = false;
      draw.drawImage(this.smoke(low, high), 0, 0, width, top);
    }
    draw.fillStyle = patterns.lost;
    for (const {start, seconds, lost, received} of spans) {
      if (lost) box(start, start + seconds, 0, Math.max(5 * dots, lost / (lost + received) * top));
    }
    for (const {kind, from_ns, to_ns} of this.events) {
      draw.fillStyle = patterns[kind];
      box(from_ns / 1e9, to_ns === null ? now() : to_ns / 1e9, top + dots, height - top - dots);
    }
    if (this.at !== null && this.at >= since) {
      draw.strokeStyle = patterns.down;
      draw.lineWidth = 2 * dots;
      draw.strokeRect(x(this.at), dots, Math.max(x(this.at + step) - x(this.at), 3), top - 2 * dots);
    }
    const [least, most] = [low + 1, high - 1].map((bucket) => duration(edge(bucket)));
    this.describe(used.length ? `${least} to ${most}` : "no round trips");
    performance.measure("techo: a strip", {start: begun});
  }

  smoke(low, high) { // A picture with a dot for each column and bucket, to be enlarged.
    const {since, until, step} = this.range;
    const [columns, rows] = [Math.round((until - since) / step), high - low];
    const dots = new ImageData(columns, rows);
    const {data} = dots;
    const [red, green, blue] = ink;
    for (const {start, seconds, received, lost, buckets} of this.spans) {
      const first = Math.round((start - since) / step);
      const last = Math.min(first + Math.max(1, Math.round(seconds / step)), columns);
      for (const [bucket, count] of buckets) {
        // The root shows what is rare; a third in one bucket is as strong as can be.
        const alpha = 25 + 230 * Math.sqrt(Math.min(1, 3 * count / (received + lost)));
        for (let column = Math.max(first, 0); column < last; column++) {
          const at = 4 * ((high - 1 - bucket) * columns + column);
          data[at] = red;
          data[at + 1] = green;
          data[at + 2] = blue;
          data[at + 3] = alpha;
        }
      }
    }
    picture.width = columns;
    picture.height = rows;
    picture.getContext("2d").putImageData(dots, 0, 0);
    return picture;
  }

  describe(scale) {
    const sum = (name) => this.spans.reduce((all, span) => all + span[name], 0);
    const outages = this.events.filter((event) => event.kind === "down").length;
    this.scale.textContent = scale;
    this.canvas.setAttribute("aria-label",
      `${utc(this.range.since, 16)} to ${utc(this.range.until, 16)} UTC: ${sum("received")} received, ` +
      `${sum("lost")} lost, outages: ${outages}, round trips: ${scale}`);
  }

  startAt(offset) { // of the column that is so many pixels from the left
    const {since, until, step} = this.range;
    const count = Math.round((until - since) / step);
    const column = Math.floor(offset / this.canvas.clientWidth * count);
    return since + step * Math.min(Math.max(column, 0), count - 1);
  }

  press(event) {
    if (this.range === null) return;
    const last = this.startAt(Infinity);
    const move = {ArrowLeft: -1, ArrowRight: 1}[event.key] * this.range.step; // or NaN
    if (event.key === "Escape") this.close();
    else if (event.key === "Enter") this.choose(this.at ?? last);
    else if (move) this.choose(Math.max(Math.min((this.at ?? last) + move, last), this.startAt(0)));
    else return;
    event.preventDefault();
  }

  close() {
    this.panel?.remove();
    this.panel = this.at = null;
    this.draw();
  }

  async choose(at) {
    this.onChosen(this);
    this.at = at;
    this.draw();
    const span = this.spans.find((each) => each.start <= at && at < each.start + each.seconds);
    const {start, seconds} = span ?? {start: at, seconds: this.range.step};
    let content;
    try {
      content = moment(await get("moment.json", {target: this.target, start, seconds}));
    } catch (error) {
      content = [element("p", `not loaded: ${error.message}`)];
    }
    if (this.at !== at) return; // another one was chosen meanwhile
    const close = element("button", "close", {type: "button"});
    close.addEventListener("click", () => this.close());
    this.panel?.remove();
    const cell = element("td", "", {colspan: this.row.cells.length}, close, ...content);
    this.panel = element("tr", "", {class: "moment"}, cell);
    this.holder.after(this.panel);
  }
}
