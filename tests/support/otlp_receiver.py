"""A collector for tests: takes traces, metrics and log records by OTLP over HTTP and writes each as a line of JSON.

It decodes them by opentelemetry-proto. The first request is answered 503, as by a collector that is starting.

Arguments: the port, the file to write to, and for HTTPS the certificate, its key, and the `Authorization` that it asks for.
"""

import http.server
import json
import ssl
import sys

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PORT, OUT = int(sys.argv[1]), sys.argv[2]
CERTIFICATE, KEY, AUTHORIZATION = sys.argv[3:6] if len(sys.argv) > 3 else (None, None, None)


class Receiver(http.server.BaseHTTPRequestHandler):
    failures = 1

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if Receiver.failures > 0:
            Receiver.failures -= 1
            return self.answer(503)
        if AUTHORIZATION is not None and self.headers["authorization"] != AUTHORIZATION:
            return self.answer(401)
        assert self.headers["content-type"] == "application/x-protobuf"
        lines = {"/v1/traces": traces, "/v1/metrics": metrics, "/v1/logs": logs}[self.path](body)
        # Whoever reads the root of a trace finds the rest of it.
        lines = sorted(lines, key=lambda line: line["what"] == "span" and line["kind"] == 2)
        with open(OUT, "a", encoding="utf-8") as out:
            out.write("".join(json.dumps(line) + "\n" for line in lines))
        self.answer(200)

    def answer(self, status):
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_arguments):
        pass


def value(any):
    return getattr(any, any.WhichOneof("value"))


def attributes(pairs):
    return {pair.key: value(pair.value) for pair in pairs}


def service(resource):
    return attributes(resource.attributes)["service.name"]


def traces(body):
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield {
                    "what": "span",
                    "service": service(resource.resource),
                    "trace": span.trace_id.hex(),
                    "span": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "name": span.name,
                    "kind": span.kind,
                    "start": span.start_time_unix_nano,
                    "end": span.end_time_unix_nano,
                    "attributes": attributes(span.attributes),
                    "error": span.status.code == 2,
                }


def metrics(body):
    request = ExportMetricsServiceRequest()
    request.ParseFromString(body)
    for resource in request.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                kind = metric.WhichOneof("data")
                data = getattr(metric, kind)
                is_sum = kind != "gauge"
                assert not is_sum or data.aggregation_temporality == 2
                assert kind != "sum" or data.is_monotonic
                for point in data.data_points:
                    line = {
                        "what": "point",
                        "service": service(resource.resource),
                        "name": metric.name,
                        "unit": metric.unit,
                        "kind": kind,
                        "attributes": attributes(point.attributes),
                        "time": point.time_unix_nano,
                        "start": point.start_time_unix_nano,
                    }
                    if kind == "histogram":
                        assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
                        assert sum(point.bucket_counts) == point.count
                        line["count"] = point.count
                    else:
                        line["value"] = getattr(point, point.WhichOneof("value"))
                    yield line


def logs(body):
    request = ExportLogsServiceRequest()
    request.ParseFromString(body)
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                yield {
                    "what": "record",
                    "service": service(resource.resource),
                    "event": record.event_name,
                    "time": record.time_unix_nano,
                    "severity": record.severity_text,
                    "body": value(record.body),
                    "attributes": attributes(record.attributes),
                }


server = http.server.HTTPServer(("0.0.0.0", PORT), Receiver)
if CERTIFICATE is not None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE, KEY)
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
