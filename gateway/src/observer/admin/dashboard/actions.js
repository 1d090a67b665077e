// What operators do: a dialog that says what will happen, and the command. The guard judges each.

/** After something was done, the view is loaded again. */
let reload = () => {};

let silence = 0;

/** Says a sentence, also to screen readers. */
function say(text) {
  const said = document.getElementById("said");
  said.textContent = "";
  // As another sentence, where it is the same as before.
  requestAnimationFrame(() => { said.textContent = visible(text); });
  clearTimeout(silence);
  silence = setTimeout(() => { said.textContent = ""; }, 10_000);
}

/** A field of a dialog, with its label. */
function field(label, control, help = null) {
  const id = control.id;
  if (help) control.setAttribute("aria-describedby", `${id}-help`);
  return make("div", { class: "field" }, make("label", { for: id }, label), control,
    help && make("p", { id: `${id}-help`, class: "help" }, help));
}

function choice(id, options) {
  return make("select", { id }, options.map(([value, text]) => make("option", { value }, text)));
}

const input = (id, value = "", attributes = {}) => {
  const control = make("input", { id, type: "text", autocomplete: "off", spellcheck: "false", ...attributes });
  control.value = value;
  return control;
};

/** A button that opens a dialog. */
const button = (text, onclick, name = null) => make("button", { type: "button", "aria-label": name, onclick }, text);

/** Asks, and does it: `act` sends the command. */
function dialog(title, body, verb, act) {
  const box = document.getElementById("dialog");
  const failed = make("p", { class: "failed", role: "alert", hidden: true });
  const doIt = make("button", { type: "submit", class: "main" }, verb);
  const form = make("form", { onsubmit: async (event) => {
    event.preventDefault();
    doIt.disabled = true;
    failed.hidden = true;
    try {
      const answer = await act();
      box.close();
      say(answer.message);
      await reload();
    } catch (error) {
      failed.textContent = visible(error.message);
      failed.hidden = false;
    }
    doIt.disabled = false;
  } },
  make("h2", { id: "dialog-title" }, title), body, failed,
  make("p", { class: "buttons" }, doIt, make("button", { type: "button", onclick: () => box.close() }, "Cancel")));
  box.replaceChildren(form);
  box.showModal();
}

function closeDialog() {
  const box = document.getElementById("dialog");
  if (box.open) box.close();
}

function banDialog(source = "") {
  const who = input("ban-source", source, { required: true });
  const reason = input("ban-reason", "", { required: true, maxlength: "200" });
  const seconds = choice("ban-seconds", [["", "As configured"], ["600", "10 minutes"], ["3600", "1 hour"],
    ["86400", "1 day"], ["604800", "1 week"], ["0", "Until removed"]]);
  const mode = choice("ban-mode", [["enforce", "Enforce"], ["shadow", "Shadow: only count"]]);
  const confirm = choice("ban-confirm", [["", "No"], ["60", "Within 1 minute"], ["300", "Within 5 minutes"]]);
  dialog("Ban", [
    field("Address or network", who, "An IPv4 or IPv6 address, or a network such as 203.0.113.0/24."),
    field("Reason", reason), field("How long", seconds), field("Mode", mode),
    field("Must be confirmed", confirm, "If nobody confirms it in time, the ban is taken back."),
  ], "Ban", () => {
    const asked = { source: who.value.trim(), reason: reason.value.trim(), shadow: mode.value === "shadow" };
    if (seconds.value !== "") asked.seconds = Number(seconds.value);
    if (confirm.value !== "") asked.confirm = Number(confirm.value);
    return command("block_add", asked);
  });
}

function unbanDialog(source) {
  dialog("Unban", make("p", {}, "The ban of ", make("strong", {}, source), " ends now."), "Unban",
    () => command("block_del", { source }));
}

function confirmDialog(entry) {
  dialog("Confirm the ban", make("p", {}, "The ban of ", make("strong", {}, entry.source), " stays until it expires or is removed."),
    "Confirm", () => command("confirm", { id: entry.id }));
}

function allowDialog(source = "") {
  const who = input("allow-source", source, { required: true });
  const reason = input("allow-reason", "", { required: true, maxlength: "200" });
  dialog("Allow", [
    make("p", {}, "An allowed source is never banned, and passes every limit of the kernel program. Bans of it end."),
    field("Address or network", who), field("Reason", reason),
  ], "Allow", () => command("allow_add", { source: who.value.trim(), reason: reason.value.trim() }));
}

function disallowDialog(source) {
  dialog("Remove from the allowlist", make("p", {}, make("strong", {}, source), " is treated as everybody from now on."),
    "Remove", () => command("allow_del", { source }));
}

/** The actions on a ban that whoever is signed in may take. */
function banActions(entry) {
  return make("span", { class: "actions" }, whyLink(entry.source), changes(entry));
}

const whyLink = (source) => make("a", { href: explainLink(source), "aria-label": `Why ${source}` }, "Why");

function changes(entry) {
  return [
    may("block") && entry.confirm_seconds !== undefined && button("Confirm", () => confirmDialog(entry), `Confirm the ban of ${entry.source}`),
    may("allow") && entry.id !== undefined && button("Unban", () => unbanDialog(entry.source), `Unban ${entry.source}`),
  ];
}

/** Where an address is explained; of a network, its first. */
const explainLink = (source) => `#/why/${encodeURIComponent(source.split("/")[0])}`;
