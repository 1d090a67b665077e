//! Shows `[priority.NAME]` and `[overload]`.

use serde_json::{Map, Value, json};

use crate::{config::value::show_duration, settings::priority};

pub(super) fn classes(settings: &priority::Settings) -> Map<String, Value> {
    let class = settings.classes.iter().map(|class| {
        let members = json!({
            "rank": class.rank,
            "plans": class.plans,
            "roles": class.roles,
            "principals": class.principals,
            "routes": class.routes,
        });
        (class.name.clone(), members)
    });
    class.collect()
}

pub(super) fn overload(settings: &priority::Settings) -> Option<Value> {
    settings.overload.map(|overload| json!({ "delay": show_duration(overload.delay) }))
}
