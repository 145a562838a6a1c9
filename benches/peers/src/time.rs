//! CPU time: rounds over all cases in turn, medians, the table and the verdict.

use crate::{COUNTED, Group, Role, Work};
use std::{
    env,
    process::{Command, Stdio},
    time::Duration,
};

/// Measures and prints.
pub(crate) fn measure(group: &mut Group<'_>) {
    let rounds = setting("PEERS_ROUNDS", 11).max(1) as usize;
    let slice = Duration::from_millis(setting("PEERS_SLICE_MS", 20));
    let counts: Vec<u64> = group.cases.iter_mut().map(|(_, _, work)| operations_in(slice, work)).collect();
    let mut measured: Vec<Vec<f64>> = vec![Vec::with_capacity(rounds); group.cases.len()];
    for _ in 0..rounds {
        for (((_, _, work), count), measured) in group.cases.iter_mut().zip(&counts).zip(&mut measured) {
            measured.push(nanos(*count, work));
        }
    }
    measured.iter_mut().for_each(|nanos| nanos.sort_by(f64::total_cmp));
    let median: Vec<f64> = measured.iter().map(|nanos| nanos[rounds / 2]).collect();
    let of = |role| group.cases.iter().zip(&median).filter(move |((of, ..), _)| *of == role).map(|(_, nanos)| *nanos);
    let best = |role| of(role).min_by(f64::total_cmp);
    let (ours, bare, peer) = (best(Role::Ours), best(Role::Bare), best(Role::Peer));

    println!("{:<24} {:<36} {:>9}  {:>7} {:>7}  spread", group.name, "", "ns", "/bare", "/ours");
    for (((role, name, _), nanos), all) in group.cases.iter().zip(&median).zip(&measured) {
        let mark = if *role == Role::Ours { "*" } else { " " };
        let (to_bare, to_ours) = (ratio(Some(*nanos), bare), ratio(Some(*nanos), ours));
        let spread = format!("{:.1}..{:.1}", all[0], all[rounds - 1]);
        println!("{:<24} {mark}{name:<35} {nanos:>9.2}  {to_bare:>7} {to_ours:>7}  {spread}", "");
    }
    for (_, name, _) in group.cases.iter().filter(|(role, ..)| matches!(role, Role::Ours | Role::Bare)) {
        match instructions(&group.name, name) {
            Some(count) => println!("{:<24}  {name:<35} {count:>9.1} instructions", ""),
            None => println!("{:<24}  {name:<35} instructions not counted: no valgrind here", ""),
        }
    }
    let Some(ours) = ours else { return };
    let ahead = peer.map(|peer| peer / ours);
    let behind = group.target.ahead.zip(ahead).map_or(0.0, |(target, ahead)| target / ahead);
    let over = (ours / group.target.nanos).max(behind);
    println!("verdict {} ours_over_target={over:.2} ahead_of_best_peer={}\n", group.name, ratio(peer, Some(ours)));
}

fn ratio(of: Option<f64>, to: Option<f64>) -> String {
    of.zip(to).map_or_else(|| "none".to_owned(), |(of, to)| format!("{:.2}", of / to))
}

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// The CPU time that this process has used, over all its threads.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn nanos(count: u64, work: &mut Work<'_>) -> f64 {
    let start = cpu();
    work(count);
    (cpu() - start).as_secs_f64() * 1e9 / count as f64
}

/// How many operations fill a slice; running them warms up, too.
fn operations_in(slice: Duration, work: &mut Work<'_>) -> u64 {
    let mut count = 16;
    loop {
        let each = nanos(count, work).max(0.01);
        if each * count as f64 >= slice.as_nanos() as f64 / 4.0 || count > 1 << 32 {
            return (slice.as_nanos() as f64 / each).max(1.0) as u64;
        }
        count *= 4;
    }
}

/// Instructions per operation, counted by callgrind in another process.
fn instructions(group: &str, case: &str) -> Option<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .arg("--toggle-collect=*seedpod_peers_counted_region*")
        .arg(env::current_exe().ok()?)
        .args(["--counted", group, case])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected =
        text.lines().find_map(|line| line.split_once("Collected : ").map(|(_, count)| count.trim().to_owned()))?;
    Some(collected.parse::<f64>().ok()? / COUNTED as f64)
}
