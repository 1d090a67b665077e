//! The roles that each command takes, in one table.

use super::{ControlRequest, TokensOf};
use crate::{policy::limit::report::LimitQuestion, settings::operators::Role};

/// The roles that whoever asks must have, all of them. Empty: everybody may ask.
///
/// Whatever can end a block or shorten it takes `allow`; whatever sets a safety rule aside, and whatever changes
/// everything at once, takes `configure`. What depends on what is in force is judged beside this:
/// [`Guard::weakens`](crate::guard::bans::Guard::weakens).
pub(crate) const fn required(request: &ControlRequest) -> &'static [Role] {
    use Role::{Allow, Block, Configure, View};
    match request {
        // Quotas may be what clients pay for.
        ControlRequest::Limit { question } | ControlRequest::Quota { question } => match question {
            LimitQuestion::List | LimitQuestion::Quotas | LimitQuestion::Show(_) | LimitQuestion::ShowQuota(_) | LimitQuestion::Top => &[View],
            LimitQuestion::Reset(_) => &[Allow],
            LimitQuestion::SetQuota { .. } => &[Configure],
        },
        ControlRequest::Whoami => &[],
        ControlRequest::AdminTokenList
        | ControlRequest::AlertList
        | ControlRequest::AllowList
        | ControlRequest::Anomalies
        | ControlRequest::BlockExport { .. }
        | ControlRequest::BlockFind { .. }
        | ControlRequest::BlockList
        | ControlRequest::ClampList
        | ControlRequest::Explain { .. }
        | ControlRequest::KeyList { .. }
        | ControlRequest::KeyShow { .. }
        | ControlRequest::Profiles { .. }
        | ControlRequest::ShadowReport
        | ControlRequest::Status
        | ControlRequest::TokenRevocations { .. }
        | ControlRequest::Top
        | ControlRequest::Watch { .. }
        | ControlRequest::Why { .. } => &[View],
        // A list of its own name takes the place of what that list was: what it no longer names is let through.
        ControlRequest::BlockImportBegin { feed: Some(_), force: false, .. } => &[Block, Allow],
        ControlRequest::BlockImportBegin { feed: Some(_), force: true, .. } => &[Block, Allow, Configure],
        ControlRequest::FeedRefresh { accept: false, .. } => &[Block, Allow],
        ControlRequest::FeedRefresh { accept: true, .. } => &[Block, Allow, Configure],
        ControlRequest::BlockAdd { force: true, .. } | ControlRequest::BlockImportBegin { force: true, .. } => &[Block, Configure],
        ControlRequest::BlockAdd { .. }
        | ControlRequest::BlockImportAbort { .. }
        | ControlRequest::BlockImportBegin { .. }
        | ControlRequest::BlockImportChunk { .. }
        | ControlRequest::BlockImportCommit { .. }
        | ControlRequest::Confirm { .. }
        | ControlRequest::KeyRevoke { .. } => &[Block],
        // All clients of an issuer at once.
        ControlRequest::TokenRevoke { what: TokensOf { id: None, subject: None, .. }, .. } => &[Block, Configure],
        ControlRequest::TokenRevoke { .. } => &[Block],
        // A network that is wider than a block may be.
        ControlRequest::AllowAdd { yes: true, .. } => &[Allow, Configure],
        ControlRequest::AllowAdd { .. }
        | ControlRequest::AllowDel { .. }
        | ControlRequest::BlockDel { .. }
        | ControlRequest::ClampDel { .. }
        | ControlRequest::TokenRevocationDel { .. } => &[Allow],
        ControlRequest::BlockFlush => &[Allow, Configure],
        // Whoever makes a token must have every role that it is to have, besides this one.
        ControlRequest::AdminTokenNew { .. }
        | ControlRequest::AdminTokenRevoke { .. }
        | ControlRequest::Attach
        // Whoever may silence alerts can hide what else they do.
        | ControlRequest::AlertSilence { .. }
        | ControlRequest::AlertTest { .. }
        | ControlRequest::AlertUnsilence { .. }
        | ControlRequest::AuditRotateKey
        | ControlRequest::Detach
        // A key has any role.
        | ControlRequest::KeyImport { .. }
        | ControlRequest::KeyNew(_)
        | ControlRequest::KeyRotate { .. }
        | ControlRequest::Reload { .. }
        | ControlRequest::Resume
        | ControlRequest::ShadowPromote { .. }
        | ControlRequest::Upgrade => &[Configure],
    }
}

