//! The command line, read by hand: five options do not need a library.

use super::HELP;
use seedpod::{Error, Kind, Result, base::Seed};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// What the command line asks for.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) seed: Seed,
    pub(crate) seconds: Option<Duration>,
    pub(crate) serve: Option<SocketAddr>,
    pub(crate) manifest: Option<PathBuf>,
    pub(crate) help: bool,
}

impl Arguments {
    /// Reads the arguments that follow the program's name.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut parsed = Arguments { seed: Seed::ambient(), seconds: None, serve: None, manifest: None, help: false };
        let mut arguments = arguments.into_iter().peekable();
        while let Some(option) = arguments.next() {
            match option.as_str() {
                "--help" | "-h" => parsed.help = true,
                "--seed" => parsed.seed = Seed::new(number(&option, arguments.next())?),
                "--seconds" => {
                    parsed.seconds = Some(Duration::from_secs(number(&option, arguments.next())?.clamp(1, 86_400)));
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments> {
        Arguments::parse(line.split_whitespace().map(str::to_string))
    }

    #[test]
    fn options_in_any_order() {
        let parsed = parse("--serve --seed 7 --seconds 20").unwrap();
        assert_eq!(parsed.serve, Some(([127, 0, 0, 1], 8080).into()));
        assert_eq!((parsed.seed, parsed.seconds), (Seed::new(7), Some(Duration::from_secs(20))));
        assert_eq!(parse("--serve [::1]:0").unwrap().serve.unwrap().port(), 0);
        assert!(parse("-h").unwrap().help);
    }

    #[test]
    fn mistakes_are_named() {
        for (line, mistake) in [
            ("--sed 7", r#""--sed" is no option of this program"#),
            ("--seed", "--seed needs a value"),
            ("--seed x", r#"--seed takes a whole number, not "x""#),
            ("--serve 80", r#"--serve takes an address such as 127.0.0.1:8080, not "80""#),
        ] {
            assert_eq!(parse(line).unwrap_err().message().lines().next(), Some(mistake));
        }
    }
}
