// What the gateway tells by itself: anomalies in a sentence, and alerts.

const anomalies = {
  title: "Anomalies",
  load: () => command("anomalies"),
  render: (told) => {
    if (!told.is_on) {
      return [make("p", { class: "none" }, "Nothing is learned: the configuration has no [anomalies].")];
    }
    const columns = [
      { name: "Of", cell: (row) => row.of },
      { name: "What", cell: (row) => make("bdi", {}, row.sentence) },
      { name: "Measure", cell: (row) => words(row.measure) },
      { name: "Began (UTC)", cell: (row) => moment(row.began) },
    ];
    const present = told.list.filter((row) => !row.ended);
    const past = told.list.filter((row) => row.ended);
    return [
      make("p", {}, `${number(told.series)} series are watched.`,
        told.learning > 0 && ` What is usual is not known yet for ${number(told.learning)} of them.`),
      table("Not usual now", columns, present, { empty: "Everything is as usual." }),
      table("Over", [...columns, { name: "Ended (UTC)", cell: (row) => moment(row.ended) }], past, { empty: "There was none lately." }),
    ];
  },
};

const SEVERITIES = { critical: "bad", warning: "warn", info: "plain" };

const alerts = {
  title: "Alerts",
  load: () => command("alert_list"),
  render: (told) => [
    table("Alerts", [
      { name: "Alert", cell: (row) => row.name },
      { name: "State", cell: (row) => row.state },
      { name: "Severity", cell: (row) => badge(row.severity, SEVERITIES[row.severity]) },
      { name: "Since (UTC)", cell: (row) => moment(row.since) },
      { name: "What", cell: (row) => [make("bdi", {}, row.summary), " ", runbook(row.runbook)] },
    ], told.alerts, {
      empty: `No alert fires. ${several(told.rules, "rule is", "rules are")} watched.`, key: (row) => `alert-${row.fingerprint}`,
      note: told.more > 0 ? `And ${number(told.more)} more.` : null,
    }),
    table("Silences", [
      { name: "Number", cell: (row) => row.id },
      { name: "Of", cell: (row) => Object.entries(row.labels).map(([name, value]) => `${name}=${value}`).join(" ") },
      { name: "Until (UTC)", cell: (row) => moment(row.until) },
      { name: "By", cell: (row) => row.by },
      { name: "Reason", cell: (row) => row.reason },
    ], told.silences, { empty: "Nothing is silenced." }),
    table("Receivers", [
      { name: "Receiver", cell: (row) => row.name },
      { name: "Type", cell: (row) => row.kind },
      { name: "Waiting", number: true, cell: (row) => number(row.waiting) },
      { name: "State", cell: (row) => (row.why
        ? [badge("failing", "bad"), ` ${number(row.failures)} in a row: ${row.why}`]
        : badge("ok", "good")) },
    ], told.receivers, { empty: "Nobody is told of alerts: the configuration has no receiver." }),
  ],
};

/** A link to where it is written what to do, if it is one. */
function runbook(address) {
  if (!address || !/^https?:/i.test(address)) return null;
  return make("a", { href: address, rel: "noreferrer noopener", target: "_blank" }, "What to do (new tab)");
}
