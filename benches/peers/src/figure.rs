//! Figures that are no time: counted once, the same in every run.

use crate::{Role, Target, selected, table};

/// One case of a subject, and the figure of each who competes in it: the lower the better.
pub struct Figure {
    name: String,
    unit: &'static str,
    target: Target,
    rows: Vec<table::Row>,
}

impl Figure {
    /// A case of this name, as `subject/case`, in this unit.
    pub fn new(name: impl Into<String>, unit: &'static str, target: Target) -> Self {
        Figure { name: name.into(), unit, target, rows: Vec::new() }
    }

    /// Ours.
    #[must_use]
    pub fn ours(self, name: &str, figure: impl FnOnce() -> f64) -> Self {
        self.row(Role::Ours, name, figure)
    }

    /// What an expert writes by hand for this one case.
    #[must_use]
    pub fn bare(self, name: &str, figure: impl FnOnce() -> f64) -> Self {
        self.row(Role::Bare, name, figure)
    }

    /// What a user would pick instead.
    #[must_use]
    pub fn peer(self, name: &str, figure: impl FnOnce() -> f64) -> Self {
        self.row(Role::Peer, name, figure)
    }

    /// What helps to read the others.
    #[must_use]
    pub fn beside(self, name: &str, figure: impl FnOnce() -> f64) -> Self {
        self.row(Role::Beside, name, figure)
    }

    fn row(mut self, role: Role, name: &str, figure: impl FnOnce() -> f64) -> Self {
        if selected(&self.name) {
            self.rows.push((role, name.to_owned(), vec![figure()]));
        }
        self
    }

    /// Prints the table and the verdict, if it was asked for.
    pub fn run(self) {
        if selected(&self.name) {
            table::print(&self.name, self.unit, self.target, self.rows, || ());
        }
    }
}
