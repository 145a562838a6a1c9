//! Bytes there and back over tokio's pipe in memory.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};

/// Sends back what it reads, until the end.
pub async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut space = [0; 16 << 10];
    while let Ok(read @ 1..) = stream.read(&mut space).await {
        if stream.write_all(&space[..read]).await.is_err() {
            return;
        }
    }
}

/// So many round trips of 64 bytes; says whether all went well.
pub async fn trips(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), count: u64) -> bool {
    let mut bytes = [7; 64];
    for _ in 0..count {
        if stream.write_all(&bytes).await.is_err() || stream.read_exact(&mut bytes).await.is_err() {
            return false;
        }
    }
    true
}

/// A pipe with an echo at its other end, of the size that ours has.
pub fn connect() -> DuplexStream {
    let (here, there) = duplex(64 << 10);
    tokio::spawn(echo(there));
    here
}
