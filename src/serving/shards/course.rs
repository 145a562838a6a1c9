//! What a step of a rebalance does next, whatever happens; who serves its keys meanwhile. Pure.

/// How far a step has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Stage {
    Copying,
    Sealing,
    HandingOver,
    Committing,
    Cleaning,
    Over,
}

/// What became of what a stage does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Event {
    Done,
    Failed,
    /// Its commit was refused: another map counts.
    Overtaken,
    /// Nobody waits for it any more.
    Dropped,
}

/// What to do then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Then {
    Go(Stage),
    /// The same stage again, or leave it: nothing is in the way of who serves.
    Again,
    /// Decide that the keys stay where they are, by the same owners under the step's version; then begin anew, or leave it.
    Undo,
    /// Leave it as it is: a map that counts elsewhere has decided, or will.
    Leave,
}

impl Stage {
    /// `outside`: whether it is decided outside this process which map counts.
    pub(super) fn then(self, event: Event, outside: bool) -> Then {
        match (self, event) {
            (Stage::Over, _) => Then::Leave,
            (stage, Event::Done) => Then::Go(stage.following()),
            (_, Event::Overtaken) => Then::Leave,
            // the keys have arrived
            (Stage::Cleaning, Event::Failed) => Then::Again,
            (Stage::Cleaning, Event::Dropped) => Then::Leave,
            // from outside comes what is decided, and whoever is dropped has no time to ask
            (_, Event::Dropped) if outside => Then::Leave,
            // it may count already
            (Stage::Committing, Event::Failed) if outside => Then::Again,
            // also where nothing is sealed: the next try must not have this one's version
            (Stage::Copying | Stage::Sealing | Stage::HandingOver | Stage::Committing, _) => Then::Undo,
        }
    }

    fn following(self) -> Stage {
        match self {
            Stage::Copying => Stage::Sealing,
            Stage::Sealing => Stage::HandingOver,
            Stage::HandingOver => Stage::Committing,
            Stage::Committing => Stage::Cleaning,
            Stage::Cleaning | Stage::Over => Stage::Over,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Stage::Copying => "copy",
            Stage::Sealing => "seal",
            Stage::HandingOver => "hand-over",
            Stage::Committing => "commit",
            Stage::Cleaning => "clean",
            Stage::Over => "end",
        }
    }
}