/// Whether a command is given on this host alone, at the control socket: a token that was stolen must not make others, nor
/// end those of whoever is in its way, nor change which program runs or by which key records are signed; and what is told
/// for as long as somebody listens is no answer to a request.
pub(crate) const fn is_local(request: &ControlRequest) -> bool {
    matches!(
        request,
        ControlRequest::AdminTokenNew { .. }
            | ControlRequest::AdminTokenRevoke { .. }
            | ControlRequest::AuditRotateKey
            // It may have a client's token in it.
            | ControlRequest::Explain { .. }
            | ControlRequest::KeyImport { .. }
            | ControlRequest::KeyNew(_)
            | ControlRequest::KeyRotate { .. }
            | ControlRequest::Upgrade
            | ControlRequest::Watch { .. }
    )
}

/// Whether a command is about API keys or revocations.
pub(crate) const fn is_about_credentials(request: &ControlRequest) -> bool {
    matches!(
        request,
        ControlRequest::KeyImport { .. }
            | ControlRequest::KeyList { .. }
            | ControlRequest::KeyNew(_)
            | ControlRequest::KeyRevoke { .. }
            | ControlRequest::KeyRotate { .. }
            | ControlRequest::KeyShow { .. }
            | ControlRequest::TokenRevoke { .. }
            | ControlRequest::TokenRevocationDel { .. }
            | ControlRequest::TokenRevocations { .. }
    )
}

/// A command as records and `--json` name it.
pub(crate) fn name(request: &ControlRequest) -> String {
    let tagged = serde_json::to_value(request).ok();
    let name = tagged.as_ref().and_then(|value| value.get("ask")).and_then(serde_json::Value::as_str);
    name.unwrap_or_default().to_owned()
}

