//! Whether what an operator asks about is a key of any limit: one that is misspelt is not a key that nobody has used.

use std::collections::BTreeSet;

use gateway_common::source::Source;

use crate::{
    policy::limit::report::LimitQuestion,
    settings::limit::{KeyPart, Limit},
};

/// Whether some limit, or the quota that is named, counts by such a key. `limits` are all that there are.
///
/// # Errors
/// No limit does: why, and which keys there are.
pub fn judge(question: &LimitQuestion, limits: &[&Limit]) -> Result<(), String> {
    let (quota, key, what) = match question {
        LimitQuestion::Reset(key) | LimitQuestion::Show(key) => (None, key, "limit"),
        LimitQuestion::SetQuota { quota, key, .. } => (quota.as_ref(), key, "quota"),
        LimitQuestion::ShowQuota(key) => (None, key, "quota"),
        LimitQuestion::List | LimitQuestion::Quotas | LimitQuestion::Top => return Ok(()),
    };
    let is_asked = |limit: &&&Limit| what == "limit" || limit.quota.is_some();
    let limits: Vec<&Limit> = limits.iter().filter(is_asked).copied().collect();
    if limits.is_empty() {
        return Err(format!("there is no {what}"));
    }
    let meant: Vec<&&Limit> = limits.iter().filter(|limit| quota.is_none_or(|name| limit.name == *name)).collect();
    if let (Some(name), true) = (quota, meant.is_empty()) {
        let names: BTreeSet<&str> = limits.iter().map(|limit| &*limit.name).collect();
        let names: Vec<&str> = names.into_iter().collect();
        return Err(format!("there is no quota {name:?}; there are: {}", names.join(", ")));
    }
    let is_address = |(name, _): &&(String, String)| name == "address" || name.starts_with("address/");
    if let Some((name, value)) = key.iter().filter(is_address).find(|(_, value)| value.parse::<Source>().is_err()) {
        return Err(format!("{name}={value} is no address: write {name}=192.0.2.7"));
    }
    if meant.iter().any(|limit| takes(&limit.by, key)) {
        return Ok(());
    }
    let keys: BTreeSet<String> = meant.iter().map(|limit| written(&limit.by)).collect();
    let keys: Vec<String> = keys.into_iter().collect();
    let asked: Vec<String> = key.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Err(format!("no {what} counts by {:?}; the keys are: {}", asked.join(" "), keys.join("; ")))
}

/// A key as it is written: `principal=... route=...`.
fn written(by: &[KeyPart]) -> String {
    by.iter().map(|part| format!("{part}=...")).collect::<Vec<_>>().join(" ")
}

/// Whether a counter by these parts has such a key. An address may stand in for parts that are left out.
fn takes(by: &[KeyPart], key: &[(String, String)]) -> bool {
    let names: Vec<String> = by.iter().map(ToString::to_string).collect();
    let has = |name: &str| key.iter().any(|(known, _)| known == name);
    let has_address = key.iter().any(|(name, _)| name == "address" || name.starts_with("address/"));
    let is_known = |name: &String| name == "address" || names.contains(name);
    let stands_in = by.iter().any(|part| matches!(part, KeyPart::Address(_))) || names.iter().any(|name| !has(name));
    key.iter().all(|(name, _)| is_known(name))
        && (has_address || names.iter().all(|name| has(name)))
        && (!has("address") || stands_in)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::limit::{Allowance, Cost, Except};

    fn limit(name: &str, by: Vec<KeyPart>, is_quota: bool) -> Limit {
        use crate::settings::limit::quota::{Period, Quota, QuotaHeaders, WhenFull};
        let quota = Quota {
            period: Period::Day,
            zone_name: "UTC".to_owned(),
            zone: jiff::tz::TimeZone::UTC,
            warn_at: Vec::new(),
            when_full: WhenFull::Share,
            headers: QuotaHeaders::default(),
        };
        Limit {
            name: name.to_owned(),
            by,
            allowance: Allowance::Quota(100),
            cost: Cost::Requests,
            routes: None,
            weights: Vec::new(),
            except: Except::default(),
            capacity: 10,
            delay: std::time::Duration::ZERO,
            headers: true,
            shadow: false,
            shared: false,
            clamp: None,
            quota: is_quota.then_some(quota),
        }
    }

    #[test]
    fn keys_that_there_are() {
        let limits = [
            limit("address", vec![KeyPart::Address(None)], false),
            limit("search", vec![KeyPart::Principal, KeyPart::Route], false),
            limit("daily", vec![KeyPart::Principal], true),
        ];
        let key = |text: &str| -> Vec<(String, String)> {
            let part = |part: &str| part.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
            text.split(' ').filter_map(part).collect()
        };
        let set = |quota: Option<&str>, text: &str| LimitQuestion::SetQuota {
            quota: quota.map(str::to_owned),
            key: key(text),
            used: 3,
        };
        let all = "the keys are: address=...; principal=...; principal=... route=...";
        for (question, expect) in [
            (LimitQuestion::Show(key("address=192.0.2.7")), None),
            (LimitQuestion::Show(key("address=2001:db8::/48")), None),
            (LimitQuestion::Show(key("principal=ada")), None),
            (LimitQuestion::Show(key("principal=ada route=search")), None),
            (LimitQuestion::Show(key("address=192.0.2.7 route=search")), None),
            (LimitQuestion::Show(key("foo=bar")), Some(all)),
            (LimitQuestion::Show(key("adress=192.0.2.7")), Some("no limit counts by \"adress=192.0.2.7\"")),
            (LimitQuestion::Show(key("route=search")), Some(all)),
            (LimitQuestion::Show(key("address=nobody")), Some("address=nobody is no address")),
            (LimitQuestion::Show(key("address/48=192.0.2.7")), Some(all)),
            (LimitQuestion::Reset(key("foo=bar")), Some(all)),
            (LimitQuestion::ShowQuota(key("principal=ada")), None),
            (LimitQuestion::ShowQuota(key("address=192.0.2.7")), None),
            (LimitQuestion::ShowQuota(key("route=search")), Some("the keys are: principal=...")),
            (set(None, "principal=ada"), None),
            (set(Some("daily"), "principal=ada"), None),
            (set(Some("nope"), "principal=ada"), Some("there is no quota \"nope\"; there are: daily")),
            (set(Some("address"), "address=192.0.2.7"), Some("there is no quota \"address\"")),
            (set(Some("daily"), "foo=bar"), Some("no quota counts by \"foo=bar\"; the keys are: principal=...")),
            (LimitQuestion::List, None),
        ] {
            let told = judge(&question, &limits.iter().collect::<Vec<_>>());
            let is_expected = |expect: &str| told.as_ref().is_err_and(|told| told.contains(expect));
            assert!(expect.map_or(told.is_ok(), is_expected), "{question:?}: {told:?}");
        }
        for (question, expect) in [
            (LimitQuestion::Show(key("address=192.0.2.7")), "there is no limit"),
            (LimitQuestion::ShowQuota(key("address=192.0.2.7")), "there is no quota"),
        ] {
            assert_eq!(judge(&question, &[]), Err(expect.to_owned()));
        }
    }
}
