"""Receivers of alerts for tests: HTTP that behaves as its path says, and mail with STARTTLS and a password (aiosmtpd).

Everything that comes is written as a line of JSON. Paths: /ok takes everything; /away answers 503 while there is a file
`away` beside the output; /busy answers the first request 429 with `Retry-After: 2`, and what
begins with /limited the second; /hang does not answer; /redirect
leads to /stolen; /refuse answers 400, and what begins with /keyed does so without the routing key `right`; /wrong
answers 401.

Arguments: the port of HTTP, the file to write to, and for mail the port, the certificate, its key, user and password.
"""

import base64
import hashlib
import hmac
import http.server
import json
import os
import ssl
import sys
import threading
import time

PORT, OUT = int(sys.argv[1]), sys.argv[2]
SECRET = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
LOCK = threading.Lock()


def tell(**line):
    with LOCK, open(OUT, "a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


def is_signed(headers, body):
    """As Standard Webhooks has it."""
    text = b".".join([headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body])
    expect = base64.b64encode(hmac.new(SECRET, text, hashlib.sha256).digest()).decode()
    return headers["webhook-signature"] == "v1," + expect and abs(int(headers["webhook-timestamp"]) - time.time()) < 60


class Receiver(http.server.BaseHTTPRequestHandler):
    busy = 1
    limited = 0

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        signed = is_signed(self.headers, body) if self.headers["webhook-signature"] else None
        authorization, path = self.headers["authorization"], self.path
        tell(what="http", path=path, body=json.loads(body), signed=signed, authorization=authorization, time=time.time())
        if path.startswith("/away") and os.path.exists(os.path.join(os.path.dirname(OUT), "away")):
            return self.answer(503)
        if path == "/busy" and Receiver.busy > 0:
            Receiver.busy -= 1
            return self.answer(429, ("Retry-After", "2"))
        if path.startswith("/limited"):
            Receiver.limited += 1
            if Receiver.limited == 2:
                return self.answer(429, ("Retry-After", "2"))
        if path.startswith("/keyed") and json.loads(body)["routing_key"] != "right":
            return self.answer(400)
        if path == "/hang":
            return time.sleep(3600)
        if path == "/redirect":
            return self.answer(307, ("Location", f"http://127.0.0.1:{PORT}/stolen"))
        self.answer({"/refuse": 400, "/wrong": 401}.get(path, 202))

    def answer(self, status, *headers):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_arguments):
        pass


def serve_mail(port, certificate, key, user, password):
    from aiosmtpd.controller import Controller
    from aiosmtpd.smtp import SMTP, AuthResult

    class Handler:
        async def handle_DATA(self, server, session, envelope):
            text = envelope.content.decode()
            tell(what="mail", sender=envelope.mail_from, to=envelope.rcpt_tos, text=text, tls=session.ssl is not None)
            return "250 OK"

    def authenticate(server, session, envelope, mechanism, data):
        is_right = data.login == user.encode() and data.password == password.encode()
        return AuthResult(success=is_right, handled=is_right)

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Mail(Controller):
        def factory(self):
            return SMTP(
                Handler(), tls_context=context, require_starttls=True, auth_required=True, authenticator=authenticate
            )

    Mail(Handler(), hostname="127.0.0.1", port=int(port)).start()


if len(sys.argv) > 3:
    serve_mail(*sys.argv[3:])
server = http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Receiver)
server.daemon_threads = True
tell(what="ready")
server.serve_forever()
