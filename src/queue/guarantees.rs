//! What brokers guarantee, as a table: native, by other means, or refused.

use super::Guarantees;
use std::fmt::Write;

/// A row: what it is called, and whether a broker has it of its own.
type Row = (&'static str, fn(&Guarantees) -> bool);

/// What the broker itself must do.
const OWN: &[Row] = &[
    ("at least once, leases, fencing", |_| true),
    ("survives the process and the machine", |it| it.durable),
    ("atomic steps", |it| it.atomic_step),
    ("state", |it| it.state),
    ("ids remembered", |it| it.dedup.is_some()),
    ("priorities", |it| it.priorities),
    ("delays", |it| it.delays),
    ("order per key", |it| it.key_order),
    ("first in, first out", |it| it.first_in_first_out),
    ("exact capacity", |it| it.exact_capacity),
    ("history for late subscriptions", |it| it.history),
];

/// What stands above the broker, by what of it, and whether there is enough for it.
const ABOVE: &[(Row, &str)] = &[
    (("levels with ageing, fair tenants", |_| true), "a topic per line"),
    (("dead letters, redrive, quarantine", |_| true), "topics"),
    (("request and reply", |_| true), "two topics"),
    (("unique keys, cancel, progress, results, pause", Guarantees::keeps_rows), "rows of state"),
    (("limits between processes", |it| it.state), "rows of state"),
    (("cron without a leader", |it| it.keeps_rows() || it.dedup.is_some()), "the last tick, or ids remembered"),
];

impl Guarantees {
    /// These brokers side by side, as a table in Markdown: what each does natively, by which other means, or refuses.
    ///
    /// ```
    /// use seedpod::queue::{Guarantees, Memory};
    /// let table = Guarantees::table(&[Memory::GUARANTEES]);
    /// assert!(table.starts_with("| | memory |\n| --- | --- |\n"));
    /// assert!(table.contains("| survives the process and the machine | refused |\n"));
    /// assert!(table.contains("| priorities | native |\n"));
    /// ```
    pub fn table(brokers: &[Guarantees]) -> String {
        let mut table = String::from("| |");
        brokers.iter().for_each(|broker| table.extend([" ", broker.name, " |"]));
        table.push_str("\n| --- |");
        brokers.iter().for_each(|_| table.push_str(" --- |"));
        table.push('\n');
        let own = OWN.iter().map(|row| (row, "native"));
        for ((name, has), how) in own.chain(ABOVE.iter().map(|(row, how)| (row, *how))) {
            let _ = write!(table, "| {name} |");
            for broker in brokers {
                let emulated = broker.emulated.iter().find(|(row, _)| row == name).map(|(_, how)| *how);
                let cell = match (has(broker), emulated) {
                    (false, None) => "refused".to_string(),
                    (false, Some(why)) => format!("refused: {why}"),
                    (true, None) if how == "native" => how.to_string(),
                    (true, how_else) => format!("emulated: {}", how_else.unwrap_or(how)),
                };
                let _ = write!(table, " {cell} |");
            }
            table.push('\n');
        }
        table
    }

    /// Whether the table has a row of this name: what [`emulated`](Guarantees::emulated) may speak of.
    pub fn is_row(name: &str) -> bool {
        OWN.iter().chain(ABOVE.iter().map(|(row, _)| row)).any(|(row, _)| *row == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::Memory;
    use std::time::Duration;

    #[test]
    fn native_emulated_and_refused() {
        let other = Guarantees {
            durable: true,
            delays: true,
            dedup: Some(Duration::from_secs(120)),
            emulated: &[("delays", "a queue per delay"), ("state", "the server has none")],
            ..Guarantees::none("other")
        };
        assert!(other.emulated.iter().all(|(row, _)| Guarantees::is_row(row)));
        let table = Guarantees::table(&[Memory::GUARANTEES, other]);
        for row in [
            "| | memory | other |",
            "| survives the process and the machine | refused | native |",
            "| delays | native | emulated: a queue per delay |",
            "| state | native | refused: the server has none |",
            "| levels with ageing, fair tenants | emulated: a topic per line | emulated: a topic per line |",
            "| limits between processes | emulated: rows of state | refused |",
        ] {
            assert!(table.lines().any(|line| line == row), "{row}\nis not in\n{table}");
        }
    }
}
