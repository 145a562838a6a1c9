//! Busybox, as far as the load generator's init container needs it: a shell script that waits for the frontend.

use seedpod::{
    Result,
    base::time,
    pod::{Context, Exit},
};
use std::time::Duration;

/// The image. It runs no shell, but does what the script says: asks for the address in `wget`, as often and with as long
/// pauses as the script sets.
pub(super) async fn busybox(context: Context) -> Result<(), seedpod::BoxError> {
    let words = [context.command(), context.args()].concat();
    let Some(script) = Script::read(&words, |name| context.env(name).map(str::to_string)) else {
        return Err(Exit::new(127, format!("no stand-in for this command: {}", words.join(" "))).into());
    };
    let client = context.http();
    for attempt in 1..=script.tries {
        context.log(format!("Attempt {attempt}: Pinging frontend: {}...", script.url));
        match client.get(&script.url).await {
            Ok(page) if page.status().as_u16() == 200 => {
                context.log("Frontend is reachable.");
                return Ok(());
            }
            Ok(page) => {
                context.log(format!("Error: Could not reach frontend - Status code: {}", page.status().as_u16()))
            }
            Err(error) => context.log(format!("Error: Could not reach frontend - {}", error.chain())),
        }
        time::sleep(script.pause).await;
    }
    Err(Exit::new(1, format!("Failed to reach frontend after {} attempts.", script.tries)).into())
}

/// What there is to do, read out of a script.
#[derive(Debug, PartialEq, Eq)]
struct Script {
    url: String,
    tries: u32,
    pause: Duration,
}

impl Script {
    /// Reads `sh -c`'s script; none where it fetches nothing.
    fn read(command: &[String], env: impl Fn(&str) -> Option<String>) -> Option<Script> {
        let (script, shell) = command.split_last()?;
        if !shell.first()?.ends_with("sh") || !shell.last()?.ends_with('c') {
            return None;
        }
        let set = |name: &str| {
            script.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix('=')?.trim().parse().ok())
        };
        let fetched = script.split_whitespace().skip_while(|word| !word.ends_with("wget"));
        let url = fetched.skip(1).find(|word| !word.starts_with('-'))?;
        Some(Script {
            url: expand(url, env)?,
            tries: set("MAX_RETRIES").unwrap_or(1),
            pause: Duration::from_secs(set("RETRY_INTERVAL").unwrap_or(0).into()),
        })
    }
}

/// Puts the environment in the place of each `${NAME}`; none where one is not set.
fn expand(text: &str, env: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, behind) = after.split_once('}')?;
        expanded.push_str(before);
        expanded.push_str(&env(name)?);
        rest = behind;
    }
    expanded.push_str(rest);
    Some(expanded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: &str = r#"
        MAX_RETRIES=12
        RETRY_INTERVAL=10
        for i in $(seq 1 $MAX_RETRIES); do
          STATUSCODE=$(wget --server-response http://${FRONTEND_ADDR} 2>&1 | awk '/^  HTTP/{print $2}')
        done"#;

    #[test]
    fn the_script_says_what_to_do() {
        let command = ["/bin/sh", "-exc", WAIT].map(str::to_string);
        let read = Script::read(&command, |name| (name == "FRONTEND_ADDR").then(|| "frontend:80".to_string()));
        let url = "http://frontend:80".to_string();
        assert_eq!(read, Some(Script { url, tries: 12, pause: Duration::from_secs(10) }));
        assert_eq!(Script::read(&command, |_| None), None, "the variable is not set");
        assert_eq!(Script::read(&["ls".to_string(), "-l".to_string()], |_| None), None);
        assert_eq!(Script::read(&["sh", "-c", "sleep 1"].map(str::to_string), |_| None), None);
    }
}
