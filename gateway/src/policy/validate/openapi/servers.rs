//! Where an API is served: the paths of its servers.

use super::document::{At, DocumentFault, Documents};

/// The most paths that the variables of one server may stand for.
const MOST_PATHS: usize = 64;

/// The name of a variable that may be any segment, as a parameter of the path that nothing else has.
pub(super) const ANY: &str = "*";

/// What helps where servers do not say where they are.
const HINT: &str = ": say where the API is served, by `base_path` in its [api.NAME] or --base-path";

/// The paths of the servers of a document, a path or an operation, without a slash at their end.
pub(super) fn bases(documents: &Documents, holder: &At<'_>) -> Result<Vec<String>, DocumentFault> {
    let mut bases = Vec::new();
    for server in holder.get("servers").into_iter().flat_map(|servers| servers.elements()) {
        let url = server.text("url").ok_or_else(|| documents.fault(&server, "a server has no \"url\""))?;
        for path in with_variables(documents, path_of(url), &server)? {
            if path.replace(&any(), "").contains(['{', '}']) {
                return Err(documents.fault(&server, format!("{url:?} has a variable that is not declared{HINT}")));
            }
            let path = path.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/').to_owned();
            if !path.is_empty() && !path.starts_with('/') {
                let message = format!("{url:?} is relative to the document{HINT}");
                return Err(documents.fault(&server, message));
            }
            if !bases.contains(&path) {
                bases.push(path);
            }
        }
    }
    if bases.is_empty() {
        bases.push(String::new());
    }
    Ok(bases)
}

/// The path of a URL, from its slash.
fn path_of(url: &str) -> &str {
    match url.split_once("//").filter(|(scheme, _)| scheme.is_empty() || scheme.ends_with([':', '}'])) {
        Some((_, rest)) => rest.find('/').and_then(|slash| rest.get(slash..)).unwrap_or_default(),
        // A variable may stand for the whole beginning.
        None if url.starts_with('{') => url.find('/').and_then(|slash| url.get(slash..)).unwrap_or_default(),
        None => url,
    }
}

/// What stands in a path for a variable that may be any segment.
fn any() -> String {
    format!("{{{ANY}}}")
}

/// The paths that the values of variables make: all of an `enum`, or any one segment. A default that is not one segment is
/// taken beside that.
///
/// # Errors
/// There are too many.
fn with_variables(documents: &Documents, path: &str, server: &At<'_>) -> Result<Vec<String>, DocumentFault> {
    let mut paths = vec![path.to_owned()];
    for (name, variable) in server.get("variables").into_iter().flat_map(|variables| variables.members()) {
        let placeholder = format!("{{{name}}}");
        if !path.contains(&placeholder) {
            continue;
        }
        let any = any();
        let mut words: Vec<&str> = variable
            .get("enum")
            .into_iter()
            .flat_map(|words| words.elements())
            .filter_map(|it| it.value.as_str())
            .collect();
        if words.is_empty() {
            words.push(&any);
            words.extend(variable.text("default").filter(|default| default.is_empty() || default.contains('/')));
        }
        paths = paths.iter().flat_map(|path| words.iter().map(|word| path.replace(&placeholder, word))).collect();
        if paths.len() > MOST_PATHS {
            return Err(documents.fault(server, format!("its variables stand for more than {MOST_PATHS} paths{HINT}")));
        }
    }
    Ok(paths)
}
