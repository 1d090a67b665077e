//! What operators ask about alerts, which the observer knows: it is asked beside the loop, and nothing that it says is
//! believed without a look.

use std::{io, os::fd::OwnedFd, time::Duration};

use serde_json::json;
use tokio::{sync::oneshot, time::timeout};

use crate::{
    guard::{
        audit,
        bans::{Actor, Refused},
        control::{ControlAnswer, ControlRequest},
        lifecycle::service::{Service, reply},
    },
    message::{
        channel::Channel,
        observer::alert::{AlertQuestion, AlertReport, NewSilence, ObserverAnswer},
    },
    os::clock::Now,
    settings::alert::LONGEST_SILENCE,
};

/// How long a list or a silence may take.
const SOON: Duration = Duration::from_secs(5);

/// How long a test may take: longer than the observer waits for receivers, and less long than whoever asks.
const LATER: Duration = Duration::from_secs(24);

/// The longest texts of a silence.
const LONGEST: usize = 500;

/// The most labels of a silence.
const MOST: usize = 20;

impl Service<'_> {
    /// Has the observer answer.
    pub(in crate::guard::lifecycle) fn ask_observer(
        &mut self,
        request: ControlRequest,
        actor: &Actor,
        to: oneshot::Sender<ControlAnswer>,
    ) {
        let question = match question(request, actor) {
            Ok(question) => question,
            Err(refused) => return reply(Some(to), refused),
        };
        let missing = || io::Error::new(io::ErrorKind::NotConnected, "there is none: alerts need `[admin]`");
        if self.observer.is_some()
            && let Err(refused) = self.record_question(&question, actor)
        {
            return reply(Some(to), refused.into());
        }
        let asked = self.observer.as_ref().ok_or_else(missing).and_then(|observer| observer.ask(&question));
        let answer = match asked {
            Ok(answer) => answer,
            Err(error) => {
                let message = format!("the observer cannot be asked: {error}");
                return reply(Some(to), ControlAnswer::Refused { code: "no_observer".to_owned(), message });
            }
        };
        let time_limit = if matches!(question, AlertQuestion::Test { .. }) { LATER } else { SOON };
        let is_about_anomalies = question == AlertQuestion::Anomalies;
        tokio::spawn(async move { reply(Some(to), said(answer, is_about_anomalies, time_limit).await) });
    }

    /// Records a silence, which is none if that fails. Its end is recorded later if it cannot be now: alerts go out again all
    /// the same.
    fn record_question(&mut self, question: &AlertQuestion, actor: &Actor) -> Result<(), Refused> {
        match question {
            AlertQuestion::Silence(new) => {
                let members = json!({
                    "actor": actor.to_string(), "match": new.labels, "seconds": new.seconds, "reason": new.reason,
                });
                self.guard.record_order("alert_silence", Now::read(), audit::members(members))
            }
            AlertQuestion::Unsilence { number } => {
                let members = json!({ "actor": actor.to_string(), "silence": number });
                self.guard.record("alert_unsilence", audit::members(members), Now::read());
                Ok(())
            }
            // Whoever has a full disk may want to know whether anybody would be told.
            AlertQuestion::Test { receiver, .. } => {
                let members = json!({ "actor": actor.to_string(), "receiver": receiver });
                self.guard.tell("alert_test", Now::read(), audit::members(members));
                Ok(())
            }
            AlertQuestion::Anomalies | AlertQuestion::List => Ok(()),
        }
    }
}

/// What the observer is asked.
fn question(request: ControlRequest, actor: &Actor) -> Result<AlertQuestion, ControlAnswer> {
    let refused = |message: String| ControlAnswer::Refused { code: "bad_request".to_owned(), message };
    let by = actor.to_string();
    match request {
        ControlRequest::AlertTest { receiver } => Ok(AlertQuestion::Test { receiver, by }),
        ControlRequest::AlertUnsilence { id } => Ok(AlertQuestion::Unsilence { number: id }),
        ControlRequest::AlertSilence { labels, seconds, reason } => {
            let is_fine = |text: &str| text.len() <= LONGEST && !text.contains(char::is_control);
            if labels.is_empty() || labels.len() > MOST {
                return Err(refused(format!("a silence names 1 to {MOST} labels: alertname=disk_full")));
            }
            if !is_fine(&reason) || !labels.iter().all(|(name, value)| is_fine(name) && is_fine(value)) {
                return Err(refused(format!("texts of a silence have {LONGEST} printable letters at most")));
            }
            if let Some((name, _)) = labels.iter().find(|(name, value)| name.is_empty() || value.is_empty()) {
                let what = format!("the label {name:?} of a silence has no value, or no name");
                return Err(refused(format!("{what}: write both; `*` is any value")));
            }
            if !(1..=LONGEST_SILENCE.as_secs()).contains(&seconds) {
                return Err(refused("a silence lasts 1 second to 365 days".to_owned()));
            }
            let labels = labels.into_iter().collect();
            Ok(AlertQuestion::Silence(NewSilence { labels, seconds, reason, by }))
        }
        ControlRequest::Anomalies => Ok(AlertQuestion::Anomalies),
        _ => Ok(AlertQuestion::List),
    }
}

/// What the observer says.
async fn said(answer: OwnedFd, is_about_anomalies: bool, time_limit: Duration) -> ControlAnswer {
    let heard = async {
        let channel = Channel::new(answer)?;
        let heard = timeout(time_limit, channel.receive_alone::<ObserverAnswer>()).await;
        channel.close();
        io::Result::Ok(heard)
    };
    let failed = |message: &str| ControlAnswer::Refused { code: "no_observer".to_owned(), message: message.to_owned() };
    match heard.await.unwrap_or_else(|error| Ok(Err(error))) {
        Ok(Ok(Some(ObserverAnswer::Done(message, _)))) => ControlAnswer::Done { message, changed: 1 },
        Ok(Ok(Some(ObserverAnswer::Refused(code, message)))) => ControlAnswer::Refused { code, message },
        Ok(Ok(Some(ObserverAnswer::Report(text)))) if is_about_anomalies => match serde_json::from_slice(&text) {
            Ok(anomalies) => ControlAnswer::Anomalies(Box::new(anomalies)),
            Err(_unreadable) => failed("the observer says what is no report"),
        },
        Ok(Ok(Some(ObserverAnswer::Report(text)))) => match serde_json::from_slice::<AlertReport>(&text) {
            Ok(report) => ControlAnswer::Alerts(Box::new(report)),
            Err(_unreadable) => failed("the observer says what is no report"),
        },
        Ok(Ok(None)) => failed("the observer died meanwhile: try again"),
        Ok(Err(_broken)) => failed("the observer says what is no answer"),
        Err(_elapsed) => failed("the observer has not answered: try again"),
    }
}
