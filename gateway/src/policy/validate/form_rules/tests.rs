//! What a route asks of forms, and what they break.

use super::*;
use crate::settings::validate::FileRule;

fn rules(change: impl FnOnce(&mut FormSettings)) -> FormRules {
    let field = |name: &str, required, schema| FieldRule { name: name.to_owned(), required, schema, file: None };
    let image = FileRule {
        content_types: vec!["image/png".to_owned(), "image/gif".to_owned()],
        max_size: Some(64),
        file_name: Some("^[a-z0-9]+[.](png|gif)$".to_owned()),
    };
    let files = json!({ "type": "array", "items": { "type": "string" }, "maxItems": 2 });
    let mut form = FormSettings {
        fields: vec![
            field("title", true, json!({ "type": "string", "maxLength": 8, "pattern": "^[a-z ]+$" })),
            field("count", false, json!({ "type": "integer", "minimum": 1, "maximum": 9 })),
            field("tag", false, json!({ "type": "array", "items": { "enum": ["a", "b"] }, "maxItems": 2 })),
            FieldRule { name: "image".to_owned(), required: false, schema: files, file: Some(image) },
        ],
        refuses_unknown: true,
        max_fields: 5,
    };
    change(&mut form);
    FormRules::new(&form, Formats::Annotate).unwrap()
}

const FORM: &str = "application/x-www-form-urlencoded";
const MULTIPART: &str = "multipart/form-data; boundary=xyz";

#[track_caller]
fn check(rules: &FormRules, content_type: &str, body: &[u8], expect: Result<(), (Reject, &str)>) {
    let header = HeaderValue::from_str(content_type).ok().filter(|value| !value.is_empty());
    let judged = rules.judge(header.as_ref(), body);
    let shown = String::from_utf8_lossy(body);
    if let Some(at_once) = rules.judge_at_once(header.as_ref(), body) {
        assert_eq!(at_once.is_ok(), judged.is_ok(), "{content_type} {shown}");
    }
    let judged = judged.map_err(|refusal| (refusal.reject, refusal.detail.to_string()));
    assert_eq!(judged, expect.map_err(|(reject, detail)| (reject, detail.to_owned())), "{content_type} {shown}");
}

#[test]
fn b05_fields_of_forms_are_what_the_route_says() {
    let rules = rules(|_| ());
    let bad = |detail| Err((Reject::InvalidBody, detail));
    for (body, expect) in [
        ("title=a+nail", Ok(())),
        ("title=nail&count=9&tag=a&tag=b", Ok(())),
        ("title=n%61il", Ok(())),
        ("", bad("body: required")),
        ("count=1", bad("body: required")),
        ("title=NAIL", bad("body: pattern at /title")),
        ("title=nailnailnail", bad("body: maxLength at /title")),
        ("title=nail&count=0", bad("body: minimum at /count")),
        ("title=nail&count=x", bad("body: type at /count")),
        ("title=nail&tag=c", bad("body: enum at /tag/0")),
        ("title=nail&tag=a&tag=a&tag=a", bad("body: maxItems at /tag")),
        ("title=nail&title=bomb", bad("body: once at /title")),
        ("title=nail&other=1", bad("body: additionalProperties at /other")),
        ("title=nail&image=x", bad("body: additionalProperties at /image")),
        ("title=nail&tag=a&tag=a&tag=a&tag=a&tag=a", bad("body: maxFields")),
    ] {
        check(&rules, FORM, body.as_bytes(), expect);
    }
    let unsupported = |detail| Err((Reject::UnsupportedMediaType, detail));
    check(&rules, "application/json", b"{}", unsupported("Content-Type is not declared"));
    check(&rules, "", b"title=nail", unsupported("no Content-Type"));
    check(
        &rules,
        "application/x-www-form-urlencoded; charset=utf-16",
        b"title=nail",
        unsupported("charset is not UTF-8"),
    );
}

/// A part, up to its content.
fn head(disposition: &str, media_type: &str) -> String {
    let kind = if media_type.is_empty() { String::new() } else { format!("Content-Type: {media_type}\r\n") };
    format!("--xyz\r\nContent-Disposition: form-data; {disposition}\r\n{kind}\r\n")
}

