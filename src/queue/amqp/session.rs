//! One connection to the server, its channels, and the bound on every call: what does not answer in time is dead.

use super::{address::Address, fault};
use crate::base::{
    Error, Kind, Result,
    sync::{
        Lock,
        atomic::{AtomicBool, Ordering},
    },
    time,
};
use lapin::{
    Channel, Connection, ConnectionProperties,
    options::{ChannelFlowOptions, ConfirmSelectOptions},
    protocol::constants::REPLY_SUCCESS,
};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::runtime::Handle;

/// How many idle channels of each kind are kept open.
const IDLE_MAX: usize = 256;

/// How long a connection that ends waits for the server to say goodbye; it may hang, and come back.
const GOODBYE: Duration = Duration::from_secs(60);

/// A channel that leases came over: it stays open while one of them holds.
pub(super) type Lane = Arc<Channel>;

/// A connection, and what is open on it. Once dead it stays dead; leases that came over it are lost.
pub(super) struct Session {
    pub(super) number: u64,
    patience: Duration,
    connection: Arc<Connection>,
    dead: AtomicBool,
    lanes: Lock<Vec<Lane>>,
    publishers: Lock<Vec<Channel>>,
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// They say what to start where no server is there, and what is wrong where another is.
    pub(super) async fn connect(address: &Address, patience: Duration, number: u64) -> Result<Session> {
        let properties = ConnectionProperties::default().with_connection_name("seedpod".into());
        let connecting = Connection::connect_uri(address.uri(), properties);
        let connection = match within(patience, connecting).await {
            Some(Ok(connection)) => connection,
            Some(Err(error)) => return Err(fault::of_connecting(error, address)),
            None => return Err(fault::silent(patience)),
        };
        Ok(Session {
            number,
            patience,
            connection: Arc::new(connection),
            dead: AtomicBool::new(false),
            lanes: Lock::default(),
            publishers: Lock::default(),
        })
    }

    /// Whether it can still be used.
    pub(super) fn is_alive(&self) -> bool {
        !self.dead.load(Ordering::Acquire) && self.connection.status().connected()
    }

    /// One call to the server. One that does not answer in time takes the connection down with it: what came of it is
    /// unknown, and a connection that is silent once would be silent again.
    ///
    /// # Errors
    /// Those of the server; a time-out. Where they happened is the caller's to say.
    pub(super) async fn call<T>(&self, call: impl Future<Output = lapin::Result<T>>) -> Result<T> {
        match within(self.patience, call).await {
            Some(Ok(value)) => Ok(value),
            Some(Err(error)) => Err(fault::of_call(error)),
            None => {
                self.close();
                let blocked = self.connection.status().blocked();
                let why = if blocked { ": it is short of memory or disk, and takes no messages" } else { "" };
                Err(Error::new(Kind::Timeout, format!("the server did not answer within {:?}{why}", self.patience)))
            }
        }
    }

    /// Ends it. To let go of it would not do: the client keeps a consumer that nobody has heard of yet, and the channel
    /// with it, so that a server which answers late would go on sending messages to nobody.
    fn close(&self) {
        if self.dead.swap(true, Ordering::AcqRel) {
            return;
        }
        let (connection, patience) = (self.connection.clone(), GOODBYE.max(self.patience));
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let _ = within(patience, connection.close(REPLY_SUCCESS, "OK".into())).await;
            });
        }
    }

    /// A channel to lease over, for one call at a time.
    ///
    /// # Errors
    /// Those of the server.
    pub(super) async fn lane(&self) -> Result<Lane> {
        while let Some(lane) = self.idle(&self.lanes) {
            if lane.status().connected() {
                return Ok(lane);
            }
        }
        Ok(Arc::new(self.call(self.connection.create_channel()).await?))
    }

    /// Lends the channel to the next call.
    pub(super) fn idle_lane(&self, lane: Lane) {
        keep(&self.lanes, lane, |lane| lane.status().connected());
    }

    /// A channel for what the server may refuse, which closes it.
    ///
    /// # Errors
    /// Those of the server.
    pub(super) async fn scratch(&self) -> Result<Channel> {
        self.call(self.connection.create_channel()).await
    }

    /// A channel whose publishes are confirmed, for one call at a time: the client takes the message that the server
    /// returned last for the one that it confirms next, which is right only while one call waits.
    ///
    /// # Errors
    /// Those of the server.
    pub(super) async fn publisher(&self) -> Result<Channel> {
        while let Some(channel) = self.idle(&self.publishers) {
            if channel.status().connected() {
                return Ok(channel);
            }
        }
        let channel = self.call(self.connection.create_channel()).await?;
        self.call(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        Ok(channel)
    }

    /// Lends the channel to the next publish. One on which confirms are outstanding must not come here.
    pub(super) fn idle_publisher(&self, channel: Channel) {
        keep(&self.publishers, channel, |channel| channel.status().connected());
    }

    /// Waits until the server has worked through all that was sent over this channel before.
    ///
    /// # Errors
    /// Those of the server.
    pub(super) async fn flush(&self, lane: &Channel) -> Result {
        self.call(lane.channel_flow(ChannelFlowOptions { active: true })).await.map(drop)
    }

    fn idle<C>(&self, channels: &Lock<Vec<C>>) -> Option<C> {
        channels.lock().pop()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}

fn keep<C>(channels: &Lock<Vec<C>>, channel: C, is_open: impl Fn(&C) -> bool) {
    let mut channels = channels.lock();
    if channels.len() < IDLE_MAX && is_open(&channel) {
        channels.push(channel);
    }
}

/// What comes of this within so long.
async fn within<T>(wait: Duration, call: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        outcome = call => Some(outcome),
        () = time::sleep(wait) => None,
    }
}
