//! Request and reply over two topics: a `tower::Service` on one side, a pump around a service on the other.

mod caller;
mod responder;

pub use caller::Caller;
pub use responder::{Respond, Responder, respond};

/// Where the reply goes: a topic.
const REPLY_TO: &str = "reply-to";
/// Which request a reply answers: the request's id.
const CORRELATION: &str = "correlation-id";
/// For how long the caller waits after it published, in milliseconds.
const WITHIN: &str = "reply-within";
/// What a reply that is an error says it is: its kind in words.
const ERROR: &str = "error";
