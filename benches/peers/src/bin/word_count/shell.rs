//! The same by the tools of the shell.

use super::{Corpus, Counts};
use std::{fs, io, process::Command, time::Duration};

/// What `tr | sort | uniq -c` counts, and the CPU time of all its processes.
pub fn count(corpus: &Corpus) -> io::Result<(Counts, Duration)> {
    let begin = of_children()?;
    let script = "cat *.txt | tr -s '[:space:]' '\\n' | sort | uniq -c";
    let output = Command::new("sh").args(["-c", script]).env("LC_ALL", "C").current_dir(&corpus.folder).output()?;
    let spent = of_children()? - begin;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let line = |line: &[u8]| {
        let line = line.trim_ascii_start();
        let blank = line.iter().position(|byte| *byte == b' ')?;
        let count = std::str::from_utf8(&line[..blank]).ok()?.parse().ok()?;
        Some((line[blank + 1..].to_vec(), count))
    };
    let counts = output.stdout.split(|byte| *byte == b'\n').filter_map(line);
    Ok((counts.filter(|(word, _)| !word.is_empty()).collect(), spent))
}

/// The CPU time of all children that have ended, which the system counts in hundredths of a second.
fn of_children() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields.split_whitespace().skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(10 * ticks))
}
