// Charts of the last hour, as SVG with the same in words.

const WIDTH = 600;
const HEIGHT = 120;

/** The time of a point: hours and minutes, in UTC. */
const clock = (at) => new Date(at * 1000).toISOString().slice(11, 16);

/**
 * A chart of lines. `lines`: `name` and `of`, which gives a point's number, or `null`. Lines differ by their strokes, not
 * by colour alone.
 */
function chart(title, unit, lines, points) {
  const id = idOf("chart", title);
  if (points.length < 2) {
    return make("figure", { class: "chart" }, make("figcaption", {}, make("h3", { id }, title)),
      make("p", { class: "none" }, "The first numbers come within half a minute."));
  }
  const series = lines.map((line) => ({ ...line, values: points.map(line.of) }));
  const values = series.flatMap((line) => line.values).filter((value) => value !== null);
  const top = nice(Math.max(...values, 0));
  const first = points[0].at;
  const last = points.at(-1).at;
  const x = (at) => ((at - first) / Math.max(last - first, 1)) * WIDTH;
  const y = (value) => HEIGHT - 1 - (value / top) * (HEIGHT - 2);
  const words = series.map((line) => describe(line, points, unit)).join(" ");
  const picture = draw("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img",
    "aria-label": `${title}, ${clock(first)} to ${clock(last)} UTC. ${words}`,
  },
  [0.25, 0.5, 0.75].map((part) => draw("path", { class: "grid", d: `M0 ${y(top * part)}H${WIDTH}` })),
  series.map((line, index) => draw("path", { class: `line line-${index}`, d: path(line.values, points, x, y) })));
  return make("figure", { class: "chart" },
    make("figcaption", {},
      make("h3", { id }, title),
      make("ul", { class: "legend" }, series.map((line, index) => make("li", {},
        draw("svg", { viewBox: "0 0 24 6", class: "sample", "aria-hidden": "true" },
          draw("path", { class: `line line-${index}`, d: "M0 3H24" })),
        `${line.name} `, make("strong", {}, line.values.at(-1) === null ? "–" : `${brief(line.values.at(-1))}${unit}`))))),
    make("div", { class: "plot" },
      make("span", { class: "top", "aria-hidden": "true" }, `${brief(top)}${unit}`),
      picture,
      make("span", { class: "from", "aria-hidden": "true" }, clock(first)),
      make("span", { class: "to", "aria-hidden": "true" }, clock(last))));
}

/** The next round number that is not less. */
function nice(value) {
  if (value <= 0) return 1;
  const size = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * size).find((step) => step >= value);
}

/** Where there is no number, there is a gap. */
function path(values, points, x, y) {
  let isOpen = false;
  return values.map((value, index) => {
    if (value === null) {
      isOpen = false;
      return "";
    }
    const step = `${isOpen ? "L" : "M"}${x(points[index].at).toFixed(1)} ${y(value).toFixed(1)}`;
    isOpen = true;
    return step;
  }).join("");
}

function describe(line, points, unit) {
  const told = line.values.map((value, index) => [value, points[index].at]).filter(([value]) => value !== null);
  if (told.length === 0) return `${line.name}: no numbers.`;
  const highest = told.reduce((best, one) => (one[0] > best[0] ? one : best));
  return `${line.name}: now ${brief(told.at(-1)[0])}${unit}, at most ${brief(highest[0])}${unit} at ${clock(highest[1])}.`;
}

/** Numbers of a minute, from points: sums, but for what is a state or a time. */
function byMinute(points) {
  const minutes = new Map();
  for (const point of points) {
    const at = Math.floor((point.at - 1) / 60) * 60;
    const sum = minutes.get(at) ?? { at, requests: 0, refused: 0, client_errors: 0, server_errors: 0, dropped: 0, p95: null, bans: 0 };
    sum.requests += requests(point);
    for (const name of ["refused", "client_errors", "server_errors", "dropped"]) sum[name] += point[name];
    if (point.p95 !== undefined) sum.p95 = Math.max(sum.p95 ?? 0, point.p95);
    sum.bans = point.bans;
    minutes.set(at, sum);
  }
  return [...minutes.values()].reverse();
}

/** All requests of a point. */
const requests = (point) => point.ok + point.redirected + point.client_errors + point.server_errors + point.left;
