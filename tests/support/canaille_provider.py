"""An identity provider for tests: Canaille, on 127.0.0.1, told what to do by a line of JSON on standard input, each
answered by one on standard output.

{"do": "opaque"}                  a token of the client `ada` that says nothing by itself, for the client `gateway`
{"do": "revoke", "token": "..."}  such a token is good no more
{"do": "count"}                   how often it was asked about tokens
"""

import base64
import datetime
import json
import logging
import sys
import threading

from canaille import create_app
from canaille.app import models
from canaille.backends import Backend
from canaille.oidc.jose import make_default_rsa_jwk
from werkzeug.serving import make_server
from werkzeug.test import Client

issuer, port, secret = sys.argv[1], int(sys.argv[2]), sys.argv[3]
scheme, host = issuer.split("://")

app = create_app(
    {
        "SECRET_KEY": "tests",
        "SERVER_NAME": host,
        "PREFERRED_URL_SCHEME": scheme,
        "TESTING": False,
        "CANAILLE": {"DATABASE": "memory", "LOGGING": {"version": 1, "disable_existing_loggers": True}},
        "CANAILLE_OIDC": {"ACTIVE_JWKS": [make_default_rsa_jwk().as_dict(private=True)]},
    }
)
questions = 0


def add(name):
    with app.app_context():
        client = models.Client(
            client_id=name,
            client_name=name,
            client_secret=secret,
            client_id_issued_at=datetime.datetime.now(datetime.timezone.utc),
            grant_types=["client_credentials"],
            response_types=[],
            redirect_uris=[],
            contacts=[],
            scope=["items:read"],
            token_endpoint_auth_method="client_secret_basic",
        )
        Backend.instance.save(client)
        return client


with app.app_context():
    gateway = add("gateway")
    ada = add("ada")
    ada.audience = [gateway]
    Backend.instance.save(ada)


def counting(environ, start):
    global questions
    if environ["PATH_INFO"].startswith("/oauth/introspect"):
        questions += 1
    return app(environ, start)


def post(path, body):
    basic = base64.b64encode(f"ada:{secret}".encode()).decode()
    answer = Client(app).post(path, base_url=issuer, data=body, headers={"Authorization": f"Basic {basic}"})
    return answer.get_json(silent=True) or answer.get_data(as_text=True)


logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = make_server("127.0.0.1", port, counting, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    asked, answer = json.loads(line), {}
    if asked["do"] == "opaque":
        token = post("/oauth/token", {"grant_type": "client_credentials", "scope": "items:read"})
        answer = {"token": token["access_token"]} if "access_token" in token else {"error": str(token)}
    elif asked["do"] == "revoke":
        answer = {"told": str(post("/oauth/revoke", {"token": asked["token"]}))}
    elif asked["do"] == "count":
        answer = {"questions": questions, "fetches": 0}
    print(json.dumps(answer), flush=True)