/// Whether a command only asks: what it does needs no record.
pub(crate) fn only_asks(request: &ControlRequest) -> bool {
    required(request).iter().all(|role| *role == Role::View)
        // Parts of an import, whose begin is recorded.
        || matches!(request, ControlRequest::BlockImportAbort { .. } | ControlRequest::BlockImportChunk { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::operators::names;

    #[track_caller]
    fn check(text: &str, roles: &str) {
        let request: ControlRequest = serde_json::from_str(text).unwrap();
        assert_eq!(names(required(&request)), roles, "{text}");
    }

    #[test]
    fn the_least_role_of_each_command() {
        check(r#"{"ask":"whoami"}"#, "");
        check(r#"{"ask":"status"}"#, "view");
        check(r#"{"ask":"top"}"#, "view");
        check(r#"{"ask":"profiles","most":20}"#, "view");
        check(r#"{"ask":"watch"}"#, "view");
        check(r#"{"ask":"why","address":"192.0.2.1"}"#, "view");
        check(r#"{"ask":"block_list"}"#, "view");
        check(r#"{"ask":"block_export"}"#, "view");
        check(r#"{"ask":"block_find","most":20}"#, "view");
        check(r#"{"ask":"allow_list"}"#, "view");
        check(r#"{"ask":"clamp_list"}"#, "view");
        check(r#"{"ask":"alert_list"}"#, "view");
        check(r#"{"ask":"alert_test"}"#, "configure");
        check(r#"{"ask":"alert_silence","labels":{"alertname":"x"},"seconds":60,"reason":"x"}"#, "configure");
        check(r#"{"ask":"alert_unsilence","id":1}"#, "configure");
        check(r#"{"ask":"clamp_del","source":"192.0.2.1"}"#, "allow");
        check(r#"{"ask":"shadow_report"}"#, "view");
        check(r#"{"ask":"limit","question":"top"}"#, "view");
        check(r#"{"ask":"limit","question":{"show":[["principal","ada"]]}}"#, "view");
        check(r#"{"ask":"limit","question":{"reset":[["principal","ada"]]}}"#, "allow");
        check(r#"{"ask":"quota","question":"quotas"}"#, "view");
        check(r#"{"ask":"quota","question":"top"}"#, "view");
        check(r#"{"ask":"quota","question":{"show_quota":[["principal","ada"]]}}"#, "view");
        for ask in ["quota", "limit"] {
            let set = r#"{"set_quota":{"quota":null,"key":[["principal","ada"]],"used":0}}"#;
            check(&format!("{{\"ask\":\"{ask}\",\"question\":{set}}}"), "configure");
        }
        let add = r#"{"ask":"block_add","source":"192.0.2.1","seconds":1,"reason":"","shadow":false"#;
        check(&format!("{add}}}"), "block");
        check(&format!("{add},\"force\":true}}"), "block, configure");
        check(r#"{"ask":"confirm"}"#, "block");
        let import = r#"{"ask":"block_import_begin","seconds":1,"shadow":false"#;
        check(&format!("{import}}}"), "block");
        check(&format!("{import},\"feed\":\"a\"}}"), "block, allow");
        check(&format!("{import},\"force\":true}}"), "block, configure");
        check(&format!("{import},\"feed\":\"a\",\"force\":true}}"), "block, allow, configure");
        check(r#"{"ask":"feed_refresh","name":"a"}"#, "block, allow");
        check(r#"{"ask":"feed_refresh","name":"a","accept":true}"#, "block, allow, configure");
        check(r#"{"ask":"block_import_chunk","id":1,"entries":[]}"#, "block");
        check(r#"{"ask":"block_import_commit","id":1,"digest":""}"#, "block");
        check(r#"{"ask":"block_import_abort","id":1}"#, "block");
        check(r#"{"ask":"block_del","source":"192.0.2.1"}"#, "allow");
        check(r#"{"ask":"allow_add","source":"192.0.2.1","reason":""}"#, "allow");
        check(r#"{"ask":"allow_add","source":"0.0.0.0/0","reason":"","yes":true}"#, "allow, configure");
        check(r#"{"ask":"allow_del","source":"192.0.2.1"}"#, "allow");
        check(r#"{"ask":"block_flush"}"#, "allow, configure");
        check(r#"{"ask":"admin_token_list"}"#, "view");
        check(r#"{"ask":"admin_token_new","name":"a","roles":["view"],"seconds":60}"#, "configure");
        check(r#"{"ask":"admin_token_revoke","name":"a"}"#, "configure");
        check(r#"{"ask":"key_list"}"#, "view");
        check(r#"{"ask":"key_show","what":"a"}"#, "view");
        check(r#"{"ask":"key_new","name":"a","roles":[]}"#, "configure");
        check(r#"{"ask":"key_rotate","what":"a","overlap":1}"#, "configure");
        check(r#"{"ask":"key_import","keys":[]}"#, "configure");
        check(r#"{"ask":"key_revoke","what":"a","reason":""}"#, "block");
        let revoke = r#"{"ask":"token_revoke","reason":"","what":{"issuer":"a""#;
        check(&format!("{revoke}}}}}"), "block, configure");
        check(&format!("{revoke},\"before\":1}}}}"), "block, configure");
        check(&format!("{revoke},\"subject\":\"a\"}}}}"), "block");
        check(&format!("{revoke},\"id\":\"a\"}}}}"), "block");
        check(r#"{"ask":"token_revocations"}"#, "view");
        check(r#"{"ask":"token_revocation_del","number":1}"#, "allow");
        for configure in ["attach", "detach", "reload", "resume", "upgrade", "shadow_promote\",\"what\":\"all"] {
            check(&format!("{{\"ask\":\"{configure}\"}}"), "configure");
        }
    }

    #[test]
    fn what_a_token_cannot_do() {
        for (ask, expect) in [
            (r#"{"ask":"audit_rotate_key"}"#, true),
            (r#"{"ask":"upgrade"}"#, true),
            (r#"{"ask":"watch"}"#, true),
            (r#"{"ask":"admin_token_revoke","name":"a"}"#, true),
            (r#"{"ask":"key_new","name":"a","roles":[]}"#, true),
            (r#"{"ask":"key_revoke","what":"a","reason":""}"#, false),
            (r#"{"ask":"reload"}"#, false),
            (r#"{"ask":"block_flush"}"#, false),
        ] {
            let request: ControlRequest = serde_json::from_str(ask).unwrap();
            assert_eq!(is_local(&request), expect, "{ask}");
        }
    }

    #[test]
    fn what_leaves_a_record() {
        assert_eq!(name(&ControlRequest::BlockFlush), "block_flush");
        assert!(only_asks(&ControlRequest::Status) && only_asks(&ControlRequest::Whoami));
        assert!(
            !only_asks(&ControlRequest::Reload { dry_run: false }) && !only_asks(&ControlRequest::Confirm { id: None })
        );
    }
}
