// Puts it together: signing in, the views and their links, and what is done again and again.

const VIEWS = { overview, sources, bans, why, anomalies, alerts, upstreams, limits, certificates };

/** How often a view is loaded again that is not told of changes, in seconds. */
const AGAIN = 10;

const at = (id) => document.getElementById(id);

/** What is shown. */
const shown = { name: "", parameter: null, data: undefined, loading: 0 };

/** The view and its parameter that the address names. */
function wanted() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  let parameter = null;
  try {
    parameter = rest.length > 0 ? decodeURIComponent(rest.join("/")) : null;
  } catch {
    // What is no address is none.
  }
  return { name: Object.hasOwn(VIEWS, name) ? name : "overview", parameter };
}

function links() {
  const list = make("ul", {}, Object.entries(VIEWS).map(([name, view]) => make("li", {},
    make("a", { href: `#/${name}`, "aria-current": name === shown.name ? "page" : null }, view.title))));
  renew(at("views"), make("nav", {}, list));
}

/** Puts the view in place of what is there. */
function show(problem = null) {
  const view = VIEWS[shown.name];
  const content = make("div", {},
    make("h1", { tabindex: "-1", id: "title" }, view.title),
    problem && make("p", { class: "failed", role: "alert" }, problem),
    upgraded(),
    shown.data === undefined ? make("p", { class: "none" }, problem ? "" : "Loading.") : view.render(shown.data));
  renew(at("view"), content);
}

/** The page of another version knows other things. */
let version = null;

function upgraded() {
  const own = known.status?.version ?? null;
  version ??= own;
  return own !== version && make("p", { class: "failed" }, "The gateway was upgraded: load this page again.");
}

async function load() {
  if (!session.token) return;
  const view = VIEWS[shown.name];
  const mine = shown.loading += 1;
  try {
    const data = (await view.load(shown.parameter)) ?? null;
    if (mine !== shown.loading || !session.token) return;
    shown.data = data;
    show();
  } catch (error) {
    if (mine === shown.loading && session.token) show(error.message);
  }
}

reload = load;

/** Goes to what the address names. */
async function go() {
  if (!session.token || (location.hash !== "" && !location.hash.startsWith("#/"))) return;
  closeDialog();
  const { name, parameter } = wanted();
  Object.assign(shown, { name, parameter, data: VIEWS[name].isLive ? null : undefined });
  document.title = `${VIEWS[name].title} – Gateway`;
  at("view").replaceChildren();
  links();
  show();
  at("title").focus();
  window.scrollTo(0, 0);
  await load();
}

function enter() {
  at("sign-in").hidden = true;
  at("who").hidden = false;
  at("views").hidden = false;
  at("actor").textContent = visible(`${session.actor} (${session.roles.join(", ")})`);
  at("token").value = "";
  // The link to the content names no view.
  if (!location.hash.startsWith("#/")) history.replaceState(null, "", "#/overview");
  go();
}

function leave(why = null) {
  signOut();
  closeDialog();
  shown.loading += 1;
  at("view").replaceChildren();
  at("views").hidden = true;
  at("who").hidden = true;
  at("live").textContent = "";
  at("sign-in").hidden = false;
  at("sign-in-why").hidden = !why;
  at("sign-in-why").textContent = visible(why ?? "");
  document.title = "Sign in – Gateway";
  at("token").focus();
  at("token").select();
}

async function start(token, keep) {
  at("sign-in-why").hidden = true;
  try {
    await signIn(token, keep);
    enter();
  } catch (error) {
    const stored = sessionStorage.getItem(KEPT);
    leave(error.message);
    // It may be good once the gateway answers.
    if (stored && ![401, 403].includes(error.status)) sessionStorage.setItem(KEPT, stored);
  }
}

listeners.ended = leave;
listeners.said = (text) => { at("live").textContent = visible(text); };
listeners.changed = () => {
  if (session.token && VIEWS[shown.name]?.isLive) show();
};

at("sign-in-form").onsubmit = (event) => {
  event.preventDefault();
  start(at("token").value.trim(), at("keep").checked);
};
at("sign-out").onclick = () => leave();
window.addEventListener("hashchange", go);

/** Nobody is told of what nobody sees. */
document.addEventListener("visibilitychange", () => {
  if (!session.token) return;
  if (document.hidden) stopFollowing();
  else follow();
});

setInterval(() => {
  const view = VIEWS[shown.name];
  const isBusy = document.hidden || at("dialog").open || view?.isPaused?.();
  if (session.token && view && !view.isLive && !isBusy) load();
}, AGAIN * 1000);

const kept = sessionStorage.getItem(KEPT);
if (kept) {
  start(kept, true);
} else {
  leave();
}
