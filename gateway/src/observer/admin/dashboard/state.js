// Upstreams, limits, and what expires.

const SERVERS = { up: "good", slow: "warn", failing: "bad", ejected: "bad", down: "bad" };

const upstreams = {
  title: "Upstreams",
  isLive: true,
  load: async () => {},
  render: () => {
    const all = known.status?.upstreams ?? [];
    if (all.length === 0) return [make("p", { class: "none" }, "No proxy has told of upstreams yet.")];
    return [
      table("Upstreams", [
        { name: "Upstream", cell: (row) => row.name },
        { name: "Servers that are up", cell: (row) => {
          const up = row.servers.filter(([, state]) => state === "up" || state === "slow").length;
          return badge(`${up} of ${row.servers.length}`, up === row.servers.length ? "good" : up === 0 ? "bad" : "warn");
        } },
        { name: "Requests without a server", number: true, cell: (row) => number(row.without_server) },
        { name: "Over a limit", number: true, cell: (row) => number(row.over_limit) },
        { name: "Retries", number: true, cell: (row) => number(row.retries) },
        { name: "Concurrency limit", number: true, cell: (row) => row.limit ?? "–" },
      ], all),
      table("Servers", [
        { name: "Server", cell: (row) => row.address },
        { name: "Upstream", cell: (row) => row.upstream },
        { name: "State", cell: (row) => badge(row.state, SERVERS[row.state] ?? "plain") },
      ], all.flatMap((one) => one.servers.map(([address, state]) => ({ upstream: one.name, address, state })))),
    ];
  },
};

function limitRows(caption, rows, empty = "None.") {
  const or = (value) => (value === undefined || value === null ? "–" : number(value));
  const has = (name) => rows.some((row) => row[name] !== undefined && row[name] !== null);
  const columns = [
    ["limit", { name: "Limit", cell: (row) => row.limit }],
    ["key", { name: "Key", cell: (row) => make("bdi", {}, row.key ?? "–") }],
    ["plan", { name: "Plan", cell: (row) => row.plan ?? "–" }],
    ["mode", { name: "Mode", cell: (row) => row.mode }],
    ["per", { name: "Per", cell: (row) => row.per ?? "–" }],
    ["quota", { name: "Quota", number: true, cell: (row) => or(row.quota) }],
    ["used", { name: "Used", number: true, cell: (row) => or(row.used) }],
    ["left", { name: "Left", number: true, cell: (row) => or(row.left) }],
    ["admitted", { name: "Admitted", number: true, cell: (row) => or(row.admitted) }],
    ["refused", { name: "Refused", number: true, cell: (row) => or(row.refused) }],
    ["in_flight", { name: "In flight", number: true, cell: (row) => or(row.in_flight) }],
    ["keys", { name: "Keys", number: true, cell: (row) => or(row.keys) }],
    ["capacity", { name: "Capacity", number: true, cell: (row) => or(row.capacity) }],
    ["last_seconds", { name: "Last", cell: (row) => (row.last_seconds === undefined || row.last_seconds === null ? "–" : `${span(row.last_seconds)} ago`) }],
  ].filter(([name]) => name === "limit" || has(name)).map(([, column]) => column);
  return table(caption, columns, rows, { empty });
}

const limits = {
  title: "Limits",
  load: async () => ({
    all: (await command("limit", { question: "list" })).rows,
    top: (await command("limit", { question: "top" })).rows,
    quotas: (await command("quota", { question: "quotas" })).rows,
    clamps: (await command("clamp_list")).entries,
  }),
  render: ({ all, top, quotas, clamps }) => [
    limitRows("Limits on requests", all, "The configuration has no limits on requests."),
    limitRows("Whom they refused most", top, "Nobody was refused by them."),
    limitRows("Quotas", quotas, "The configuration has no quotas."),
    table("Budgets of each source in the kernel", [
      { name: "Of", cell: (row) => row.of },
      { name: "A second", number: true, cell: (row) => number(row.per_second) },
      { name: "At once", number: true, cell: (row) => number(row.burst) },
      { name: "Mode", cell: (row) => (row.shadow ? "shadow" : "enforce") },
    ], known.status?.budgets ?? [], { empty: "There are none." }),
    table("Clamped sources", [
      { name: "Source", cell: (row) => row.source },
      { name: "Limit", cell: (row) => row.limit },
      { name: "Budgets divided by", number: true, cell: (row) => number(row.divide) },
      { name: "Mode", cell: (row) => row.mode },
      { name: "Left", cell: (row) => span(row.remaining_seconds) },
      { name: "Packets", number: true, cell: (row) => number(row.packets) },
    ], clamps.slice(0, 200), {
      empty: "No source is clamped.",
      note: clamps.length > 200 ? `The first 200 of ${number(clamps.length)}.` : null,
    }),
  ],
};

/** Days that an operator has to act in. */
const SOON = 21;

const certificates = {
  title: "Certificates",
  isLive: true,
  load: async () => {},
  render: () => [
    table("Certificates", [
      { name: "Setting", cell: (row) => row.key },
      { name: "File", cell: (row) => row.path },
      { name: "Expires (UTC)", cell: (row) => moment(row.not_after * 1000) },
      { name: "State", cell: (row) => {
        const days = Math.floor((row.not_after - Date.now() / 1000) / 86400);
        if (days < 0) return badge("expired", "bad");
        return badge(days === 1 ? "1 day left" : `${number(days)} days left`, days < SOON ? "warn" : "good");
      } },
    ], known.status?.certificates ?? [], { empty: "No listener shows a certificate." }),
    table("Keys of issuers", [
      { name: "Issuer", cell: (row) => row.issuer },
      { name: "From", cell: (row) => row.source },
      { name: "Keys", number: true, cell: (row) => number(row.keys) },
      { name: "Confirmed (UTC)", cell: (row) => (row.confirmed ? moment(row.confirmed) : "never") },
      { name: "State", cell: (row) => {
        if (!row.usable) return [badge("unusable", "bad"), ` ${row.why}`];
        return row.failing_since ? [badge("cannot be fetched", "warn"), ` ${row.why}`] : badge("good", "good");
      } },
    ], known.status?.key_sets ?? [], { empty: "No keys of issuers are fetched." }),
    table("Disks", [
      { name: "Folder", cell: (row) => row.folder },
      { name: "Free", number: true, cell: (row) => bytes(row.available) },
      { name: "Size", number: true, cell: (row) => bytes(row.size) },
    ], known.status?.disks ?? [], { empty: "Nothing is known of disks." }),
  ],
};
