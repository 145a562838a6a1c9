//! The connection: every question has an answer or an error within a bounded time.

use super::answers::{Answers, Question, Unanswered};
use crate::base::{
    Error, Kind, Result,
    time::{self, Deadline},
};
use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event, HeaderMap, Message,
    client::{Request, RequestErrorKind},
};
use bytes::Bytes;
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// A connection to a server that speaks JetStream.
pub(super) struct Link {
    pub(super) client: Client,
    /// What errors call the server: without what it was asked to keep secret.
    pub(super) server: Arc<str>,
    /// How long to wait for one answer.
    pub(super) timeout: Duration,
    answers: Answers,
}

/// What JetStream answers to a wrong question.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: u64,
    pub(super) description: String,
}

/// No such stream.
pub(super) const NO_STREAM: u64 = 10_059;
/// No such consumer.
pub(super) const NO_CONSUMER: u64 = 10_014;
/// The stream holds as many messages as it may.
pub(super) const FULL: u64 = 10_077;
/// The last message of the subject is another than expected.
pub(super) const WRONG_LAST: u64 = 10_071;
/// The stream is there, and otherwise.
pub(super) const OTHERWISE: u64 = 10_058;

/// How long nobody may listen, as while a server begins again, until that is the answer.
const NOBODY: Duration = Duration::from_secs(2);

impl Link {
    /// Connects, and makes sure that the server is one of NATS and that its JetStream is on. `reconnected` is called
    /// whenever the connection is there again.
    pub(super) async fn connect(
        url: &str,
        timeout: Duration,
        reconnected: impl Fn() + Send + Sync + 'static,
    ) -> Result<Link> {
        let server = without_secret(url);
        let place = || format!("NATS server {server}");
        let reconnected = Arc::new(reconnected);
        let options = ConnectOptions::new()
            .name("seedpod")
            .connection_timeout(timeout)
            .request_timeout(Some(timeout))
            .ping_interval(Duration::from_secs(2)) // a server that is silent for two of them is left
            .reconnect_delay_callback(|attempts| Duration::from_millis(50 << attempts.min(5)))
            .event_callback(move |event| {
                let reconnected = reconnected.clone();
                async move {
                    if matches!(event, Event::Connected) {
                        reconnected();
                    }
                }
            });
        let servers: Vec<&str> = url.split(',').collect();
        let connecting = Deadline::within(timeout).bound(options.connect(servers)).await;
        let client = match connecting {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => {
                let (kind, message) = match error.kind() {
                    ConnectErrorKind::ServerParse => (Kind::Invalid, "that is no URL of a NATS server"),
                    ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                        (Kind::Rejected, "it wants another user, password or token in the URL")
                    }
                    _ => (Kind::Unavailable, START),
                };
                return Err(Error::new(kind, message).because(error).at(place()));
            }
            Err(_) => return Err(Error::new(Kind::Unavailable, START).at(place())),
        };
        let answers = Answers::open(&client).await.map_err(|error| error.at(place()))?;
        let link = Link { client, server: server.as_str().into(), timeout, answers };
        if !link.client.server_info().headers {
            let message = "it is too old: it knows no headers; seedpod needs nats-server 2.9 or newer";
            return Err(Error::new(Kind::Unsupported, message).at(place()));
        }
        match link.api("INFO", &Value::Null).await {
            Ok(Ok(_)) => Ok(link),
            Ok(Err(refusal)) => {
                let message = format!("its JetStream is off for this account: {}; {TURN_ON}", refusal.description);
                Err(Error::new(Kind::Unsupported, message).at(place()))
            }
            Err(error) if error.message() == SILENT => {
                Err(Error::new(Kind::Unsupported, format!("its JetStream is off; {TURN_ON}")).at(place()))
            }
            Err(error) => Err(error.at(place())),
        }
    }

    /// What errors call this place on the server.
    pub(super) fn at(&self, place: impl std::fmt::Display) -> String {
        format!("{place} on NATS server {}", self.server)
    }

    /// Asks, and waits for the answer for as long as one may take. The error names no place: who asks knows it.
    pub(super) async fn ask(&self, subject: String, headers: Option<HeaderMap>, body: Bytes) -> Result<Message> {
        let until = Deadline::within(self.timeout);
        let silent_until = Deadline::within(NOBODY.min(self.timeout / 2)); // sooner than the time-out, which says less
        loop {
            let mut request = Request::new().payload(body.clone()).timeout(Some(until.remaining()));
            if let Some(headers) = &headers {
                request = request.headers(headers.clone());
            }
            let error = match self.client.send_request(subject.clone(), request).await {
                Ok(message) => return Ok(message),
                Err(error) => error,
            };
            let (kind, message) = match error.kind() {
                RequestErrorKind::NoResponders if !silent_until.is_over() => {
                    time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
                RequestErrorKind::NoResponders => (Kind::Unavailable, SILENT.to_string()),
                RequestErrorKind::TimedOut => return Err(self.silent().because(error)),
                RequestErrorKind::MaxPayloadExceeded => {
                    let most = self.client.max_payload();
                    (Kind::Invalid, format!("the message is larger than the {most} bytes that the server takes"))
                }
                RequestErrorKind::InvalidSubject => (Kind::Invalid, format!("{subject} is no subject")),
                RequestErrorKind::Other => (Kind::Unavailable, "the connection failed".to_string()),
            };
            return Err(Error::new(kind, message).because(error));
        }
    }

    /// Asks all of these at once, and waits for the answers for as long as one may take.
    pub(super) async fn ask_all(
        &self,
        questions: impl ExactSizeIterator<Item = Question>,
    ) -> Vec<Result<Message, Unanswered>> {
        self.answers.ask_all(&self.client, Deadline::within(self.timeout), questions).await
    }

    /// What a question comes to that nobody has answered in time.
    #[cold]
    pub(super) fn silent(&self) -> Error {
        let message = format!("no answer within {:?}: is it running, and reachable?", self.timeout);
        Error::new(Kind::Unavailable, message)
    }

    /// Asks JetStream's own interface. The outer error: no answer; the inner one: an answer that is one.
    pub(super) async fn api(&self, call: &str, question: &Value) -> Result<Result<Value, Refusal>> {
        let body = if question.is_null() { Bytes::new() } else { serde_json::to_vec(question)?.into() };
        let answer = self.ask(format!("$JS.API.{call}"), None, body).await?;
        Ok(refused(serde_json::from_slice(&answer.payload)?))
    }

    /// The same, where any answer that is an error is one of the call.
    pub(super) async fn must(&self, call: &str, question: &Value) -> Result<Value> {
        self.api(call, question).await?.map_err(|refusal| self.failed(call, &refusal))
    }

    #[cold]
    pub(super) fn failed(&self, call: &str, refusal: &Refusal) -> Error {
        let message = format!("{call}: {} ({})", refusal.description, refusal.code);
        // 503 comes while a cluster has no leader, and when a limit of the account is met
        let kind = if refusal.code / 10_000 == 1 { Kind::Failed } else { Kind::Unavailable };
        Error::new(kind, message)
    }
}

