//! What stands for HTTP where the feature `http` is off.

use super::board::{Board, Role};
use crate::{
    base::{Error, Kind, Result},
    pod::Context,
};
use tokio::sync::watch;

pub(super) async fn answer(_: &Context, port: u16, board: &watch::Sender<Board>) -> Result {
    let message = "serving health needs the feature `http` of seedpod";
    let checks = board.borrow().report(Role::Ready, true, "readyz").1;
    Err(Error::new(Kind::Unsupported, message).at(format!("port {port}")).because(checks))
}
