//! Connections that have carried bursts, and are idle: tokio's pipes.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, duplex};

/// How much a burst carries, each way.
pub const BURST: u32 = 32 << 10;

/// Four bursts there and back; says whether all went well.
pub async fn bursts(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> bool {
    let mut bytes = vec![1; BURST as usize];
    for _ in 0..4 {
        let sent = stream.write_u32(BURST).await.is_ok() && stream.write_all(&bytes).await.is_ok();
        if !sent || stream.read_exact(&mut bytes).await.is_err() {
            return false;
        }
    }
    true
}

/// Sends bursts back; holds no buffer between them.
pub async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    while let Ok(length) = stream.read_u32().await {
        let mut bytes = vec![0; length as usize];
        if stream.read_exact(&mut bytes).await.is_err() || stream.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// So many idle pipes, of the size that ours have.
pub async fn hold(count: u64) -> Vec<DuplexStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        let (mut here, there) = duplex(64 << 10);
        tokio::spawn(answer(there));
        assert!(bursts(&mut here).await);
        held.push(here);
    }
    held
}
