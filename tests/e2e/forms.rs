//! Forms and uploads of a route without a document, over the wire.

use support::{
    daemon::Daemon,
    http1::{Client, Request},
    report,
    settings::{Settings, route},
    upstream::Upstream,
    world::{GOOD_V4, World},
};

const RULES: &str = "rewrite = \"/echo\"\nmax_body = \"64KiB\"\n[route.form]\n\
    title = { required = true, max_length = 8 }\nrating = { type = \"integer\", maximum = 5 }\n\
    photo = { type = \"file\", content_types = [\"image/png\"], max_size = \"1KiB\" }\n";

const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data; boundary=xyz";
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";

/// A title, and a photo with this disposition, type and content.
fn upload(disposition: &str, media_type: &str, content: &[u8]) -> Vec<u8> {
    let head = format!(
        "--xyz\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nnail\r\n\
         --xyz\r\nContent-Disposition: form-data; name=\"photo\"; {disposition}\r\nContent-Type: {media_type}\r\n\r\n"
    );
    [head.as_bytes(), content, b"\r\n--xyz--\r\n"].concat()
}

#[test]
fn b05_forms_must_be_what_the_route_says() {
    if !report::may_run("forms") {
        return;
    }
    let world = World::new();
    let upstream = Upstream::start(&world.gate, "127.0.0.1:9000");
    let routes = route("/photos", "[\"POST\"]", "[\"public\"]", RULES);
    let settings = Settings { interfaces: Vec::new(), routes, rules: String::new(), ..Settings::default() };
    let daemon = Daemon::start(&world, &settings);
    let client = Client::new(&world, GOOD_V4);
    let large = [PNG, &[0; 2_000]].concat();
    for (kind, body, status, detail) in [
        (FORM, b"title=nail&rating=5".to_vec(), 200, ""),
        (FORM, b"title=nail&rating=6".to_vec(), 422, "body: maximum at /rating"),
        (FORM, b"rating=5".to_vec(), 422, "body: required"),
        (FORM, b"title=nail&title=bomb".to_vec(), 422, "body: once at /title"),
        (FORM, b"title=nail&admin=1".to_vec(), 422, "body: additionalProperties at /admin"),
        (FORM, b"title=%ff".to_vec(), 422, "body: encoding at /title"),
        ("application/json", b"{}".to_vec(), 415, "Content-Type is not declared"),
        (MULTIPART, upload("filename=\"a.png\"", "image/png", PNG), 200, ""),
        (MULTIPART, upload("filename=\"a.png\"", "image/png", &large), 422, "body: maxSize at /photo"),
        (MULTIPART, upload("filename=\"a.png\"", "image/png", b"<script>"), 422, "body: contentType at /photo"),
        (MULTIPART, upload("filename=\"a.png\"", "text/html", PNG), 422, "body: contentType at /photo"),
        (MULTIPART, upload("filename=\"../a.png\"", "image/png", PNG), 400, "body: filename"),
        (MULTIPART, upload("filename*=UTF-8''a.png", "image/png", PNG), 400, "body: part"),
        (MULTIPART, upload("filename=\"a.png\"", "image/png", b"\n--xyz--\r\n"), 400, "body: multipart"),
        (MULTIPART, vec![b'a'; 70_000], 413, ""),
    ] {
        upstream.forget();
        let response = client.send(&Request::new("POST", "/photos").body(kind, &body)).unwrap();
        let line = daemon.logged(&response.id());
        assert_eq!(response.status, status, "{kind} {}: {line}", String::from_utf8_lossy(&body));
        assert!(line["detail"].as_str().unwrap_or_default().starts_with(detail), "{detail}: {line}");
        assert_eq!(upstream.received().len(), usize::from(status == 200), "{line}");
        assert!(status != 200 || response.body == body, "another body reached the upstream");
    }
}
