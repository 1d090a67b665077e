// Bans in force, a page at a time, and why an address is treated as it is.

/** How many bans are on a page. */
const ON_A_PAGE = 50;

/** The most questions for one page: each looks at some thousands of bans. */
const QUESTIONS = 40;

/** What is looked for, and where the pages before began: `null` is the first. */
const find = { text: "", starts: [null], automatic: true };

async function pageOfBans() {
  const entries = [];
  let next = find.starts.at(-1);
  let total = 0;
  for (let asked = 0; asked < QUESTIONS && entries.length < ON_A_PAGE; asked += 1) {
    const parameters = { text: find.text, most: ON_A_PAGE - entries.length };
    if (next !== null) parameters.before = next;
    const page = await command("block_find", parameters);
    entries.push(...page.entries);
    total = page.in_force;
    next = page.next ?? null;
    if (next === null) break;
  }
  return { entries, next, total };
}

const bans = {
  title: "Bans",
  isPaused: () => !find.automatic,
  load: async () => ({ page: await pageOfBans(), allows: (await command("allow_list")).entries }),
  render: ({ page, allows }) => [
    make("p", { class: "buttons" },
      may("block") && button("Ban an address", () => banDialog()),
      may("allow") && button("Allow an address", () => allowDialog())),
    make("form", { class: "search", role: "search", onsubmit: (event) => {
      event.preventDefault();
      find.text = document.getElementById("find").value.trim();
      find.starts = [null];
      reload();
    } },
    make("label", { for: "find" }, "Find an address, a reason or an actor"),
    input("find", find.text, { type: "search" }),
    make("button", { type: "submit" }, "Find")),
    make("p", { class: "check" }, automatic(), make("label", { for: "automatic" }, "Update this list automatically")),
    bansTable(page),
    pager(page),
    listsTable(known.status?.feeds ?? []),
    table("Allowlist", [
      { name: "Source", cell: (row) => row.source },
      { name: "Reason", cell: (row) => row.reason },
      { name: "By", cell: (row) => row.actor },
      { name: "Actions", cell: (row) => (may("allow") && row.actor !== "config"
        ? button("Remove", () => disallowDialog(row.source), `Remove ${row.source} from the allowlist`) : "–") },
    ], allows.slice(0, 200), {
      empty: "Nothing is allowed beside what is configured.", key: (row) => `allow-${row.source}`,
      note: allows.length > 200 ? `The first 200 of ${number(allows.length)}; gateway allow list shows all.` : null,
    }),
  ],
};

function automatic() {
  const box = make("input", { id: "automatic", type: "checkbox", onchange: (event) => { find.automatic = event.target.checked; } });
  box.checked = find.automatic;
  return box;
}

function bansTable({ entries, total }) {
  const caption = `${several(total, "ban", "bans")} in force${find.text ? `; shown: those with “${find.text}”` : ""}`;
  return make("div", { class: "bans" }, make("p", {}, caption), table("Bans", [
    { name: "Source", cell: (row) => row.source },
    { name: "Reason", cell: (row) => make("bdi", {}, row.reason) },
    { name: "By", cell: (row) => row.actor },
    { name: "Mode", cell: (row) => badge(row.mode, row.mode === "shadow" ? "plain" : "strong") },
    { name: "Since (UTC)", cell: (row) => moment(row.started) },
    { name: "Left", cell: (row) => left(row) },
    { name: "Packets", number: true, cell: (row) => number(row.packets) },
    { name: "Refused", number: true, cell: (row) => number(row.refused) },
    { name: "Actions", cell: banActions },
  ], entries, { empty: find.text ? "No ban has this." : "Nobody is banned.", key: (row) => `ban-${row.id}` }),
  // Lists are not searched: what is known of one address tells them, too.
  ADDRESS.test(find.text) && make("p", {}, "Lists are not searched here. ", whyLink(find.text), ` tells what happens to ${find.text}.`));
}

/** What may be an IP address. */
const ADDRESS = /^(?:\d{1,3}(?:\.\d{1,3}){3}|[\da-f:]*:[\da-f:.]*)$/i;

/** How long a ban lasts: until it is confirmed, until it expires, or until it is removed. */
function left(row) {
  if (row.confirm_seconds !== undefined) return badge(`confirm within ${span(row.confirm_seconds)}`, "warn");
  return row.remaining_seconds === null || row.remaining_seconds === undefined ? "until removed" : span(row.remaining_seconds);
}

function pager({ next }) {
  if (next === null && find.starts.length === 1) return null;
  const go = (change) => () => {
    change();
    reload();
  };
  return make("nav", { "aria-label": "Pages of bans", class: "pager" },
    make("button", { type: "button", disabled: find.starts.length === 1, onclick: go(() => find.starts.pop()) }, "Newer"),
    make("span", {}, `Page ${find.starts.length}`),
    make("button", { type: "button", disabled: next === null, onclick: go(() => find.starts.push(next)) }, "Older"));
}

/** What lists are for that ban nobody. */
const LIST_MODES = { crawlers: "crawlers, bans nobody", never_ban: "never banned" };

function listsTable(feeds) {
  return table("Lists in force", [
    { name: "List", cell: (row) => row.name || "(imported)" },
    { name: "Sources", number: true, cell: (row) => number(row.entries) },
    { name: "Mode", cell: (row) => [LIST_MODES[row.mode] ?? row.mode, row.is_stale && [" ", badge("old", "warn")]] },
    { name: "From", cell: (row) => row.origin },
    { name: "Loaded (UTC)", cell: (row) => moment(row.loaded) },
  ], feeds, { empty: "No list is in force.", note: feeds.length > 0 ? "Sources of lists are not among the bans above." : null });
}

