// Who fails and asks most, and why: as `gateway top --l7`.

const sources = {
  title: "Sources",
  load: async () => ({ rows: (await command("profiles", { most: 50 })).rows }),
  render: ({ rows }) => {
    const of = (kind) => rows.filter((row) => row.kind === kind);
    return [
      make("p", {}, "Who failed most in the last minute comes first, then who asked most. Nobody of them is banned because of this."),
      people("Sources", "Source", of("source"), "principals", true),
      people("Principals", "Principal", of("principal"), "sources", false),
    ];
  },
};

function people(caption, what, rows, counterparts, isSource) {
  const share = (row) => (row.per_minute === 0 ? "0 %" : `${Math.floor((row.failed_per_minute * 100) / row.per_minute)} %`);
  return table(caption, [
    { name: what, cell: (row) => make("bdi", {}, row.who) },
    { name: "Requests a minute", number: true, cell: (row) => number(row.per_minute) },
    { name: "Failed", number: true, cell: (row) => share(row) },
    { name: "Requests", number: true, cell: (row) => number(row.requests) },
    { name: "Paths", number: true, cell: (row) => number(row.paths) },
    { name: "Agents", number: true, cell: (row) => number(row.agents) },
    { name: counterparts === "sources" ? "Sources" : "Principals", number: true, cell: (row) => number(row.counterparts) },
    { name: "Seen", cell: (row) => `${span(row.idle_seconds)} ago` },
    { name: "Why", cell: (row) => (row.reasons.length === 0 ? "–" : make("ul", { class: "plain" }, row.reasons.map((one) => make("li", {}, one)))) },
    ...(isSource ? [{ name: "Actions", cell: (row) => make("span", { class: "actions" },
      whyLink(row.who),
      may("block") && button("Ban", () => banDialog(row.who), `Ban ${row.who}`)) }] : []),
  ], rows, { empty: `No ${what.toLowerCase()} has asked for anything yet.`, key: (row) => `who-${row.who}` });
}