#[test]
fn b05_parts_of_multipart_are_what_the_route_says() {
    let rules = rules(|_| ());
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    let title = [head("name=\"title\"", "").as_bytes(), b"nail\r\n"].concat();
    let with = |disposition: &str, media_type: &str, content: &[u8]| {
        let part = [head(disposition, media_type).as_bytes(), content, b"\r\n"].concat();
        [&*title, &part, b"--xyz--\r\n"].concat()
    };
    let file = |disposition: &str| with(&format!("name=\"image\"; {disposition}"), "image/png", png);
    let broken = |detail| Err((Reject::InvalidBody, detail));
    let bad = |detail| Err((Reject::BadRequest, detail));
    let name = "body: filename: the name of a file must be one name of at most 255 bytes";
    let disposition = "body: part: Content-Disposition must be form-data with one quoted name";
    let whole = "body: multipart: must be parts between its boundary, and nothing else";
    let twice =
        [file("filename=\"a.png\"").strip_suffix(b"--xyz--\r\n").unwrap(), &*file("filename=\"b.png\"")].concat();
    let long = format!("filename=\"{}.png\"", "a".repeat(260));
    let large = [&png[..], &[0; 64]].concat();
    for (body, expect) in [
        ([&*title, b"--xyz--\r\n"].concat(), Ok(())),
        (file("filename=\"a.png\""), Ok(())),
        (with("name=\"count\"", "text/plain", b"7"), Ok(())),
        (with("name=\"count\"", "", b"70"), broken("body: maximum at /count")),
        (with("name=\"other\"", "", b"7"), broken("body: additionalProperties at /other")),
        (with("name=\"title\"", "", b"bomb"), broken("body: once at /title")),
        (with("name=\"count\"; filename=\"a.txt\"", "text/plain", b"7"), broken("body: type at /count")),
        // A file input in which nothing was chosen, as browsers send it.
        (with("name=\"image\"; filename=\"\"", "application/octet-stream", b""), Ok(())),
        (with("name=\"image\"; filename=\"\"", "", b""), Ok(())),
        (
            with("name=\"image\"; filename=\"\"", "application/octet-stream", b"x"),
            broken("body: contentType at /image"),
        ),
        (with("name=\"image\"; filename=\"\"", "image/png", b""), broken("body: contentType at /image")),
        (
            with("name=\"image\"; filename=\"a.png\"", "application/octet-stream", b""),
            broken("body: contentType at /image"),
        ),
        (with("name=\"image\"", "application/octet-stream", b""), broken("body: contentType at /image")),
        (with("name=\"count\"; filename=\"\"", "application/octet-stream", b""), broken("body: type at /count")),
        (with("name=\"other\"; filename=\"\"", "application/octet-stream", b""), broken("body: type at /other")),
        // What the content is, beside what it says.
        (with("name=\"image\"; filename=\"a.png\"", "image/gif", png), broken("body: contentType at /image")),
        (with("name=\"image\"; filename=\"a.png\"", "image/png", b"<script>"), broken("body: contentType at /image")),
        (with("name=\"image\"; filename=\"a.png\"", "image/jpeg", png), broken("body: contentType at /image")),
        (with("name=\"image\"; filename=\"a.png\"", "", png), broken("body: contentType at /image")),
        (with("name=\"image\"; filename=\"a.png\"", "image/png", &large), broken("body: maxSize at /image")),
        // Names of files.
        (file("filename=\"a.exe\""), broken("body: filename at /image")),
        (file("filename=\"a.png.exe\""), broken("body: filename at /image")),
        (with("name=\"image\"", "image/png", png), broken("body: filename at /image")),
        (file("filename=\"../a.png\""), bad(name)),
        (file("filename=\"c:\\\\a.png\""), bad(name)),
        (
            file("filename=\"a\0.png\""),
            bad("body: part: must have a head with one Content-Disposition: form-data and a name"),
        ),
        (file("filename=\"a\\\".png\""), bad(name)),
        (with("name=\"count\\\"\"", "", b"7"), bad(disposition)),
        (
            with("name=\"count\"", "text/plain\r\nX\nContent-Disposition: form-data", b"7"),
            bad("body: part: must have a head with one Content-Disposition: form-data and a name"),
        ),
        (file(&long), bad(name)),
        (file("filename*=UTF-8''a.png"), bad(disposition)),
        (file("filename=\"a.png\"; filename*=UTF-8''b.png"), bad(disposition)),
        (file("filename=\"a.png\"; filename=\"b.png\""), bad(disposition)),
        (file("filename=a.png"), bad(disposition)),
        // Boundaries.
        (twice, broken("body: once at /title")),
        (with("name=\"count\"", "", b"7\n--xyz--"), bad(whole)),
        ([b"preamble\r\n", &*title, b"--xyz--\r\n"].concat(), bad(whole)),
        ([&*title, b"--xyz--\r\nepilogue"].concat(), bad(whole)),
        (title.clone(), bad(whole)),
    ] {
        check(&rules, MULTIPART, &body, expect);
    }
    let nothing = with("name=\"image\"; filename=\"\"", "application/octet-stream", b"");
    let must = self::rules(|form| form.fields.iter_mut().for_each(|field| field.required |= field.file.is_some()));
    check(&must, MULTIPART, &nothing, broken("body: required"));
    for (content_type, detail) in [
        ("multipart/form-data", "body: boundary: Content-Type must have a boundary of 1 to 70 characters"),
        (
            "multipart/form-data; boundary=\"a b \"",
            "body: boundary: Content-Type must have a boundary of 1 to 70 characters",
        ),
    ] {
        check(&rules, content_type, &title, bad(detail));
    }
    let repeated = "multipart/form-data; boundary=xyz; boundary=abc";
    check(&rules, repeated, &title, Err((Reject::UnsupportedMediaType, "Content-Type has a bad parameter")));
}

