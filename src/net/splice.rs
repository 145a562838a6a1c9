//! Two connections joined into one: what a byte proxy does.

use super::Connection;
use crate::base::Result;
use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncWrite, ReadBuf};

/// What is read at once; on the stack, so that an idle splice holds no buffer.
const PIECE: usize = 8 << 10;

/// Joins two connections: what one sends the other receives, until both directions have ended. The bytes that went from
/// the first to the second, and back.
///
/// A half-close passes through, and so does a reset: where one side fails, both are reset, since copying and dropping
/// would make an orderly end of it. At most 8 KiB wait per direction beside the connections' own buffers, and only
/// where the receiver is the slower one.
///
/// # Errors
/// What failed first.
///
/// **Cancel-safety**: dropping it drops both connections.
pub async fn splice(mut first: Connection, mut second: Connection) -> Result<(u64, u64)> {
    let (mut there, mut back) = (Direction::default(), Direction::default());
    let ended = poll_fn(|cx| {
        let one = there.poll(&mut first, &mut second, cx)?;
        let two = back.poll(&mut second, &mut first, cx)?;
        if one.is_ready() && two.is_ready() { Poll::Ready(Ok::<_, io::Error>(())) } else { Poll::Pending }
    });
    if let Err(error) = ended.await {
        first.reset();
        second.reset();
        return Err(error.into());
    }
    Ok((there.bytes, back.bytes))
}

#[derive(Default)]
struct Direction {
    /// What was read and did not fit in at once, and how much of it has been written since.
    rest: Vec<u8>,
    written: usize,
    bytes: u64,
    state: State,
}

#[derive(Default)]
enum State {
    #[default]
    Copying,
    Ending,
    Ended,
}

impl Direction {
    fn poll(&mut self, from: &mut Connection, to: &mut Connection, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while let Some(rest @ [_, ..]) = self.rest.get(self.written..) {
                self.written += ready!(Pin::new(&mut *to).poll_write(cx, rest))?;
            }
            if self.written > 0 {
                (self.rest, self.written) = (Vec::new(), 0);
            }
            match self.state {
                State::Copying => {}
                State::Ending => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.state = State::Ended;
                    return Poll::Ready(Ok(()));
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
            let mut space = [const { MaybeUninit::uninit() }; PIECE];
            let mut piece = ReadBuf::uninit(&mut space);
            let registered = ready!(from.poll_piece(cx, &mut piece))?;
            let piece = piece.filled();
            if piece.is_empty() {
                self.state = State::Ending;
                continue;
            }
            self.bytes += piece.len() as u64;
            let written = match Pin::new(&mut *to).poll_write(cx, piece)? {
                Poll::Ready(written) => written,
                Poll::Pending => 0,
            };
            if written < piece.len() {
                self.rest = piece.get(written..).unwrap_or_default().to_vec();
            } else if registered {
                return Poll::Pending;
            }
        }
    }
}
