//! What an observer sees of the network in memory, and what a fault rule is asked about.

use super::Origin;
use crate::base::hash;
use std::{fmt, net::SocketAddr};

/// A connection that is about to be made: what a rule in `Faults<Connect>` judges.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Connect {
    /// Who connects.
    pub from: Origin,
    /// The destination as the caller gave it, resolved: perhaps a virtual address.
    pub wanted: SocketAddr,
    /// Where it really goes, by the directory and by interception.
    pub to: SocketAddr,
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// The one that connected.
    Client,
    /// The one that listened.
    Server,
}

impl Side {
    pub(super) fn of(index: usize) -> Side {
        if index == 0 { Side::Client } else { Side::Server }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Client => "client",
            Side::Server => "server",
        })
    }
}

/// Something that crossed the network in memory, in the order in which it happened.
///
/// Printed, it is one line of a log that two runs of the same seed can be compared by: bytes stand there as their
/// length and hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A connection was made. Links are numbered from 1 in the order of the attempts.
    Connect {
        /// The connection's number.
        link: u64,
        /// The client's address.
        from: SocketAddr,
        /// The listener's address.
        to: SocketAddr,
        /// The destination that was meant, where an interception brought it elsewhere.
        original: Option<SocketAddr>,
    },
    /// A connection was refused: nobody listens, no such host, a full backlog, or a fault.
    Refuse {
        /// The number it would have had.
        link: u64,
        /// Where it would have gone.
        to: SocketAddr,
    },
    /// Bytes were taken from a writer.
    Write {
        /// The connection's number.
        link: u64,
        /// Who wrote.
        side: Side,
        /// What.
        bytes: &'a [u8],
    },
    /// A side has ended its direction in order.
    End {
        /// The connection's number.
        link: u64,
        /// Who ended.
        side: Side,
    },
    /// Both directions were cut.
    Reset {
        /// The connection's number.
        link: u64,
    },
}

impl fmt::Display for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Connect { link, from, to, original: None } => write!(f, "{link} connect {from} {to}"),
            Event::Connect { link, from, to, original: Some(original) } => {
                write!(f, "{link} connect {from} {to} for {original}")
            }
            Event::Refuse { link, to } => write!(f, "{link} refuse {to}"),
            Event::Write { link, side, bytes } => {
                write!(f, "{link} {side} write {} {:016x}", bytes.len(), hash::of(bytes))
            }
            Event::End { link, side } => write!(f, "{link} {side} end"),
            Event::Reset { link } => write!(f, "{link} reset"),
        }
    }
}