const SILENT: &str = "nobody answers there";
const START: &str = "no NATS server answers there: start one with `nats-server -js`";
const TURN_ON: &str = "start it with `nats-server -js`";

/// The error of an answer that holds one.
pub(super) fn refused(answer: Value) -> Result<Value, Refusal> {
    let Some(error) = answer.get("error") else { return Ok(answer) };
    let code = error.get("err_code").or(error.get("code")).and_then(Value::as_u64).unwrap_or(0);
    let description = error.get("description").and_then(Value::as_str).unwrap_or("an error without a word").to_string();
    Err(Refusal { code, description })
}

/// The URL as it may be shown: without user, password and token.
pub(super) fn without_secret(url: &str) -> String {
    let shown = url.split(',').map(|one| match one.rsplit_once('@') {
        Some((before, after)) => match before.split_once("://") {
            Some((scheme, _)) => format!("{scheme}://{after}"),
            None => after.to_string(),
        },
        None => one.to_string(),
    });
    shown.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(without_secret("nats://joe:pass@host:4222,nats://t0ken@other"), "nats://host:4222,nats://other");
        assert_eq!(without_secret("host"), "host");
    }

    #[test]
    fn answers_that_are_errors() {
        let refusal =
            refused(json!({ "error": { "code": 404, "err_code": 10059, "description": "gone" } })).unwrap_err();
        assert_eq!((refusal.code, refusal.description.as_str()), (NO_STREAM, "gone"));
        assert!(refused(json!({ "error": {} })).is_err());
        assert!(refused(json!({ "seq": 1 })).is_ok());
    }
}
