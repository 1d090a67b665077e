"""A collector for tests: takes traces by OTLP over HTTP and writes each span as a line of JSON.

It decodes them by opentelemetry-proto. The first request is answered 503, as by a collector that is starting.
"""

import http.server
import json
import sys

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Receiver(http.server.BaseHTTPRequestHandler):
    failures = 1

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if Receiver.failures > 0:
            Receiver.failures -= 1
            self.send_response(503)
            self.end_headers()
            return
        assert self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        with open(sys.argv[2], "a", encoding="utf-8") as out:
            for resource in request.resource_spans:
                service = {pair.key: pair.value.string_value for pair in resource.resource.attributes}["service.name"]
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        out.write(json.dumps(describe(service, span)) + "\n")
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_arguments):
        pass


def describe(service, span):
    value = lambda any: getattr(any, any.WhichOneof("value"))
    return {
        "service": service,
        "trace": span.trace_id.hex(),
        "span": span.span_id.hex(),
        "parent": span.parent_span_id.hex(),
        "name": span.name,
        "kind": span.kind,
        "start": span.start_time_unix_nano,
        "end": span.end_time_unix_nano,
        "attributes": {pair.key: value(pair.value) for pair in span.attributes},
        "error": span.status.code == 2,
    }


http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
