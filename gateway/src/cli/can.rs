//! `gateway can`: whether a principal may make a request, and what every requirement of its route says.

use std::net::IpAddr;

use clap::Args;
use serde_json::{Value, json};

use super::{
    arguments,
    context::Context,
    exit::Exit,
    explained::{ExplainedBy, exit, explained},
    read_token::read_token,
    request::AskedRequest,
    table::{clean, clean_lines, field, prose},
};
use crate::{
    identity::claim::ClaimPath,
    snapshot::explain::{Asked, ExplainQuestion, Explained, ExplainedStep, Explanation, SecretToken, Verdict},
};

#[derive(Debug, Args)]
#[command(after_help = "\
Asks the running gateway, which goes by the configuration in force, has fetched
keys and can ask servers about tokens. Where none runs, or with --offline, it
goes by the configuration file. It says which of the two it was.

It says what each requirement of the route says: where the client is, how it
proves who it is, roles and permissions, scopes, claims, conditions. Limits,
bans and bodies are left out. Nothing is counted, and nothing is held against
anybody.

The token is read from a file or from standard input (-), as every user of the
host can see arguments. It is never printed. Without a token, the identity is
what --role, --scope and --claim say of PRINCIPAL. PRINCIPAL is - for nobody, or
for whoever the token is of.

Ends with:
  0  allowed
  1  denied
  2  wrong usage, or a configuration that is not valid
  5  cannot be told: keys or an answer have to be fetched and the gateway was
     not asked, or they cannot be fetched now, or --from is missing, or the
     route asks for another method beside the token

Examples:
  gateway can ada GET https://api.example.com/items/7 --role reader
  gateway can - GET https://api.example.com/items/7 --token token.jwt
  gateway can ada PUT https://api.example.com/users/ada --claim sub=ada \\
    --role editor --from 192.0.2.7 --json | jq .verdict")]
pub(super) struct CanCommand {
    /// Who asks, as the access log names principals; - for nobody
    #[arg(allow_hyphen_values = true)]
    principal: String,
    #[command(flatten)]
    request: AskedRequest,
    /// The file with the client's token; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["role", "scope", "claim"])]
    token: Option<String>,
    /// A role of the principal; can be repeated
    #[arg(long, value_name = "ROLE")]
    role: Vec<String>,
    /// A scope of the principal's token; can be repeated
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<String>,
    /// A claim of the principal's token, path=value; can be repeated
    #[arg(long, value_name = "CLAIM", value_parser = arguments::claim)]
    claim: Vec<(ClaimPath, Value)>,
    /// The client's address
    #[arg(long, value_name = "ADDRESS", value_parser = arguments::client)]
    from: Option<IpAddr>,
    /// Go by the configuration file, whatever the running gateway has in force
    #[arg(long)]
    offline: bool,
}

impl CanCommand {
    pub(super) fn execute(&self, context: &Context) -> Exit {
        let token = match self.token.as_deref().map(read_token).transpose() {
            Ok(token) => token,
            Err((reason, exit)) => return context.out.fail(&reason, exit),
        };
        let token = match token.map(String::from_utf8).transpose() {
            Ok(token) => token.map(SecretToken),
            Err(_no_text) => return context.out.fail("the token fits no header", Exit::Usage),
        };
        let question = ExplainQuestion::Request(Box::new(Asked {
            principal: Some(self.principal.clone()).filter(|principal| principal != "-"),
            token,
            roles: self.role.clone(),
            scopes: self.scope.clone(),
            claims: self.claim.iter().map(|(path, value)| (path.to_string(), value.to_string())).collect(),
            from: self.from,
            ..Asked::from(&self.request)
        }));
        let told = match explained(context, &question, self.offline) {
            Ok(told) => told,
            Err(exit) => return exit,
        };
        let Explanation::Request(explained) = &told.explanation else {
            return context.out.fail("the gateway answered something else", Exit::Unreachable);
        };
        let exit = exit(explained.verdict);
        if context.out.json {
            return context.out.value(&self.value(explained, &told), exit);
        }
        context.out.text(&self.render(explained, &told), exit)
    }

    fn render(&self, explained: &Explained, told: &ExplainedBy) -> String {
        let asked = format!("{} for {}", self.request, self.principal);
        let detail = explained.detail.as_deref().unwrap_or_default();
        let verdict = match (explained.verdict, explained.status) {
            (Verdict::Allowed, _) => format!("allowed: {asked}"),
            (Verdict::Unknown, _) => format!("cannot be told: {asked}\n  {detail}"),
            (Verdict::Denied, status) => {
                let status = status.map_or_else(String::new, |status| status.to_string());
                let reject = explained.reject.as_deref().unwrap_or_default();
                format!("denied: {asked}\n  it is answered {status} {reject}: {detail}")
            }
        };
        let named = |name: &str, text: &str| field(&format!("  {}", clean(name)), 16, &clean(text));
        let mut lines = vec![prose(&clean_lines(&verdict)), named("by", &told.by_text)];
        if let Some((index, path)) = &explained.route {
            lines.push(named("route", &format!("route[{index}] {path}")));
        }
        for ExplainedStep { step, ok, asks, detail, shadow, .. } in &explained.steps {
            let detail = detail.as_deref().unwrap_or_default();
            let told = match ok {
                Some(true) => format!("ok: {asks}"),
                Some(false) if *shadow => format!("no, in shadow, which lets through: {detail}"),
                Some(false) => format!("no: {detail}"),
                None => format!("?: {detail}"),
            };
            lines.push(named(step, &told));
        }
        lines.join("\n")
    }

    fn value(&self, explained: &Explained, told: &ExplainedBy) -> Value {
        let step = |step: &ExplainedStep| {
            let ExplainedStep { step, ok, asks, detail, shadow, .. } = step;
            json!({ "step": step, "ok": ok, "asks": clean(asks), "detail": detail, "shadow": shadow })
        };
        let allowed = match explained.verdict {
            Verdict::Allowed => Some(true),
            Verdict::Denied => Some(false),
            Verdict::Unknown => None,
        };
        json!({
            "verdict": explained.verdict,
            "allowed": allowed,
            "by": told.by,
            "principal": explained.principal.as_ref().unwrap_or(&self.principal),
            "route": explained.route.as_ref().map(|(index, _)| index),
            "status": explained.status,
            "reject": explained.reject,
            "detail": explained.detail,
            "steps": explained.steps.iter().map(step).collect::<Vec<_>>(),
        })
    }
}