const why = {
  title: "Why",
  load: async (address) => ({ address, why: address ? await command("why", { address }) : null }),
  render: ({ address, why: told }) => [
    make("form", { class: "search", role: "search", onsubmit: (event) => {
      event.preventDefault();
      location.hash = `#/why/${encodeURIComponent(document.getElementById("address").value.trim())}`;
    } },
    make("label", { for: "address" }, "Address"),
    input("address", address ?? "", { required: true }),
    make("button", { type: "submit" }, "Explain")),
    told && explained(told),
  ],
};

const VERDICTS = { blocked: "is blocked", shadow_blocked: "would be blocked (shadow)", allowed: "is allowed", passed: "passes" };

function explained(told) {
  const { entry } = told;
  const standing = told.standing ?? {};
  const at = [told.country, told.asn && `AS${told.asn}`].filter(Boolean).join(", ");
  return [
    make("h2", {}, `${told.address} ${VERDICTS[told.verdict] ?? words(told.verdict)}`),
    make("p", {}, told.next),
    make("p", { class: "buttons" },
      may("block") && !entry && button("Ban", () => banDialog(told.address)),
      entry && changes(entry),
      may("allow") && told.verdict !== "allowed" && button("Allow", () => allowDialog(told.address))),
    facts([
      ["From", at],
      ["Ban", entry && `${entry.source} (${entry.id ? `id ${entry.id}, ` : ""}${entry.mode})`],
      ["Reason", entry && make("bdi", {}, entry.reason)],
      ["By", entry?.actor],
      ["Since", entry && moment(entry.started)],
      ["Left", entry && left(entry)],
      ["Dropped", entry && `${several(entry.packets, "packet", "packets")}, ${bytes(entry.bytes)}`],
      ["Refused", entry?.refused ? several(entry.refused, "request or connection", "requests or connections") : null],
      ["Reaction", told.reaction_micros && `${(told.reaction_micros / 1000).toFixed(1)} ms from the offence to the kernel`],
      ["Closed", told.connections_closed && several(told.connections_closed, "connection", "connections")],
      ["Evidence", list(told.evidence)],
      ["Shielded by", list(told.shields)],
      ["Clamp", told.clamp && `budgets in the kernel divided by ${told.clamp.divide}, for ${span(told.clamp.remaining_seconds)} (limit ${told.clamp.limit})`],
      ["Plan", told.plan && `${told.plan.plan}: ${number(told.plan.packets_per_second)} packets a second`],
      ["Good principals", standing.good_principals || null],
      ["Earlier bans", standing.earlier_bans || null],
      ["Next ban", standing.next_factor > 1 ? `${standing.next_factor} times as long as its rule says` : null],
      ["Probation", standing.probation_seconds && `${span(standing.probation_seconds)}: half as many signals ban it`],
    ]),
    profileOf(told.profile),
    scores(told.score),
    told.limits?.length > 0 && limitRows("Limits of this address", told.limits),
    earlier(told.history, told.history_unknown),
  ];
}

const list = (items) => (items?.length > 0 ? make("ul", { class: "plain" }, items.map((one) => make("li", {}, one))) : null);

function profileOf(profile) {
  if (!profile) return null;
  return section("What it does", facts([
    ["Requests", `${number(profile.requests)}, ${number(profile.failed)} of them failed`],
    ["In the last minute", `${number(profile.per_minute)}, ${number(profile.failed_per_minute)} failed`],
    ["About", [several(profile.paths, "path", "paths"), several(profile.agents, "user agent", "user agents"),
      several(profile.counterparts, "principal", "principals")].join(", ")],
    ["Last principals", profile.principals?.length > 0
      ? make("ul", { class: "plain" }, profile.principals.map((name) => make("li", {}, make("bdi", {}, name)))) : null],
    ["Bodies", `${bytes(profile.bytes_in)} in, ${bytes(profile.bytes_out)} out`],
    ["Known for", span(profile.since_seconds)],
    ["Why", list(profile.reasons)],
  ]), table("Last requests", [
    { name: "Id", cell: (row) => make("code", {}, row.id) },
    { name: "Status", cell: (row) => String(row.status) },
    { name: "When", cell: (row) => `${span(row.seconds_ago)} ago` },
  ], profile.last_requests ?? [], { empty: "None is known.", key: (row) => `request-${row.id}` }));
}

function scores(rows) {
  return table("How far rules are from banning it", [
    { name: "Rule", cell: (row) => row.rule },
    { name: "Counts", cell: (row) => row.of },
    { name: "Held", number: true, cell: (row) => number(row.held) },
    { name: "Bans at", number: true, cell: (row) => number(row.needed) },
    { name: "Within", cell: (row) => span(row.within_seconds) },
    { name: "Mode", cell: (row) => (row.shadow ? "shadow" : "enforce") },
  ], (rows ?? []).filter((row) => row.held > 0), { empty: "No rule holds anything against it." });
}

function earlier(rows, unknown) {
  return table("Earlier bans", [
    { name: "Id", cell: (row) => row.id },
    { name: "Began (UTC)", cell: (row) => moment(row.started) },
    { name: "Ended (UTC)", cell: (row) => moment(row.ended) },
    { name: "How", cell: (row) => row.how },
    { name: "By", cell: (row) => row.actor },
    { name: "Reason", cell: (row) => make("bdi", {}, row.reason) },
    { name: "Packets", number: true, cell: (row) => number(row.packets) },
  ], rows, { empty: unknown ? `Not known: ${unknown}` : "It was not banned before." });
}
