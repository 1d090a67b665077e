//! Takes commands of operators that the observer relays, and has them answered by the guard's loop as those of the control
//! socket are.
//!
//! *Invariant:* the observer has no say: it gives what it was given, a few at a time, and each is judged by its token.

use std::{os::fd::AsFd as _, sync::Arc};

use serde_json::{Map, Value};
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
};

use crate::{
    guard::{
        control::{
            BAD_TOKEN, ControlAnswer, ControlRequest, DENIED, TOO_MANY,
            caller::{Bearer, Caller},
            server::Call,
        },
        operators::admin_tokens,
    },
    message::{
        channel::{Channel, sealed::seal},
        observer::relay::{AT_ONCE, Answered, Relayed},
    },
};

/// Serves one observer until it is gone, or says what is no message.
pub(crate) async fn serve(channel: Channel, calls: mpsc::Sender<Call>) {
    let channel = Arc::new(channel);
    let (room, mut tasks) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&room).acquire_owned().await {
        let relayed = match channel.receive_alone::<Relayed>().await {
            Ok(Some(relayed)) => relayed,
            Ok(None) => break,
            Err(error) => {
                tracing::error!(%error, "the observer relays what is no command; no more is taken from it");
                break;
            }
        };
        while tasks.try_join_next().is_some() {}
        let (channel, calls) = (Arc::clone(&channel), calls.clone());
        tasks.spawn(async move {
            answer(&channel, &calls, relayed).await;
            drop(place);
        });
    }
    tasks.shutdown().await;
    // It may have sent what nobody reads.
    if let Some(channel) = Arc::into_inner(channel) {
        channel.close();
    }
}

async fn answer(channel: &Channel, calls: &mpsc::Sender<Call>, relayed: Relayed) {
    let Relayed { number, address, token, name, arguments } = relayed;
    let answer = match read(&name, &arguments) {
        Err(refused) => refused,
        Ok(request) => {
            let caller = Caller::Token(Bearer { digest: admin_tokens::hash(&token), address });
            let (sender, receiver) = oneshot::channel();
            let stopping = || refused("stopping", "the guard is stopping".to_owned());
            match calls.send(Call { request, caller, answer: sender }).await {
                Ok(()) => receiver.await.unwrap_or_else(|_dropped| stopping()),
                Err(_closed) => stopping(),
            }
        }
    };
    let sent = async {
        let text = serde_json::to_vec(&answer)?;
        channel.send(&Answered { number, status: status(&answer) }, &[seal(&text)?.as_fd()]).await
    };
    if let Err(error) = sent.await {
        tracing::debug!(%error, "the observer did not wait for an answer");
    }
}

/// The command with this name and these arguments.
fn read(name: &str, arguments: &[u8]) -> Result<ControlRequest, ControlAnswer> {
    let wrong = |error: serde_json::Error| refused("bad_request", format!("not a request: {error}"));
    let mut members: Map<String, Value> = match arguments.trim_ascii() {
        [] => Map::new(),
        text => serde_json::from_slice(text).map_err(wrong)?,
    };
    if members.insert("ask".to_owned(), name.into()).is_some() {
        return Err(refused("bad_request", "the command is named by the path, not by `ask`".to_owned()));
    }
    let given: Vec<String> = members.keys().cloned().collect();
    let request: ControlRequest = serde_json::from_value(Value::Object(members)).map_err(wrong)?;
    // What takes no argument is read whatever else there is.
    let taken = serde_json::to_value(&request).map_err(wrong)?;
    match given.iter().find(|name| taken.get(name.as_str()).is_none()) {
        Some(name) => Err(refused("bad_request", format!("not a request: unknown argument {name:?}"))),
        None => Ok(request),
    }
}

/// The status of HTTP for an answer.
fn status(answer: &ControlAnswer) -> u16 {
    match answer {
        ControlAnswer::Refused { code, .. } => match &**code {
            BAD_TOKEN => 401,
            DENIED => 403,
            TOO_MANY => 429,
            "bad_request" => 400,
            "not_found" => 404,
            "stopping" => 503,
            _ => 409,
        },
        _ => 200,
    }
}

fn refused(code: &str, message: String) -> ControlAnswer {
    ControlAnswer::Refused { code: code.to_owned(), message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{channel, channel::sealed::unseal};

    #[track_caller]
    fn check(name: &str, arguments: &str, expect: &str) {
        let said = match read(name, arguments.as_bytes()) {
            Ok(request) => format!("{request:?}"),
            Err(ControlAnswer::Refused { code, message }) => format!("{code}: {message}"),
            Err(other) => panic!("{other:?}"),
        };
        assert!(said.contains(expect), "{name} {arguments}: {said}");
    }

    #[test]
    fn commands_by_name() {
        check("status", "", "Status");
        check("status", " {} \n", "Status");
        check("why", r#"{"address":"192.0.2.1"}"#, "Why");
        let add = r#"{"source":"192.0.2.1","seconds":60,"reason":"x","shadow":false}"#;
        check("block_add", add, "BlockAdd");
        for (name, arguments) in [
            ("status", r#"{"more":1}"#),
            ("status", r#"{"ask":"reload"}"#),
            ("status", "[]"),
            ("status", "{"),
            ("why", r#"{"address":"x"}"#),
            ("", ""),
            ("unknown", ""),
            ("Status", ""),
        ] {
            check(name, arguments, "bad_request");
        }
    }

    #[test]
    fn an_answer_goes_back_with_its_number() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (ours, theirs) = channel::pair().unwrap();
            let (calls, mut called) = mpsc::channel::<Call>(1);
            let served = tokio::spawn(serve(Channel::new(ours).unwrap(), calls));
            let observer = Channel::new(theirs).unwrap();
            let relayed = Relayed {
                number: 7,
                address: None,
                token: "gwat_a".to_owned(),
                name: "status".to_owned(),
                arguments: Vec::new(),
            };
            observer.send(&relayed, &[]).await.unwrap();
            let call = called.recv().await.unwrap();
            let Caller::Token(bearer) = call.caller else { panic!("{:?}", call.caller) };
            assert_eq!(bearer.digest, admin_tokens::hash("gwat_a"));
            call.answer.send(ControlAnswer::denied("no".to_owned())).unwrap();
            let (answered, mut sent) = observer.receive::<Answered>().await.unwrap().unwrap();
            assert_eq!((answered.number, answered.status), (7, 403));
            let text: Vec<u8> = unseal(sent.pop().unwrap()).unwrap();
            assert!(String::from_utf8(text).unwrap().contains("denied"));
            // What is no message ends it.
            observer.send(&Relayed { token: "x".repeat(10_000), ..relayed }, &[]).await.unwrap();
            served.await.unwrap();
        });
    }
}
