//! Redis, as far as `PING`.

use seedpod::{
    Error, Kind, Result,
    net::{Connection, Host},
    pod::Context,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

const PONG: &[u8] = b"+PONG\r\n";

/// The image.
pub(super) async fn redis(context: Context) -> Result {
    let mut listener = context.listen(6379).await?;
    loop {
        tokio::select! {
            biased;
            () = context.stopped() => return Ok(()),
            connection = listener.accept() => {
                context.spawn(answer(connection?));
            }
        }
    }
}

/// Answers until the client hangs up. Commands come as arrays of strings (`*1 $4 PING`) or in one line (`PING`).
async fn answer(connection: Connection) -> std::io::Result<()> {
    let mut connection = BufReader::new(connection);
    let mut line = String::new();
    while connection.read_line(&mut line).await? > 0 {
        let command = line.trim_end().to_ascii_uppercase();
        line.clear();
        match command.as_bytes().first() {
            None | Some(b'*' | b'$') => {} // how long the command and its words are: the words come in lines anyhow
            Some(_) if command == "PING" => connection.write_all(PONG).await?,
            Some(_) => connection.write_all(b"-ERR unknown command\r\n").await?,
        }
    }
    Ok(())
}

/// Asks a Redis whether it is there.
pub(super) async fn ping(host: &Host, address: &str) -> Result {
    let mut connection = host.connect(address).await?;
    connection.write_all(b"*1\r\n$4\r\nPING\r\n").await?;
    let mut answer = [0; PONG.len()];
    connection.read_exact(&mut answer).await?;
    match answer == PONG {
        true => Ok(()),
        false => Err(Error::new(Kind::Failed, format!("{answer:?} is no answer to PING")).at(address)),
    }
}
