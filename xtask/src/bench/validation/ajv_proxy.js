// The peer that validates by JSON Schema: a proxy of Node.js with ajv. Every body is read whole, so that what validation
// costs is not mixed with what reading costs. What is sent to /schema/ is held against items.schema.json. Two workers, as
// the other programs have.
//
// Arguments: its port, the upstream's port, and where ajv is.
"use strict";

const cluster = require("cluster");
const fs = require("fs");
const http = require("http");

const [port, upstream, ajv] = process.argv.slice(2);

if (cluster.isPrimary) {
  cluster.fork();
  cluster.fork();
} else {
  const Ajv = require(ajv);
  const validate = new Ajv().compile(JSON.parse(fs.readFileSync("items.schema.json", "utf8")));
  const agent = new http.Agent({ keepAlive: true, maxSockets: 256 });

  const forward = (request, response, body) => {
    const { method, url, headers } = request;
    const sent = http.request({ agent, host: "127.0.0.1", port: upstream, method, path: url, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    sent.on("error", () => response.destroy());
    sent.end(body);
  };

  const isValid = (body) => {
    try {
      return validate(JSON.parse(body));
    } catch {
      return false;
    }
  };

  const server = http.createServer((request, response) => {
    const pieces = [];
    request.on("data", (piece) => pieces.push(piece));
    request.on("end", () => {
      const body = Buffer.concat(pieces);
      if (!request.url.startsWith("/schema/") || isValid(body)) {
        forward(request, response, body);
      } else {
        response.writeHead(422).end();
      }
    });
  });
  server.keepAliveTimeout = 600_000;
  server.listen(port, "127.0.0.1");
}
