//! An issuer whose keys are fetched, and that answers as a test wants: well, badly, late, or not at all.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};

use crate::{
    scripted::{Exchange, Scripted},
    tokens::{Algorithm, Keys, now},
    wait::pause,
    world::Namespace,
};

/// How it answers who asks for keys.
#[derive(Clone, Debug)]
pub enum Reply {
    /// With this body, as JSON.
    Body(String),
    /// With this body and these header lines.
    Headed(String, String),
    /// With a body that breaks off.
    Truncated,
    /// With this status line and these header lines.
    Status(String, String),
    /// With this body, as JSON, once it is so late: seconds since the Unix epoch.
    Late(String, u64),
    /// With a byte a second.
    Slow,
    /// Not at all.
    Silent,
    /// With so many bytes.
    Huge(usize),
}

/// A running issuer on `http`.
pub struct FakeIssuer {
    server: Scripted,
    reply: Arc<Mutex<Reply>>,
    rotated: AtomicBool,
    /// `iss` of its tokens.
    pub issuer: String,
}

impl FakeIssuer {
    /// Serves on a port of 127.0.0.1 in `namespace`, with no keys.
    ///
    /// # Panics
    /// If the port is taken.
    #[must_use]
    pub fn start(namespace: &Namespace, port: u16) -> Self {
        let issuer = format!("http://127.0.0.1:{port}/realm");
        let reply = Arc::new(Mutex::new(Reply::Body(json!({"keys": []}).to_string())));
        let (replies, iss) = (Arc::clone(&reply), issuer.clone());
        let server = Scripted::start(namespace, &format!("127.0.0.1:{port}"), move |exchange| {
            if exchange.line.starts_with("GET /realm/.well-known/openid-configuration ") {
                let metadata = json!({"issuer": iss, "jwks_uri": iss.replace("/realm", "/keys")});
                exchange.answer("200 OK", "Content-Type: application/json\r\n", &metadata.to_string())?;
                return Ok(true);
            }
            let reply = replies.lock().unwrap_or_else(PoisonError::into_inner).clone();
            answer(exchange, &reply)
        });
        Self { server, reply, issuer, rotated: AtomicBool::new(false) }
    }

    /// How it answers from now on.
    pub fn reply(&self, reply: Reply) {
        *self.reply.lock().unwrap_or_else(PoisonError::into_inner) = reply;
    }

    /// Its keys from now on are those of the algorithm ES256, by these names.
    pub fn publish(&self, keys: &[(&str, &Keys)]) {
        self.reply(Reply::Body(key_set(keys)));
    }

    /// As [`Self::publish`], and tokens are by the last of them from now on.
    pub fn rotate(&self, keys: &[(&str, &Keys)]) {
        self.publish(keys);
        self.rotated.store(true, Ordering::Release);
    }

    /// Whether keys were rotated.
    #[must_use]
    pub fn is_rotated(&self) -> bool {
        self.rotated.load(Ordering::Acquire)
    }

    /// How often it was asked for keys.
    #[must_use]
    pub fn fetches(&self) -> usize {
        self.server.heard().iter().filter(|heard| heard.line.starts_with("GET /keys")).count()
    }

    /// The head of the last request for keys.
    #[must_use]
    pub fn last(&self) -> String {
        let heard = self.server.heard();
        heard
            .iter()
            .rfind(|heard| heard.line.starts_with("GET /keys"))
            .map(|heard| heard.head.clone())
            .unwrap_or_default()
    }

    /// A token of a reader, by one of `keys` that is named so.
    #[must_use]
    pub fn token(&self, subject: &str, kid: &str, keys: &Keys) -> String {
        self.token_until(now() + 3_600, subject, kid, keys)
    }

    /// The same, until then: seconds since the Unix epoch.
    #[must_use]
    pub fn token_until(&self, end: u64, subject: &str, kid: &str, keys: &Keys) -> String {
        let header = json!({"alg": "ES256", "typ": "at+jwt", "kid": kid});
        let claims = json!({"iss": self.issuer, "aud": "api", "sub": subject, "iat": now(), "exp": end,
            "roles": ["reader"]});
        keys.sign(Algorithm::Es256, &header.to_string(), &claims.to_string())
    }
}

/// A key set with the ES256 keys of these, by these names.
#[must_use]
pub fn key_set(keys: &[(&str, &Keys)]) -> String {
    let one = |(kid, keys): &(&str, &Keys)| {
        let mut set = keys.jwks();
        let mut jwk = set["keys"].as_array_mut().unwrap().swap_remove(1);
        jwk["kid"] = Value::from(*kid);
        jwk
    };
    json!({"keys": keys.iter().map(one).collect::<Vec<_>>()}).to_string()
}

fn answer(exchange: &mut Exchange<'_>, reply: &Reply) -> io::Result<bool> {
    const JSON: &str = "Content-Type: application/json\r\n";
    match reply {
        Reply::Body(body) => exchange.answer("200 OK", JSON, body)?,
        Reply::Headed(body, headers) => exchange.answer("200 OK", headers, body)?,
        Reply::Status(line, headers) => exchange.answer(line, headers, "")?,
        Reply::Truncated => {
            exchange.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{\"keys\":[")?;
            return Ok(false);
        }
        Reply::Late(body, until) => {
            while now() < *until {
                pause(std::time::Duration::from_millis(20));
            }
            exchange.answer("200 OK", JSON, body)?;
        }
        Reply::Slow => {
            exchange.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?;
            loop {
                exchange.say(b"{")?;
                pause(std::time::Duration::from_secs(1));
            }
        }
        Reply::Silent => {
            exchange.wait_for_the_end()?;
            return Ok(false);
        }
        Reply::Huge(bytes) => {
            // Without a length: as much as the gateway takes.
            exchange.say(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")?;
            let piece = vec![b' '; 65_536];
            for _ in 0..bytes / piece.len() {
                exchange.say(&piece)?;
            }
            return Ok(false);
        }
    }
    Ok(true)
}
