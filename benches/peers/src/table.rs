//! The table that every case prints, and its verdict.

use crate::{Role, Target};

/// Of one who competes: its role, its name, what was measured round by round.
pub(crate) type Row = (Role, String, Vec<f64>);

/// Prints the table, `notes` under it, and the verdict.
pub(crate) fn print(group: &str, unit: &str, target: Target, mut rows: Vec<Row>, notes: impl FnOnce()) {
    let mut medians = Vec::new();
    for (role, _, measured) in &mut rows {
        measured.sort_by(f64::total_cmp);
        medians.push((*role, measured[measured.len() / 2]));
    }
    let best =
        |wanted| medians.iter().filter(|(role, _)| *role == wanted).map(|(_, each)| *each).min_by(f64::total_cmp);
    let (ours, bare, peer) = (best(Role::Ours), best(Role::Bare), best(Role::Peer));

    println!("{group:<42} {unit:>10}  {:>7} {:>7}  spread", "/bare", "/ours");
    for ((role, name, measured), (_, median)) in rows.iter().zip(&medians) {
        let mark = if *role == Role::Ours { "*" } else { " " };
        let (to_bare, to_ours) = (ratio(Some(*median), bare), ratio(Some(*median), ours));
        let spread = format!("{:.1}..{:.1}", measured[0], measured[measured.len() - 1]);
        println!(" {mark} {name:<39} {median:>10.2}  {to_bare:>7} {to_ours:>7}  {spread}");
    }
    notes();
    let Some(ours) = ours else { return };
    let over = target.over(ours, bare, peer);
    println!("verdict {group} ours_over_target={over:.2} ahead_of_best_peer={}\n", ratio(peer, Some(ours)));
}

fn ratio(of: Option<f64>, to: Option<f64>) -> String {
    of.zip(to).map_or_else(|| "none".to_owned(), |(of, to)| format!("{:.2}", of / to))
}