#[test]
fn other_fields_pass_where_the_route_says_so() {
    let open = rules(|form| form.refuses_unknown = false);
    check(&open, FORM, b"title=nail&other=1", Ok(()));
    let must = rules(|form| form.fields.iter_mut().for_each(|field| field.required = true));
    let unsupported = Err((Reject::UnsupportedMediaType, "Content-Type is not declared"));
    check(&must, FORM, b"title=nail", unsupported);
    let headers = |content_type: &'static str| {
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))])
    };
    for (content_type, length, expect) in [
        (FORM, Some(7), Some(Reject::UnsupportedMediaType)),
        (MULTIPART, Some(7), None),
        (MULTIPART, None, None),
        (MULTIPART, Some(0), Some(Reject::InvalidBody)),
    ] {
        let judged = must.judge_head(&headers(content_type), length);
        assert_eq!(judged.err().map(|refusal| refusal.reject), expect, "{content_type} {length:?}");
    }
}

#[test]
fn what_cannot_be_compiled_is_told_by_its_key() {
    let form = |change: &dyn Fn(&mut FieldRule)| {
        let (name, schema) = ("a".to_owned(), json!({ "type": "string" }));
        let mut field = FieldRule { name, required: false, schema, file: Some(FileRule::default()) };
        change(&mut field);
        let form = FormSettings { fields: vec![field], refuses_unknown: true, max_fields: 9 };
        let wrong = FormRules::new(&form, Formats::Annotate).err().unwrap_or_default();
        wrong.into_iter().map(|one| one.key).collect::<Vec<_>>()
    };
    let file = |change: fn(&mut FileRule)| form(&move |field| field.file.iter_mut().for_each(change));
    assert!(form(&|_| ()).is_empty());
    assert_eq!(form(&|field| field.schema = json!({ "pattern": "(" })), ["form.a"]);
    assert_eq!(file(|file| file.file_name = Some("(".to_owned())), ["form.a.file_name"]);
    assert_eq!(file(|file| file.file_name = Some("(?=a)b".to_owned())), ["form.a.file_name"]);
    let all = |field: &mut FieldRule| {
        field.schema = json!({ "pattern": "(" });
        let (file_name, content_types) = (Some("(".to_owned()), vec!["image".to_owned()]);
        field.file = Some(FileRule { file_name, content_types, ..FileRule::default() });
    };
    assert_eq!(form(&all), ["form.a", "form.a.content_types", "form.a.file_name"]);
}
