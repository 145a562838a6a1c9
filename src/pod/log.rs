//! What a container said: a bounded ring of lines, and that of the instance before.

use std::{collections::VecDeque, mem, sync::Arc, time::SystemTime};

/// Most lines that are kept per instance.
pub const LOG_LINES_MAX: usize = 4096;
/// Most bytes of text that are kept per instance.
pub const LOG_BYTES_MAX: usize = 256 * 1024;

/// One line that a container logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When, on the pod's wall clock.
    pub at: SystemTime,
    /// The text, without a line end.
    pub text: Arc<str>,
}

/// The log of one container: its current (or last) instance and the one before.
///
/// At the bound the oldest lines go, and are counted. A line longer than the bound is cut to it.
#[derive(Debug, Default)]
pub(crate) struct Log {
    current: Ring,
    previous: Option<Box<Ring>>,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Line>,
    bytes: usize,
    dropped: u64,
}

impl Log {
    /// A new instance begins: what there was is the previous instance's now.
    pub(crate) fn begin(&mut self) {
        self.previous = Some(Box::new(mem::take(&mut self.current)));
    }

    /// Adds this text, line by line.
    pub(crate) fn push(&mut self, at: SystemTime, text: &str) {
        if text.is_empty() {
            self.current.push(at, text);
        }
        for line in text.lines() {
            self.current.push(at, line);
        }
    }

    /// The lines that are kept, oldest first.
    pub(crate) fn lines(&self, previous: bool) -> Vec<Line> {
        self.ring(previous).map(|ring| ring.lines.iter().cloned().collect()).unwrap_or_default()
    }

    /// How many lines were dropped at the bound.
    pub(crate) fn dropped(&self, previous: bool) -> u64 {
        self.ring(previous).map_or(0, |ring| ring.dropped)
    }

    fn ring(&self, previous: bool) -> Option<&Ring> {
        if previous { self.previous.as_deref() } else { Some(&self.current) }
    }
}

impl Ring {
    fn push(&mut self, at: SystemTime, text: &str) {
        let text = cut(text, LOG_BYTES_MAX);
        while self.lines.len() >= LOG_LINES_MAX || (self.bytes + text.len() > LOG_BYTES_MAX && !self.lines.is_empty()) {
            self.bytes -= self.lines.pop_front().map_or(0, |line| line.text.len());
            self.dropped += 1;
        }
        self.bytes += text.len();
        if self.lines.capacity() == 0 {
            self.lines.reserve_exact(1); // many containers say one thing, once
        }
        self.lines.push_back(Line { at, text: text.into() });
    }
}

/// The text up to this many bytes, cut between two characters.
fn cut(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEN: SystemTime = SystemTime::UNIX_EPOCH;

    fn texts(log: &Log, previous: bool) -> Vec<String> {
        log.lines(previous).iter().map(|line| line.text.to_string()).collect()
    }

    #[test]
    fn a_restart_keeps_the_instance_before() {
        let mut log = Log::default();
        log.push(THEN, "one\ntwo");
        log.begin();
        log.push(THEN, "three");
        assert_eq!((texts(&log, true), texts(&log, false)), (vec!["one".into(), "two".into()], vec!["three".into()]));
        log.begin();
        assert_eq!((texts(&log, true), texts(&log, false)), (vec!["three".to_string()], vec![]));
    }

    #[test]
    fn bounded_in_lines_and_bytes() {
        let mut log = Log::default();
        for index in 0..LOG_LINES_MAX + 7 {
            log.push(THEN, &index.to_string());
        }
        assert_eq!((log.lines(false).len(), log.dropped(false)), (LOG_LINES_MAX, 7));
        assert_eq!(&*log.lines(false)[0].text, "7");

        log.push(THEN, &"ü".repeat(LOG_BYTES_MAX)); // twice the bound in bytes
        let lines = log.lines(false);
        assert_eq!((lines.len(), lines[0].text.len()), (1, LOG_BYTES_MAX));
        assert_eq!(log.dropped(false), 7 + LOG_LINES_MAX as u64);
        log.push(THEN, "after");
        assert_eq!(texts(&log, false), ["after"]);
    }

    #[test]
    fn a_hundred_thousand_random_lines_stay_within_the_bounds() {
        let mut log = Log::default();
        let mut rng = crate::base::Seed::new(1).rng();
        let mut sent = 0;
        for _ in 0..100_000 {
            log.push(THEN, &"x".repeat(1 + rng.below(200) as usize));
            sent += 1;
            assert!(log.current.bytes <= LOG_BYTES_MAX && log.current.lines.len() <= LOG_LINES_MAX);
        }
        assert_eq!(log.dropped(false) + log.lines(false).len() as u64, sent);
        assert_eq!(log.current.bytes, log.lines(false).iter().map(|line| line.text.len()).sum::<usize>());
    }
}
