//! CPU time: rounds over all cases in turn, medians, the table and the verdict.

use crate::{Group, Role, Work, apart, table};
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
    let mut rows: Vec<table::Row> =
        group.cases.iter().map(|(role, name, _)| (*role, name.clone(), Vec::with_capacity(rounds))).collect();
    for _ in 0..rounds {
        for (((_, _, work), count), (_, _, measured)) in group.cases.iter_mut().zip(&counts).zip(&mut rows) {
            measured.push(nanos(*count, work));
        }
    }
    table::print(&group.name, "ns", group.target, rows, || {
        if group.counted == 0 {
            return;
        }
        for (_, name, _) in group.cases.iter().filter(|(role, ..)| matches!(role, Role::Ours | Role::Bare)) {
            match instructions(&group.name, name, group.counted) {
                Some(count) => println!("   {name:<39} {count:>10.1} instructions"),
                None => println!("   {name:<39} instructions not counted: needs valgrind"),
            }
        }
    });
}

pub(crate) fn setting(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// The CPU time that this process has used, over all its threads.
pub(crate) fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Of the operations alone, without what was done [apart].
fn nanos(count: u64, work: &mut Work<'_>) -> f64 {
    apart::taken();
    let start = cpu();
    work(count);
    let spent = cpu() - start;
    spent.saturating_sub(Duration::from_nanos(apart::taken())).as_secs_f64() * 1e9 / count as f64
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
fn instructions(group: &str, case: &str, operations: u64) -> Option<f64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"])
        .args(["--toggle-collect=*seedpod_peers_counted_region*", "--toggle-collect=*seedpod_peers_apart*"])
        .arg(env::current_exe().ok()?)
        .args(["--counted", group, case])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let collected =
        text.lines().find_map(|line| line.split_once("Collected : ").map(|(_, count)| count.trim().to_owned()))?;
    Some(collected.parse::<f64>().ok()? / operations as f64)
}
