//! JSON Schemas as routes have them: a configuration with one route for each, which names the files that it refers to.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde_json::{Value, json};

/// The files of a folder by the names that schemas give themselves.
pub(super) struct Names(BTreeMap<String, PathBuf>);

impl Names {
    pub(super) fn of(files: &[PathBuf]) -> Self {
        let name = |path: &PathBuf| {
            let schema = read(path)?;
            let id = schema.get("$id").or_else(|| schema.get("id")).and_then(Value::as_str)?;
            let name = without_fragment(id).to_owned();
            (!name.is_empty()).then(|| (name, path.clone()))
        };
        Self(files.iter().filter_map(name).collect())
    }

    /// The files that a schema refers to by their names, and those that they refer to.
    fn beside(&self, path: &Path) -> Vec<&PathBuf> {
        let (mut found, mut pending) = (Vec::new(), vec![path]);
        while let Some(next) = pending.pop() {
            let Some(schema) = read(next) else { continue };
            let mut references = Vec::new();
            collect(&schema, &mut references);
            for file in references.iter().filter_map(|reference| self.0.get(without_fragment(reference))) {
                if file != path && !found.contains(&file) {
                    found.push(file);
                    pending.push(file);
                }
            }
        }
        found
    }

    /// Writes a configuration whose only route has this schema.
    pub(super) fn configuration(&self, schema: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
        let files: Vec<_> = self.beside(schema).iter().map(|path| path.display().to_string()).collect();
        let (schema, files) = (json!(schema.display().to_string()), json!(files));
        let text = format!(
            "[guard]\ninterfaces = []\nstate_dir = {state}\ncontrol_socket = {socket}\n\
             [[listener]]\naddress = \"127.0.0.1:8080\"\n[upstream.items]\nservers = [\"127.0.0.1:9000\"]\n\
             [validate]\nfiles = {files}\n[[route]]\npath = \"/\"\nmethods = [\"POST\"]\nrequire = [\"public\"]\n\
             upstream = \"items\"\nschema = {schema}\n",
            state = json!(folder.join("state").display().to_string()),
            socket = json!(folder.join("control.sock").display().to_string()),
        );
        let path = folder.join("gateway.toml");
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}

fn read(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn without_fragment(name: &str) -> &str {
    name.split_once('#').map_or(name, |(name, _)| name)
}

fn collect<'value>(schema: &'value Value, references: &mut Vec<&'value str>) {
    match schema {
        Value::Array(values) => values.iter().for_each(|value| collect(value, references)),
        Value::Object(members) => {
            references.extend(members.get("$ref").and_then(Value::as_str));
            members.values().for_each(|value| collect(value, references));
        }
        _ => {}
    }
}
