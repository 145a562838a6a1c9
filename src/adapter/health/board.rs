//! What all checks together say; pure.

use std::fmt::Write;

/// What a check counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Whether the application is alive, and ready.
    Live,
    /// Whether it is ready, alone.
    Ready,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    role: Role,
    /// None until the thresholds have decided: alive until proved otherwise, and ready only once it is.
    passing: Option<bool>,
    pub(super) said: String,
}

impl Entry {
    pub(super) fn passes(&self) -> bool {
        self.passing.unwrap_or(self.role == Role::Live)
    }
}

/// What all checks together say.
#[derive(Clone, Debug, Default)]
pub(super) struct Board {
    pub(super) entries: Vec<Entry>,
    pub(super) stopping: bool,
}

impl Board {
    pub(super) fn new<'a>(checks: impl IntoIterator<Item = (&'a str, Role)>) -> Self {
        let entry = |(name, role): (&str, Role)| Entry { name: name.into(), role, passing: None, said: String::new() };
        Board { entries: checks.into_iter().map(entry).collect(), stopping: false }
    }

    /// Takes down what the thresholds have decided, and what the last check said where it went wrong; whether it is news.
    pub(super) fn record(&mut self, index: usize, passing: Option<bool>, said: String) -> bool {
        let Some(entry) = self.entries.get_mut(index) else { return false };
        let news = entry.passing != passing || entry.said != said;
        (entry.passing, entry.said) = (passing, said);
        news
    }

    /// Whether those that count for this pass, each in a line, in the manner of Kubernetes' own servers.
    pub(super) fn report(&self, role: Role, verbose: bool, title: &str) -> (bool, String) {
        let counted = || self.entries.iter().filter(|entry| role == Role::Ready || entry.role == Role::Live);
        let stopping = self.stopping && role == Role::Ready;
        let good = counted().all(Entry::passes) && !stopping;
        if good && !verbose {
            return (true, "ok".into());
        }
        let mut text = String::new();
        for entry in counted() {
            let _ = match (entry.passes(), entry.said.as_str()) {
                (true, _) => writeln!(text, "[+]{} ok", entry.name),
                (false, "") => writeln!(text, "[-]{} failed: not checked yet", entry.name),
                (false, said) => writeln!(text, "[-]{} failed: {said}", entry.name),
            };
        }
        if stopping {
            text.push_str("[-]shutdown failed: it is stopping\n");
        }
        let _ = writeln!(text, "{title} check {}", if good { "passed" } else { "failed" });
        (good, text)
    }
}
