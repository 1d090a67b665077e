//! Shows `[crowdsec]` in force.

use serde_json::{Value, json};

use super::{Sensitive, alerts::dial, tls::file};
use crate::{
    config::value::{show_duration, show_size},
    settings::crowdsec,
};

pub(super) fn crowdsec(settings: &crowdsec::Settings, sensitive: Sensitive) -> Value {
    let api = &settings.api;
    let mut shown = json!({
        "url": sensitive.show(api.url.clone()),
        "key_file": api.key.as_ref().map(file),
        "machine": api.machine.as_ref().map(|machine| &machine.name),
        "password_file": api.machine.as_ref().map(|machine| file(&machine.password)),
        "every": show_duration(settings.every),
        "max_size": show_size(api.max_size),
        "shadow": settings.shadow,
    });
    if let Some(members) = shown.as_object_mut() {
        dial(&api.dial, |key, value| drop(members.insert(key.to_owned(), value)));
    }
    shown
}
