//! What is asked of the checks over HTTP and gRPC; pure.

use super::board::{Board, Role};

/// What gRPC's health interface says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answered {
    Serving = 1,
    NotServing = 2,
    Unknown = 3,
}

impl Board {
    /// The adapter ends: nothing is ready any more.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Whether the check of this name passes, and what it says.
    pub(super) fn one(&self, name: &str) -> Option<(bool, &str)> {
        let entry = self.entries.iter().find(|entry| entry.name == name)?;
        Some((entry.passes(), &entry.said))
    }

    /// What gRPC is told of a service: the empty name is all together, else that of a check.
    pub(super) fn serving(&self, service: &str) -> Answered {
        let good = match service {
            "" => self.report(Role::Ready, false, "").0,
            name => match self.one(name) {
                Some((passes, _)) => passes && !self.stopping,
                None => return Answered::Unknown,
            },
        };
        if good { Answered::Serving } else { Answered::NotServing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alive_until_proved_otherwise_and_ready_only_once_it_is() {
        let mut board = Board::new([("app", Role::Live), ("redis", Role::Ready)]);
        assert_eq!(board.report(Role::Live, false, "healthz"), (true, "ok".into()));
        let (good, text) = board.report(Role::Ready, false, "readyz");
        assert_eq!((good, &*text), (false, "[+]app ok\n[-]redis failed: not checked yet\nreadyz check failed\n"));
        assert_eq!(board.serving(""), Answered::NotServing);
        assert!(board.record(1, Some(true), String::new()) && !board.record(1, Some(true), String::new()));
        assert_eq!(
            (board.serving(""), board.serving("redis"), board.serving("x")),
            (Answered::Serving, Answered::Serving, Answered::Unknown)
        );
        board.record(0, Some(false), "no".into());
        assert_eq!(board.report(Role::Live, false, "healthz").1, "[-]app failed: no\nhealthz check failed\n");
        assert!(!board.report(Role::Ready, false, "readyz").0, "what is dead is not ready");
        board.record(0, Some(true), String::new());
        board.stop();
        assert!(board.report(Role::Live, false, "").0 && !board.report(Role::Ready, false, "").0);
        assert_eq!((board.serving(""), board.serving("redis")), (Answered::NotServing, Answered::NotServing));
    }
}
