// Makes elements, and keeps those that are there in step with those that should be.
//
// Invariant: text becomes text nodes, never markup. It may be what clients have sent.

const SVG = "http://www.w3.org/2000/svg";

/** The longest text that is shown of one value. */
const LONGEST = 400;

/** Properties that listen; they are set as properties, so that the policy against inline script stands. */
const LISTENERS = ["onclick", "onsubmit", "onchange", "ontoggle", "oninput"];

/** Text as it may be shown: what is invisible, or changes the direction of what follows, is written out. */
function visible(value) {
  const text = String(value ?? "");
  const short = text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
  const hidden = /[\p{Default_Ignorable_Code_Point}\u0000-\u001f\u007f-\u009f\u2028-\u202e\ufff9-\ufffb]/gu;
  return short.replace(hidden, (char) => `\\u{${char.codePointAt(0).toString(16)}}`);
}

/** An element with attributes, listeners and children: elements, texts, or lists of them. */
function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same, of SVG. */
function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (LISTENERS.includes(name)) {
      node[name] = value;
    } else if (value === true) {
      node.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      node.setAttribute(name, String(value));
    }
  }
  for (const child of children.flat(4)) {
    if (child === null || child === undefined || child === false) continue;
    node.append(child instanceof Node ? child : document.createTextNode(visible(child)));
  }
  return node;
}

/** Makes the children of `old` what those of `fresh` are. Elements that stay keep the focus. */
function renew(old, fresh) {
  const keyed = new Map();
  for (const child of old.children) {
    if (child.dataset.key !== undefined) keyed.set(child.dataset.key, child);
  }
  let place = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const key = wanted.nodeType === Node.ELEMENT_NODE ? wanted.dataset.key : undefined;
    const known = key === undefined ? place : keyed.get(key);
    const fits = known && known.nodeName === wanted.nodeName && (known.dataset?.key === key);
    if (!fits) {
      old.insertBefore(wanted, place);
      continue;
    }
    // Another of the same key, as of names that are cut, is another element.
    keyed.delete(key);
    if (known === place) {
      place = place.nextSibling;
    } else {
      old.insertBefore(known, place);
    }
    renewOne(known, wanted);
  }
  while (place) {
    const next = place.nextSibling;
    place.remove();
    place = next;
  }
}

function renewOne(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    // Whoever has opened it wants it open.
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const name of LISTENERS) {
    if (old[name] !== fresh[name]) old[name] = fresh[name];
  }
  // What somebody writes or chooses stays.
  if (!["INPUT", "SELECT", "TEXTAREA"].includes(old.nodeName)) renew(old, fresh);
}

/** An id made of a title. */
const idOf = (kind, title) => `${kind}-${title.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`;

/**
 * A table. Columns: `name`, `cell` (what it shows of a row), `number` where it is one. The first column names the row.
 * `key` of a row keeps it in its place.
 */
function table(caption, columns, rows, { empty = "None.", key = null, note = null } = {}) {
  const id = idOf("caption", caption);
  if (rows.length === 0) {
    return make("section", { class: "table", "aria-labelledby": id }, make("h2", { id }, caption), make("p", { class: "none" }, empty));
  }
  const head = columns.map((column) =>
    make("th", { scope: "col", role: "columnheader", class: column.number ? "number" : null }, column.name));
  const cells = (row) => columns.map((column, index) => {
    const attributes = { "data-label": column.name, class: column.number ? "number" : null };
    const content = make("div", {}, column.cell(row));
    return index === 0
      ? make("th", { scope: "row", role: "rowheader", ...attributes }, content)
      : make("td", { role: "cell", ...attributes }, content);
  });
  const body = rows.map((row) => make("tr", { role: "row", "data-key": key ? key(row) : null }, cells(row)));
  return make("section", { class: "table", role: "region", "aria-labelledby": id, tabindex: "0" },
    make("table", { role: "table" },
      make("caption", { id }, caption),
      make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, head)),
      make("tbody", { role: "rowgroup" }, body)),
    note && make("p", { class: "note" }, note));
}

/** Names and values: `[name, value]` each; those without a value are left out. */
function facts(pairs) {
  const told = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return make("dl", { class: "facts" }, told.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

/** A word in a frame: its meaning is in the word. */
function badge(text, kind = "plain") {
  return make("span", { class: `badge ${kind}` }, text);
}

function section(title, ...children) {
  return make("section", {}, make("h2", {}, title), children);
}

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/** A number with its thousands apart. */
const number = (value) => whole.format(value ?? 0);

/** A number in few digits, for charts. */
const brief = (value) => (value < 10 ? String(Math.round(value * 10) / 10) : short.format(value));

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  let left = value ?? 0;
  for (; left >= 1024 && unit < units.length - 1; unit += 1) left /= 1024;
  return `${unit === 0 ? left : left.toFixed(1)} ${units[unit]}`;
}

/** A time in its two largest units. */
function span(seconds) {
  const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  if (first < 0) return "0s";
  let left = Math.floor(seconds);
  return units.slice(first, first + 2).map(([name, size]) => {
    const many = Math.floor(left / size);
    left -= many * size;
    return many > 0 ? `${many}${name}` : "";
  }).filter(Boolean).join(" ");
}

/** A moment in UTC, as logs have it. `value`: RFC 3339, or milliseconds since 1970. */
function moment(value) {
  const date = new Date(value);
  if (Number.isNaN(date.getTime())) return visible(value);
  const text = date.toISOString();
  return make("time", { datetime: text }, `${text.slice(0, 10)} ${text.slice(11, 19)}`);
}
