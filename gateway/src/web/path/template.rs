//! A route's path as the configuration has it, in the one form that the router compares.

use super::canonical_path;

/// A template with its literals canonical and its parameters named by position: `/items/{id}` is `/items/{p1}`, so
/// that `/items/{id}` and `/items/{name}` are the same template.
pub(crate) fn template(path: &str) -> Result<String, String> {
    if path == "*" {
        return Ok(path.to_owned());
    }
    let Some(rest) = path.strip_prefix('/') else { return Err("must begin with /".into()) };
    let mut out = String::with_capacity(path.len());
    let mut segments = rest.split('/').enumerate().peekable();
    while let Some((position, segment)) = segments.next() {
        out.push('/');
        let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            let literal = format!("/{segment}");
            let canonical = canonical_path(&literal)
                .map_err(|refusal| format!("segment `{segment}` would be refused in a request: {}", refusal.detail))?;
            out.push_str(canonical.as_deref().unwrap_or(&literal).trim_start_matches('/'));
            if segment.is_empty() && segments.peek().is_some() {
                return Err("has an empty segment".into());
            }
            continue;
        };
        let (star, name) = name.strip_prefix('*').map_or(("", name), |name| ("*", name));
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(format!("parameter `{segment}` must be `{{name}}` or `{{*name}}`"));
        }
        if !star.is_empty() && segments.peek().is_some() {
            return Err(format!("`{segment}` must be the last segment"));
        }
        out.push_str(&format!("{{{star}p{position}}}"));
    }
    Ok(out)
}
