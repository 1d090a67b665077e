// Identity providers for tests: `oidc-provider` or `oauth2-mock-server`, on 127.0.0.1, told what to do by a line of JSON on
// standard input, each answered by one on standard output.
//
// {"do": "token", "sub": "ada"}     a token by the newest key
// {"do": "rotate", "kid": "k2"}     another key signs from now on; `"forget": true`: those before are gone
// {"do": "count"}                   how often the keys were asked for, and how often tokens were asked about
//
// Of `oidc-provider` alone:
// {"do": "client", "client": {}}    another client, by its metadata
// {"do": "opaque", "ttl": 60}       a token that says nothing by itself; `"certificate": PEM`: bound to it
// {"do": "revoke", "token": "..."}  such a token is good no more

import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { createInterface } from "node:readline";
import { generateKeyPairSync } from "node:crypto";

const [modules, kind, issuer, port, certificate, key, clients] = process.argv.slice(2);
const load = async (file) => import(pathToFileURL(`${modules}/${file}`).href);

const audience = "api";
let keys = [];
let fetches = 0;
let questions = 0;

function addKey(kid) {
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  keys.unshift({ ...privateKey.export({ format: "jwk" }), kid, alg: "ES256", use: "sig" });
}

async function oidcProvider() {
  const { default: Provider } = await load("oidc-provider/lib/index.js");
  const plain = {
    grant_types: [],
    id_token_signed_response_alg: "ES256",
    introspection_signed_response_alg: "ES256",
    redirect_uris: [],
    response_types: [],
  };
  const clients = [
    { ...plain, client_id: "ada", client_secret: "ada-secret", grant_types: ["client_credentials"] },
    {
      ...plain,
      client_id: "bound",
      client_secret: "ada-secret",
      grant_types: ["client_credentials"],
      tls_client_certificate_bound_access_tokens: true,
    },
  ];
  // Of a client that asks by TLS, and of tests that ask for a token in its place.
  const getCertificate = (context) => {
    const pem = context.get("x-test-certificate");
    return pem ? decodeURIComponent(pem) : context.req.socket.getPeerX509Certificate?.();
  };
  const make = () => {
    const jwt = { sign: { alg: "ES256", kid: keys[0].kid } };
    const server = { scope: "items:read", audience, accessTokenFormat: "jwt", accessTokenTTL: 3600, jwt };
    const opaque = (ttl) => ({ scope: "items:read", audience, accessTokenFormat: "opaque", accessTokenTTL: ttl });
    const provider = new Provider(issuer, {
      clients,
      clientAuthMethods: [
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt",
        "self_signed_tls_client_auth",
      ],
      jwks: { keys },
      features: {
        clientCredentials: { enabled: true },
        devInteractions: { enabled: false },
        introspection: { enabled: true },
        jwtIntrospection: { enabled: true },
        mTLS: { enabled: true, certificateBoundAccessTokens: true, selfSignedTlsClientAuth: true, getCertificate },
        revocation: { enabled: true },
        resourceIndicators: {
          enabled: true,
          defaultResource: () => "urn:items",
          getResourceServerInfo: (_context, resource) =>
            resource.startsWith("urn:opaque:") ? opaque(Number(resource.slice(11))) : server,
          useGrantedResource: () => true,
        },
      },
      extraTokenClaims: () => ({ roles: ["reader"] }),
    });
    provider.proxy = true;
    return provider.callback();
  };
  let callback = make();
  const post = async (path, client, body, headers) => {
    const basic = Buffer.from(`${client}:ada-secret`).toString("base64");
    const answer = await fetch(`http://127.0.0.1:${inner.address().port}${path}`, {
      method: "POST",
      headers: {
        authorization: `Basic ${basic}`,
        "content-type": "application/x-www-form-urlencoded",
        "x-forwarded-proto": new URL(issuer).protocol.replace(":", ""),
        "x-forwarded-host": new URL(issuer).host,
        ...headers,
      },
      body: new URLSearchParams(body),
    });
    if (!answer.ok) throw new Error(await answer.text());
    return answer.text();
  };
  const grant = async (client, more, headers) => {
    const body = { grant_type: "client_credentials", scope: "items:read", ...more };
    return JSON.parse(await post("/token", client, body, headers)).access_token;
  };
  const token = () => grant("ada", {}, {});
  const opaque = (ttl, certificate) =>
    certificate
      ? grant("bound", { resource: `urn:opaque:${ttl}` }, { "x-test-certificate": encodeURIComponent(certificate) })
      : grant("ada", { resource: `urn:opaque:${ttl}` }, {});
  const revoke = (it) => post("/token/revocation", "ada", { token: it }, {});
  const add = (client) => {
    clients.push({ ...plain, ...client });
    callback = make();
  };
  // Tokens are asked for by a way of their own, so that tests may stop the other.
  const inner = createServer((request, answer) => callback(request, answer));
  await new Promise((done) => inner.listen(0, "127.0.0.1", done));
  const handle = (request, answer) => callback(request, answer);
  return { handle, token, opaque, revoke, add, renew: () => (callback = make()) };
}

async function mockServer() {
  const { OAuth2Issuer, OAuth2Service } = await load("oauth2-mock-server/dist/index.mjs");
  let own;
  let service;
  const renew = async () => {
    own = new OAuth2Issuer();
    own.url = issuer;
    for (const jwk of keys) await own.keys.add({ ...jwk });
    service = new OAuth2Service(own);
  };
  await renew();
  const token = async (sub) =>
    own.buildToken({
      kid: keys[0].kid,
      scopesOrTransform: (_header, payload) =>
        Object.assign(payload, { sub, aud: audience, roles: ["reader"], exp: Date.now() / 1000 + 3600.5 }),
    });
  return { handle: (request, answer) => service.requestHandler(request, answer), token, renew };
}

addKey("k1");
const provider = await (kind === "oidc-provider" ? oidcProvider() : mockServer());
const handle = (request, answer) => {
  if (request.url.startsWith("/jwks")) fetches += 1;
  if (request.url.startsWith("/token/introspection")) questions += 1;
  return provider.handle(request, answer);
};
const secure = {
  cert: certificate && readFileSync(certificate),
  key: key && readFileSync(key),
  requestCert: true,
  // Without an authority anybody may ask.
  ca: clients && readFileSync(clients),
  rejectUnauthorized: Boolean(clients),
};
const server = certificate ? createSecureServer(secure, handle) : createServer(handle);
await new Promise((done) => server.listen(Number(port), "127.0.0.1", done));
console.log(JSON.stringify({ ready: true }));

for await (const line of createInterface({ input: process.stdin })) {
  const { do: what, sub, kid, forget, ttl, certificate: bound, token, client } = JSON.parse(line);
  let answer = {};
  if (what === "token") answer = { token: await provider.token(sub) };
  if (what === "count") answer = { fetches, questions };
  if (what === "opaque") answer = { token: await provider.opaque(ttl, bound) };
  if (what === "revoke") await provider.revoke(token);
  if (what === "client") provider.add(client);
  if (what === "rotate") {
    if (forget) keys = [];
    addKey(kid);
    await provider.renew();
  }
  console.log(JSON.stringify(answer));
}
process.exit(0);
