// Talks to the gateway: commands, and the stream of what happens.
//
// Invariant: the token is in this script's memory, or where somebody wished it in this tab's storage; it is sent in a
// header, which no other site can make the browser send.

const KEPT = "gateway-token";

/** Who is signed in. */
const session = { token: "", actor: "", roles: [] };

/** What is known of the gateway: the answer to `status`, and the points of the last hour. */
const known = { status: null, points: [], step: 10, live: "" };

/** Whoever wants to hear of changes. */
const listeners = { changed: () => {}, ended: () => {}, said: () => {} };

/** Why a command was not carried out. */
class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const may = (role) => session.roles.includes(role);

function ask(path, options) {
  return fetch(path, {
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
    ...options,
    headers: { Authorization: `Bearer ${session.token}`, ...options.headers },
  });
}

/** Has a command carried out; its answer. */
async function command(name, parameters = {}) {
  const { token } = session;
  let response;
  try {
    response = await ask(`/v1/${name}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(parameters),
    });
  } catch {
    throw new Refused(0, "unreachable", "The gateway cannot be reached.");
  }
  const text = await response.text();
  let answer;
  try {
    answer = JSON.parse(text);
  } catch {
    answer = { code: "", message: text.trim() };
  }
  if (response.ok) return answer;
  // Of somebody who has signed out meanwhile, nobody needs to hear.
  if (response.status === 401 && token === session.token) listeners.ended("The token is unknown, expired or revoked.");
  throw new Refused(response.status, answer.code, answer.message || `The gateway answered ${response.status}.`);
}

function note(status) {
  known.status = status;
  listeners.changed();
}

function live(text) {
  if (known.live === text) return;
  known.live = text;
  listeners.said(text);
}

function hear(event, data) {
  if (event === "status") {
    live("Live");
    note(data);
  } else if (event === "points") {
    const last = known.points.at(-1)?.at ?? 0;
    known.step = data.step;
    known.points = [...known.points, ...data.points.filter((point) => point.at > last)].slice(-360);
    listeners.changed();
  } else if (event === "gone") {
    live("The guard does not answer, trying again");
  } else if (event === "end") {
    listeners.ended(data.status === 404 ? "The dashboard was turned off." : "The token is no longer good, or may not see this.");
  }
}

/** Reads events (HTML, 9.2) until there are no more. */
async function read(response, stop) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const silent = setTimeout(() => stop.abort(), 20_000);
    const { value, done } = await reader.read().finally(() => clearTimeout(silent));
    if (done) return;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      const field = (name) => event.split("\n").find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
      hear(field("event"), JSON.parse(field("data") ?? "{}"));
    }
  }
}

const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

let following = null;

/** Follows what happens until nobody is signed in, or the tab is not seen. */
async function follow() {
  stopFollowing();
  const stop = new AbortController();
  following = stop;
  for (let wait = 2; session.token && !stop.signal.aborted; wait = Math.min(wait * 2, 30)) {
    // Of one stream alone: the next may be stopped for its silence.
    const stream = new AbortController();
    const end = () => stream.abort();
    stop.signal.addEventListener("abort", end);
    try {
      const response = await ask("/dashboard/events", { signal: stream.signal });
      if (response.status === 401 || response.status === 403) return hear("end", { status: response.status });
      if (response.ok) {
        wait = 1;
        await read(response, stream);
      } else {
        // Where the guard is not there, this says so instead.
        const status = await command("status");
        if (stop.signal.aborted) return;
        note(status);
        live("Updates every 10 seconds: too many watch already");
        wait = 10;
      }
    } catch (error) {
      if (!stop.signal.aborted) live(error instanceof Refused ? error.message : "Connection lost, trying again");
    } finally {
      stop.signal.removeEventListener("abort", end);
    }
    await pause(wait);
  }
}

function stopFollowing() {
  following?.abort();
  following = null;
}

/** Signs in: the token is asked who it is. */
async function signIn(token, keep) {
  session.token = token;
  try {
    const who = await command("whoami");
    session.actor = who.actor;
    session.roles = who.roles;
  } catch (error) {
    session.token = "";
    throw error;
  }
  if (!may("view")) {
    session.token = "";
    throw new Refused(403, "denied", "This token has not the role view.");
  }
  if (keep) sessionStorage.setItem(KEPT, token);
  follow();
}

function signOut() {
  stopFollowing();
  sessionStorage.removeItem(KEPT);
  Object.assign(session, { token: "", actor: "", roles: [] });
  Object.assign(known, { status: null, points: [], live: "" });
}
