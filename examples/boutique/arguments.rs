//! The command line, read by hand: five options do not need a library.

use super::HELP;
use seedpod::{Error, Kind, Result, base::Seed};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) seed: Seed,
    pub(crate) length: Duration,
    pub(crate) serve: Option<SocketAddr>,
    pub(crate) manifest: Option<PathBuf>,
    pub(crate) help: bool,
}

impl Arguments {
    /// Reads the arguments that follow the program's name.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut parsed = Arguments {
            seed: Seed::ambient(),
            length: Duration::from_secs(13), // with start and end about 15 s
            serve: None,
            manifest: None,
            help: false,
        };
        let mut arguments = arguments.into_iter().peekable();
        while let Some(option) = arguments.next() {
            match option.as_str() {
                "--help" | "-h" => parsed.help = true,
                "--seed" => parsed.seed = Seed::new(number(&option, arguments.next())?),
                "--seconds" => parsed.length = Duration::from_secs(number(&option, arguments.next())?.clamp(1, 86_400)),
                "--manifest" => parsed.manifest = Some(given(&option, arguments.next())?.into()),
                "--serve" => {
                    let address = arguments.next_if(|next| !next.starts_with("--"));
                    let address = address.unwrap_or_else(|| "127.0.0.1:8080".to_string());
                    parsed.serve = Some(address.parse().map_err(|error| {
                        mistake(format!("--serve takes an address such as 127.0.0.1:8080, not {address:?}"))
                            .because(error)
                    })?);
                }
                other => return Err(mistake(format!("{other:?} is no option of this program"))),
            }
        }
        Ok(parsed)
    }
}

fn given(option: &str, value: Option<String>) -> Result<String> {
    value.ok_or_else(|| mistake(format!("{option} needs a value")))
}

fn number(option: &str, value: Option<String>) -> Result<u64> {
    let value = given(option, value)?;
    value.parse().map_err(|_| mistake(format!("{option} takes a whole number, not {value:?}")))
}

fn mistake(message: String) -> Error {
    Error::new(Kind::Invalid, format!("{message}\n\n{HELP}")).at("command line")
}
