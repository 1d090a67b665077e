//! The roles that each command takes, in one table.

use super::Request;
use crate::settings::operators::Role;

/// The roles that whoever asks must have, all of them. Empty: everybody may ask.
///
/// Whatever can end a block or shorten it takes `allow`; whatever sets a safety rule aside, and whatever changes
/// everything at once, takes `configure`. What depends on what is in force is judged beside this:
/// [`Guard::weakens`](crate::guard::bans::Guard::weakens).
pub(crate) const fn required(request: &Request) -> &'static [Role] {
    use Role::{Allow, Block, Configure, View};
    match request {
        Request::Whoami => &[],
        Request::AllowList
        | Request::BlockExport { .. }
        | Request::BlockList
        | Request::ShadowReport
        | Request::Status
        | Request::Top
        | Request::Watch { .. }
        | Request::Why { .. } => &[View],
        // A list of its own name takes the place of what that list was: what it no longer names is let through.
        Request::BlockImportBegin { feed: Some(_), force: false, .. } => &[Block, Allow],
        Request::BlockImportBegin { feed: Some(_), force: true, .. } => &[Block, Allow, Configure],
        Request::BlockAdd { force: true, .. } | Request::BlockImportBegin { force: true, .. } => &[Block, Configure],
        Request::BlockAdd { .. }
        | Request::BlockImportBegin { .. }
        | Request::BlockImportChunk { .. }
        | Request::BlockImportCommit { .. }
        | Request::Confirm { .. } => &[Block],
        // A network that is wider than a block may be.
        Request::AllowAdd { yes: true, .. } => &[Allow, Configure],
        Request::AllowAdd { .. } | Request::AllowDel { .. } | Request::BlockDel { .. } => &[Allow],
        Request::BlockFlush => &[Allow, Configure],
        Request::Attach
        | Request::AuditRotateKey
        | Request::Detach
        | Request::Reload
        | Request::Resume
        | Request::ShadowPromote { .. } => &[Configure],
    }
}

/// A command as records and `--json` name it.
pub(crate) fn name(request: &Request) -> String {
    let tagged = serde_json::to_value(request).ok();
    let name = tagged.as_ref().and_then(|value| value.get("ask")).and_then(serde_json::Value::as_str);
    name.unwrap_or_default().to_owned()
}

/// Whether a command only asks: what it does needs no record.
pub(crate) fn only_asks(request: &Request) -> bool {
    required(request).iter().all(|role| *role == Role::View) || matches!(request, Request::BlockImportChunk { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::operators::names;

    #[track_caller]
    fn check(text: &str, roles: &str) {
        let request: Request = serde_json::from_str(text).unwrap();
        assert_eq!(names(required(&request)), roles, "{text}");
    }

    #[test]
    fn the_least_role_of_each_command() {
        check(r#"{"ask":"whoami"}"#, "");
        check(r#"{"ask":"status"}"#, "view");
        check(r#"{"ask":"top"}"#, "view");
        check(r#"{"ask":"watch"}"#, "view");
        check(r#"{"ask":"why","address":"192.0.2.1"}"#, "view");
        check(r#"{"ask":"block_list"}"#, "view");
        check(r#"{"ask":"block_export"}"#, "view");
        check(r#"{"ask":"allow_list"}"#, "view");
        check(r#"{"ask":"shadow_report"}"#, "view");
        let add = r#"{"ask":"block_add","source":"192.0.2.1","seconds":1,"reason":"","shadow":false"#;
        check(&format!("{add}}}"), "block");
        check(&format!("{add},\"force\":true}}"), "block, configure");
        check(r#"{"ask":"confirm"}"#, "block");
        let import = r#"{"ask":"block_import_begin","seconds":1,"shadow":false"#;
        check(&format!("{import}}}"), "block");
        check(&format!("{import},\"feed\":\"a\"}}"), "block, allow");
        check(&format!("{import},\"force\":true}}"), "block, configure");
        check(&format!("{import},\"feed\":\"a\",\"force\":true}}"), "block, allow, configure");
        check(r#"{"ask":"block_import_chunk","id":1,"entries":[]}"#, "block");
        check(r#"{"ask":"block_import_commit","id":1,"digest":""}"#, "block");
        check(r#"{"ask":"block_del","source":"192.0.2.1"}"#, "allow");
        check(r#"{"ask":"allow_add","source":"192.0.2.1","reason":""}"#, "allow");
        check(r#"{"ask":"allow_add","source":"0.0.0.0/0","reason":"","yes":true}"#, "allow, configure");
        check(r#"{"ask":"allow_del","source":"192.0.2.1"}"#, "allow");
        check(r#"{"ask":"block_flush"}"#, "allow, configure");
        for configure in ["attach", "detach", "reload", "resume", "shadow_promote\",\"what\":\"all"] {
            check(&format!("{{\"ask\":\"{configure}\"}}"), "configure");
        }
    }

    #[test]
    fn what_leaves_a_record() {
        assert_eq!(name(&Request::BlockFlush), "block_flush");
        assert!(only_asks(&Request::Status) && only_asks(&Request::Whoami));
        assert!(!only_asks(&Request::Reload) && !only_asks(&Request::Confirm { id: None }));
    }
}
