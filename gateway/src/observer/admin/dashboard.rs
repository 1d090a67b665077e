//! The files of the dashboard. They are the same in every gateway, and hold nothing of it: whoever may see more shows a
//! token.
//!
//! *Invariant:* the browser runs and loads nothing but these files, whatever text of clients the page shows.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};

use super::responses::{ResponseBody, response};

/// Where a browser is told what happens.
pub(super) const EVENTS: &str = "/dashboard/events";

/// What the browser lets the page do: its own script and style, and requests to this listener. No text becomes markup, not
/// by a fault of the script either: `require-trusted-types-for`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const HEADERS: [(HeaderName, &str); 6] = [
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
];

/// One of the files.
pub(super) struct File {
    path: &'static str,
    content_type: &'static str,
    content: &'static str,
}

/// All of them. The script is one file for the browser, as each costs a connection.
const FILES: &[File] = &[
    File { path: "/dashboard", content_type: "text/html; charset=utf-8", content: include_str!("dashboard/page.html") },
    File {
        path: "/dashboard/style.css",
        content_type: "text/css; charset=utf-8",
        content: include_str!("dashboard/style.css"),
    },
    File { path: "/dashboard/icon.svg", content_type: "image/svg+xml", content: include_str!("dashboard/icon.svg") },
    File {
        path: "/dashboard/script.js",
        content_type: "text/javascript; charset=utf-8",
        content: concat!(
            include_str!("dashboard/elements.js"),
            include_str!("dashboard/gateway.js"),
            include_str!("dashboard/charts.js"),
            include_str!("dashboard/actions.js"),
            include_str!("dashboard/overview.js"),
            include_str!("dashboard/sources.js"),
            include_str!("dashboard/bans.js"),
            include_str!("dashboard/told.js"),
            include_str!("dashboard/state.js"),
            include_str!("dashboard/start.js"),
        ),
    },
];

/// The file of this path.
pub(super) fn find(path: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.path == path)
}

impl File {
    pub(super) fn response(&self) -> Response<ResponseBody> {
        let content = Bytes::from_static(self.content.as_bytes());
        let mut response = response(StatusCode::OK, self.content_type, content);
        for (name, value) in HEADERS {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        for file in FILES {
            for bad in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "javascript:",
                " style=",
                " onclick=",
                "setAttribute(\"style\"",
                "//cdn",
                "<script>",
                "srcdoc",
            ] {
                assert!(!file.content.contains(bad), "{} has {bad}", file.path);
            }
            // What is loaded is loaded from here; SVG has its name.
            let links =
                file.content.split("http").skip(1).filter(|rest| rest.starts_with("://") || rest.starts_with("s://"));
            for link in links {
                assert!(
                    link.starts_with("://www.w3.org/2000/svg"),
                    "{} has http{}",
                    file.path,
                    link.split('"').next().unwrap()
                );
            }
        }
    }
}
