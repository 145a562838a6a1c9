//! Which lines belong to the one before.

use super::moment::Nanos;

/// When a line belongs to the record before.
#[derive(Clone, Copy, Debug)]
pub(super) enum Joining {
    Never,
    Traces,
    Unless(fn(&str) -> bool),
}

/// A record that may go on.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) first: String,
    pub(super) rest: String,
    pub(super) cut: bool,
    pub(super) arrived: Nanos,
    lines: usize,
    trace: Trace,
}

/// In which kind of stack trace a record is, where lines at its left edge belong to it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Trace {
    None,
    /// Up to the line that names the exception.
    Python,
    /// Calls, each with an indented line below it.
    Go,
}

const BYTES_MAX: usize = 64 * 1024;
const LINES_MAX: usize = 512;

impl Held {
    pub(super) fn new(first: String, cut: bool, arrived: Nanos) -> Self {
        let trace = Trace::begun(&first);
        Held { first, rest: String::new(), cut, arrived, lines: 1, trace }
    }

    /// Takes a line that belongs to it, while there is room.
    pub(super) fn takes(&mut self, joining: &Joining, line: &str) -> bool {
        let room = self.lines < LINES_MAX && self.first.len() + self.rest.len() + line.len() < BYTES_MAX;
        let mut trace = self.trace;
        let belongs = match joining {
            Joining::Never => false,
            Joining::Unless(begins) => !begins(line),
            Joining::Traces => trace.goes_on(line),
        };
        if !belongs || !room {
            return false;
        }
        self.trace = trace;
        if !self.rest.is_empty() {
            self.rest.push('\n');
        }
        self.rest.push_str(line);
        self.lines += 1;
        true
    }
}

impl Trace {
    fn begun(line: &str) -> Self {
        match line {
            _ if line.starts_with("Traceback (most recent call last)") => Trace::Python,
            _ if line.starts_with("goroutine ") => Trace::Go,
            _ => Trace::None,
        }
    }

    fn goes_on(&mut self, line: &str) -> bool {
        const FURTHER: [&str; 9] = [
            "Caused by:",
            "Suppressed:",
            "Traceback (most recent call last)",
            "During handling of the above exception",
            "The above exception was the direct cause",
            "goroutine ",
            "stack backtrace:",
            "note: run with `RUST_BACKTRACE",
            "... ",
        ];
        if line.starts_with([' ', '\t']) {
            return true;
        }
        if FURTHER.iter().any(|beginning| line.starts_with(beginning)) {
            *self = Trace::begun(line);
            return true;
        }
        match self {
            Trace::Python => {
                *self = Trace::None;
                true
            }
            Trace::Go => line.ends_with(')') || line.starts_with("created by ") || line.starts_with("exit status "),
            Trace::None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each text is one record, between two others.
    #[test]
    fn traces_of_five_languages_are_one_record_each() {
        let java = "Exception in thread \"main\" java.lang.Error: no\n\tat a.B.c(B.java:1)\n\t... 2 more\nCaused by: x\n\tat d";
        let python = "ERROR failed\nTraceback (most recent call last):\n  File \"a.py\", line 1\n    f()\nValueError: no\n\
                      During handling of the above exception, another exception occurred:\n\
                      Traceback (most recent call last):\n  File \"b\"\nKeyError: 'x'";
        let go =
            "panic: no\ngoroutine 1 [running]:\nmain.f(0x1)\n\t/a.go:3\nmain.main()\n\t/a.go:9 +0x1\nexit status 2";
        let rust = "thread 'main' panicked at a.rs:1:1: no\nstack backtrace:\n   0: main\n             at ./a.rs:1\n\
                    note: run with `RUST_BACKTRACE=1`";
        let script = "TypeError: no\n    at f (a.js:1:1)\n    at g (b.js:2:2)";
        for text in [java, python, go, rust, script] {
            let mut held = None::<Held>;
            let mut records = 0;
            for line in ["before"].into_iter().chain(text.lines()).chain(["after"]) {
                if held.as_mut().is_some_and(|held| held.takes(&Joining::Traces, line)) {
                    continue;
                }
                held = Some(Held::new(line.into(), false, 0));
                records += 1;
            }
            assert_eq!((records, held.map(|held| held.first).as_deref()), (3, Some("after")), "{text}");
        }
    }

    #[test]
    fn a_record_is_bounded_in_lines_and_bytes() {
        let mut held = Held::new("x".into(), false, 0);
        let taken = (0..10_000).take_while(|_| held.takes(&Joining::Traces, "\tat")).count();
        assert_eq!(taken, LINES_MAX - 1);
        let mut held = Held::new("x".into(), false, 0);
        let long = format!(" {}", "y".repeat(10_000));
        assert_eq!((0..100).take_while(|_| held.takes(&Joining::Traces, &long)).count(), 6);
    }
}
