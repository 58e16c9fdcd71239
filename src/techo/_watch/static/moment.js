// All that is known of a target in one column of its strip.

import {duration, edge, element, pairs, utc} from "./common.js";

export function moment({start, seconds, counts, buckets, events}) {
  const times = counts.latency_ns;
  const figures = [
    ["received", counts.received], ["lost", counts.lost], ["late", counts.late],
    ["duplicate", counts.duplicate], ["corrupt", counts.corrupt], ["stray", counts.stray],
    ["down", `${+counts.down_seconds.toFixed(3)} s`],
    ...["min", "mean", "p50", "p90", "p99", "max"].map((name) => [name, duration(times[name])]),
  ];
  const list = element("dl");
  for (const [name, value] of figures) {
    list.append(element("div", "", {}, element("dt", name), element("dd", value)));
  }
  const causes = Object.entries(counts.failures).map(([cause, count]) => `${cause} ${count}`);
  const lasted = events.map((event) => element("li", sentence(event)));
  const heading = element("h2", `${utc(start, 16)} to ${utc(start + seconds, 16)} UTC`);
  if (counts.received + counts.lost === 0) {
    return [heading, element("p", "No probe is known of then."), element("ul", "", {class: "events"}, ...lasted)];
  }
  return [
    heading,
    list,
    element("p", `lost because of: ${causes.join(", ") || "nothing was lost"}`, {class: "causes"}),
    element("ul", "", {class: "events"}, ...lasted),
    distribution(pairs(buckets), counts.lost),
  ];
}

function sentence(event) {
  const to = event.to_ns === null ? "goes on" : `to ${utc(event.to_ns / 1e9)}`;
  const errors = [...new Set([event.first_error, event.last_error])].filter(Boolean);
  const lasted = event.duration_ns === null ? "" : ` (${duration(event.duration_ns)})`;
  const lost = event.probes && event.to_ns !== null ? `, ${event.probes} lost` : "";
  return `${event.kind} from ${utc(event.from_ns / 1e9)} ${to}${lasted}${lost}` +
    (event.cause ? `, ${event.cause}` : "") + (errors.length ? `: ${errors.join("; then ")}` : "");
}

function distribution(buckets, lost) {
  const table = element("table", "", {class: "distribution"}, element("caption", "How many took how long"));
  let width = 1; // in coarse buckets, so that there are at most 24 lines
  const [first, last] = [buckets.at(0)?.[0] ?? 0, buckets.at(-1)?.[0] ?? -1];
  while ((last - first) / width >= 24) width *= 2;
  const lines = new Map();
  for (let each = Math.floor(first / width); each <= Math.floor(last / width); each++) lines.set(each, 0);
  for (const [bucket, count] of buckets) {
    const line = Math.floor(bucket / width);
    lines.set(line, lines.get(line) + count);
  }
  const most = Math.max(lost, ...lines.values());
  const line = (text, count, kind) => {
    const bar = element("span", "", {class: kind});
    bar.style.width = `${100 * count / most}%`;
    table.append(element("tr", "", {}, element("th", text, {scope: "row"}), element("td", count),
      element("td", "", {class: "bar"}, bar)));
  };
  for (const [each, count] of lines) {
    line(`${duration(edge(each * width))} to ${duration(edge((each + 1) * width))}`, count, "took");
  }
  if (lost) line("lost", lost, "lost");
  return table;
}
