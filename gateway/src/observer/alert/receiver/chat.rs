//! Slack and Teams.

use serde_json::{Value, json};

use super::{
    sending::{AlertSender, Sending},
    words,
};

/// <https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>
pub(super) fn slack(sending: &Sending, sender: AlertSender<'_>) -> Value {
    let (title, text) = (escape(&words::title(sending, sender)), escape(&words::text(sending)));
    json!({ "text": format!("*{title}*\n{text}") })
}

/// What Slack reads as something else than itself. A name between `<` and `>` would call everybody.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A card, as workflows of Teams take it: <https://learn.microsoft.com/power-automate/teams/teams-app-create>.
pub(super) fn teams(sending: &Sending, sender: AlertSender<'_>) -> Value {
    let block = |text: String| json!({ "type": "TextBlock", "text": text, "wrap": true });
    let mut body = vec![json!({
        "type": "TextBlock",
        "text": plain(&words::title(sending, sender)),
        "wrap": true,
        "weight": "Bolder",
        "size": "Medium",
    })];
    body.extend(words::text(sending).lines().map(|line| block(plain(line))));
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": body,
            },
        }],
    })
}

/// A text without what cards read as a link.
fn plain(text: &str) -> String {
    text.replace('[', "(").replace(']', ")")
}
