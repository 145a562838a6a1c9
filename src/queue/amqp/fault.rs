//! What the client says went wrong, as an error of ours: its kind, and what to do about it.

use super::address::Address;
use crate::base::{Error, Kind};
use lapin::{
    ErrorKind,
    protocol::{AMQPError, AMQPErrorKind, AMQPHardError, AMQPSoftError},
};
use std::{io, time::Duration};

/// What to start where no RabbitMQ is.
const START: &str = "start RabbitMQ there, such as with Debian's package rabbitmq-server \
                     or `docker run -p 5672:5672 rabbitmq`";

/// A call that failed.
#[cold]
pub(super) fn of_call(error: lapin::Error) -> Error {
    let (kind, message) = match error.kind() {
        ErrorKind::ProtocolError(refusal) => of_refusal(refusal),
        ErrorKind::ChannelsLimitReached => (Kind::Overloaded, "the server opens no more channels"),
        ErrorKind::SerialisationError(_) => (Kind::Invalid, "AMQP cannot express it"),
        _ => (Kind::Unavailable, "the connection was lost"),
    };
    Error::new(kind, message).because(error)
}

fn of_refusal(refusal: &AMQPError) -> (Kind, &'static str) {
    let text = refusal.get_message().as_str();
    match refusal.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) if text.contains("down or inaccessible") => {
            (Kind::Unavailable, "its queue is not there for now")
        }
        AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND) => (Kind::NotFound, "it is not declared"),
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) if text.contains("inequivalent") => {
            (Kind::Conflict, "it is declared otherwise")
        }
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) if text.contains("message size") => {
            (Kind::Invalid, "the message is larger than the server takes")
        }
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) if text.contains("timed out") => {
            (Kind::LeaseLost, "it was held for longer than the server's consumer_timeout")
        }
        AMQPErrorKind::Soft(AMQPSoftError::CONTENTTOOLARGE) => {
            (Kind::Invalid, "the message is larger than the server takes")
        }
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => (Kind::Rejected, "this user may not do that"),
        AMQPErrorKind::Soft(_) => (Kind::Failed, "the server refused it"),
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => (Kind::Rejected, "the server does not allow it"),
        AMQPErrorKind::Hard(_) => (Kind::Unavailable, "the server closed the connection"),
    }
}

/// A server that could not be connected to.
#[cold]
pub(super) fn of_connecting(error: lapin::Error, address: &Address) -> Error {
    let (kind, message) = match error.kind() {
        ErrorKind::ProtocolError(refusal) => match refusal.kind() {
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => (
                Kind::Rejected,
                "it does not know this user with this password; from elsewhere than the server's own \
                                  machine RabbitMQ takes no guest"
                    .to_string(),
            ),
            AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => {
                let host = address.virtual_host();
                (Kind::Rejected, format!("it has no virtual host {host:?} that this user may use"))
            }
            _ => (Kind::Unavailable, "the server closed the connection".to_string()),
        },
        ErrorKind::IOError(io) if io.kind() == io::ErrorKind::ConnectionRefused => {
            (Kind::Unavailable, format!("nothing listens there; {START}"))
        }
        ErrorKind::ParsingError(_) | ErrorKind::InvalidProtocolVersion(_) => {
            (Kind::Unsupported, format!("what answers there does not speak AMQP 0-9-1; {START}"))
        }
        ErrorKind::IOError(_) => (Kind::Unavailable, format!("the connection was lost at once; {START}")),
        _ => (Kind::Unavailable, format!("it could not be connected to; {START}")),
    };
    Error::new(kind, message).because(error)
}

/// It took the connection, and then said nothing.
#[cold]
pub(super) fn silent(patience: Duration) -> Error {
    let message =
        format!("it took the connection and said nothing for {patience:?}: it hangs, or is no RabbitMQ; {START}");
    Error::new(Kind::Unavailable, message)
}
