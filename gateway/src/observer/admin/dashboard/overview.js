// How things are: warnings, charts of the last hour, processes, enforcement.

const perSecond = (of) => (point) => of(point) / known.step;

const overview = {
  title: "Overview",
  isLive: true,
  load: async () => {},
  render: () => {
    const status = known.status;
    if (!status) return [make("p", { class: "none" }, "Waiting for the gateway.")];
    return [
      warnings(status),
      tiles(status),
      charts(),
      table("Processes", [
        { name: "Role", cell: (row) => row.role },
        { name: "Process id", number: true, cell: (row) => row.pid },
        { name: "State", cell: (row) => row.state ?? "runs" },
        { name: "Rights", cell: (row) => rights(row) },
      ], status.processes ?? [], { key: (row) => `process-${row.pid}` }),
      table("Enforcement", [
        { name: "Interface", cell: (row) => row.name },
        { name: "XDP mode", cell: (row) => row.mode },
      ], status.interfaces, {
        empty: status.enforcement === "accept"
          ? "XDP is attached to no interface: bans are enforced when connections are accepted."
          : "XDP is attached to no interface.",
      }),
      table("Packets by verdict", [
        { name: "Verdict", cell: (row) => words(row.verdict) },
        { name: "Packets", number: true, cell: (row) => number(row.packets) },
        { name: "Bytes", number: true, cell: (row) => bytes(row.bytes) },
      ], status.verdicts.filter((row) => row.packets > 0), { empty: "The kernel program has seen no packet." }),
      counts("Refused requests", "Reason", status.requests?.refused, "No request was refused since the guard started."),
      counts("Signals", "Signal", status.requests?.signals, "No signal was observed since the guard started."),
    ];
  },
};

/** A name of the gateway as words. */
const words = (name) => String(name).replaceAll("_", " ");

function warnings(status) {
  const told = [...(status.paused ? [status.paused] : []), ...status.warnings.filter((one) => one !== status.paused)];
  if (status.reload_refused) told.push(`The last reload was refused: ${status.reload_refused.reason}`);
  return make("section", { class: told.length > 0 ? "warnings" : "well" },
    make("h2", {}, told.length > 0 ? `Warnings (${told.length})` : "No warnings"),
    told.length > 0 && make("ul", {}, told.map((one) => make("li", {}, one))));
}

function tiles(status) {
  const answers = status.requests?.answers ?? {};
  const sum = (record) => Object.values(record ?? {}).reduce((all, one) => all + one, 0);
  const tile = (name, value, more = null) => make("div", { class: "tile" },
    make("dt", {}, name), make("dd", {}, make("strong", {}, value), more && make("span", {}, more)));
  return make("section", {}, make("h2", {}, "Now"), make("dl", { class: "tiles" },
    tile("Enforcement", { xdp: "In the kernel", accept: "At accept", none: "None" }[status.enforcement] ?? status.enforcement,
      status.interfaces.map((one) => one.name).join(", ")),
    tile("Bans in force", number(status.blocks), `of at most ${number(status.max_blocks)}`),
    tile("Requests", number(sum(answers)), `${number(sum(status.requests?.refused))} refused`),
    tile("Connections", number(status.requests?.connections)),
    tile("Running for", span(status.uptime_seconds), `version ${status.version}`),
    tile("Configuration", status.reload_refused ? "Last reload refused" : "In force",
      make("span", {}, "since ", moment(status.config_since), " by ", status.config_by))));
}

function charts() {
  const points = known.points;
  const or = (value) => value ?? null;
  const hasPackets = points.some((point) => point.passed + point.dropped + point.would_drop > 0);
  return make("section", {},
    make("h2", {}, "The last hour"),
    make("div", { class: "charts" },
      chart("Requests", "/s", [
        { name: "all", of: perSecond(requests) },
        { name: "refused by the gateway", of: perSecond((point) => point.refused) },
      ], points),
      chart("Errors", "/s", [
        { name: "4xx", of: perSecond((point) => point.client_errors) },
        { name: "5xx", of: perSecond((point) => point.server_errors) },
      ], points),
      chart("Duration", " ms", [
        { name: "95 %", of: (point) => or(point.p95) },
        { name: "50 %", of: (point) => or(point.p50) },
      ], points),
      hasPackets && chart("Packets", "/s", [
        { name: "passed", of: perSecond((point) => point.passed) },
        { name: "dropped", of: perSecond((point) => point.dropped) },
        { name: "would be dropped", of: perSecond((point) => point.would_drop) },
      ], points),
      chart("Bans in force", "", [{ name: "bans", of: (point) => point.bans }], points)),
    make("details", {}, make("summary", {}, "The same in numbers, by minute"),
      table("Numbers of the last hour", [
        { name: "Minute (UTC)", cell: (row) => clock(row.at) },
        { name: "Requests", number: true, cell: (row) => number(row.requests) },
        { name: "Refused", number: true, cell: (row) => number(row.refused) },
        { name: "4xx", number: true, cell: (row) => number(row.client_errors) },
        { name: "5xx", number: true, cell: (row) => number(row.server_errors) },
        { name: "95 % within (ms)", number: true, cell: (row) => (row.p95 === null ? "–" : brief(row.p95)) },
        { name: "Packets dropped", number: true, cell: (row) => number(row.dropped) },
        { name: "Bans", number: true, cell: (row) => number(row.bans) },
      ], byMinute(points), { empty: "There are none yet.", key: (row) => `minute-${row.at}` })));
}

function rights({ role, sandbox }) {
  if (!sandbox) return "not known";
  const capabilities = sandbox.capabilities.length === 0 ? "no capability" : several(sandbox.capabilities.length, "capability", "capabilities");
  const filters = several(sandbox.seccomp_filters, "seccomp filter", "seccomp filters");
  const isConfined = sandbox.no_new_privs && sandbox.seccomp_filters > 0;
  return [badge(isConfined ? "confined" : "not confined", isConfined ? "good" : "warn"),
    ` user ${sandbox.uid}, ${capabilities}, ${filters}`];
}

const several = (count, one, many) => `${number(count)} ${count === 1 ? one : many}`;

/** Names with counts, the highest first. */
function counts(caption, what, record, empty) {
  const rows = Object.entries(record ?? {}).filter(([, count]) => count > 0).sort((one, other) => other[1] - one[1]);
  return table(caption, [
    { name: what, cell: ([name]) => words(name) },
    { name: "Since the start", number: true, cell: ([, count]) => number(count) },
  ], rows, { empty });
}
