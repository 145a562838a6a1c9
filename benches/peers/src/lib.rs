//! The harness that all subjects share: CPU time, interleaved, median of several rounds.
//!
//! A [`Group`] is one case of a subject: ours, the bare thing and the peers, each a closure that does so many operations.
//! Rounds go over all of them in turn, so that whatever else the machine does hits each alike. It prints a table and
//! closes with one line:
//!
//! ```text
//! verdict replicas/typed/10 ours_over_target=0.52 ahead_of_best_peer=14.1
//! ```
//!
//! Arguments: a word selects the groups whose name contains it. `PEERS_ROUNDS` (11) and `PEERS_SLICE_MS` (20) set how long
//! it measures. Built with `--features allocations` it counts allocations instead. Where `valgrind` is at hand, the bare
//! thing's and our instructions per operation are printed too.

pub mod bare;

use std::{
    env,
    hint::black_box,
    process::{Command, Stdio},
    time::Duration,
};

/// How many operations callgrind is shown.
const COUNTED: u64 = 20_000;

/// A closure that does so many operations.
type Work<'a> = Box<dyn FnMut(u64) + 'a>;

#[derive(Clone, Copy, PartialEq)]
enum Role {
    Ours,
    Bare,
    Peer,
    /// Measured for the reader; the verdict passes over it.
    Beside,
}

/// What must hold of ours.
#[derive(Clone, Copy)]
pub struct Target {
    /// Nanoseconds per operation, at most.
    pub nanos: f64,
    /// How many times ahead of the best peer, at least.
    pub ahead: Option<f64>,
}

/// One case of a subject and all who compete in it.
pub struct Group<'a> {
    name: String,
    target: Target,
    cases: Vec<(Role, String, Work<'a>)>,
}

impl<'a> Group<'a> {
    /// A case of this name, as `subject/case`.
    pub fn new(name: impl Into<String>, target: Target) -> Self {
        Group { name: name.into(), target, cases: Vec::new() }
    }

    /// Ours.
    #[must_use]
    pub fn ours(self, name: &str, work: impl FnMut(u64) + 'a) -> Self {
        self.case(Role::Ours, name, work)
    }

    /// What an expert writes by hand for this one case.
    #[must_use]
    pub fn bare(self, name: &str, work: impl FnMut(u64) + 'a) -> Self {
        self.case(Role::Bare, name, work)
    }

    /// What a user would pick instead.
    #[must_use]
    pub fn peer(self, name: &str, work: impl FnMut(u64) + 'a) -> Self {
        self.case(Role::Peer, name, work)
    }

    /// What helps to read the others.
    #[must_use]
    pub fn beside(self, name: &str, work: impl FnMut(u64) + 'a) -> Self {
        self.case(Role::Beside, name, work)
    }

    fn case(mut self, role: Role, name: &str, work: impl FnMut(u64) + 'a) -> Self {
        self.cases.push((role, name.to_owned(), Box::new(work)));
        self
    }

    /// Measures and prints.
    pub fn run(mut self) {
        let arguments: Vec<String> = env::args().skip(1).collect();
        if let [flag, group, case] = &arguments[..]
            && flag == "--counted"
        {
            // we are the child under callgrind
            for (_, name, work) in self.cases.iter_mut().filter(|(_, name, _)| *group == self.name && name == case) {
                work(COUNTED / 4); // warm: first calls fill caches
                black_box(name);
                seedpod_peers_counted_region(work);
            }
            return;
        }
        if arguments.first().is_some_and(|word| word.starts_with("--") || !self.name.contains(word.as_str())) {
            return;
        }
        self.measure();
    }

    #[cfg(feature = "allocations")]
    fn measure(&mut self) {
        for (_, name, work) in &mut self.cases {
            work(64);
            let seen = allocation_counter::measure(|| work(1000));
            println!("{:<24} {name:<36} {:>8.3} allocations", self.name, seen.count_total as f64 / 1000.0);
        }
    }

    #[cfg(not(feature = "allocations"))]
    fn measure(&mut self) {
        let rounds = setting("PEERS_ROUNDS", 11).max(1) as usize;
        let slice = Duration::from_millis(setting("PEERS_SLICE_MS", 20));
        let counts: Vec<u64> = self.cases.iter_mut().map(|(_, _, work)| operations_in(slice, work)).collect();
        let mut measured: Vec<Vec<f64>> = vec![Vec::with_capacity(rounds); self.cases.len()];
        for _ in 0..rounds {
            for (((_, _, work), count), measured) in self.cases.iter_mut().zip(&counts).zip(&mut measured) {
                measured.push(nanos(*count, work));
            }
        }
        measured.iter_mut().for_each(|nanos| nanos.sort_by(f64::total_cmp));
        let median: Vec<f64> = measured.iter().map(|nanos| nanos[rounds / 2]).collect();
        let of =
            |role| self.cases.iter().zip(&median).filter(move |((of, ..), _)| *of == role).map(|(_, nanos)| *nanos);
        let best = |role| of(role).min_by(f64::total_cmp);
        let (ours, bare, peer) = (best(Role::Ours), best(Role::Bare), best(Role::Peer));

        println!("{:<24} {:<36} {:>9}  {:>7} {:>7}  spread", self.name, "", "ns", "/bare", "/ours");
        for (((role, name, _), nanos), all) in self.cases.iter().zip(&median).zip(&measured) {
            let mark = if *role == Role::Ours { "*" } else { " " };
            let (to_bare, to_ours) = (ratio(Some(*nanos), bare), ratio(Some(*nanos), ours));
            let spread = format!("{:.1}..{:.1}", all[0], all[rounds - 1]);
            println!("{:<24} {mark}{name:<35} {nanos:>9.2}  {to_bare:>7} {to_ours:>7}  {spread}", "");
        }
        for (_, name, _) in self.cases.iter().filter(|(role, ..)| matches!(role, Role::Ours | Role::Bare)) {
            match instructions(&self.name, name) {
                Some(count) => println!("{:<24}  {name:<35} {count:>9.1} instructions", ""),
                None => println!("{:<24}  {name:<35} instructions not counted: no valgrind here", ""),
            }
        }
        let Some(ours) = ours else { return };
        let ahead = peer.map(|peer| peer / ours);
        let behind = self.target.ahead.zip(ahead).map_or(0.0, |(target, ahead)| target / ahead);
        let over = (ours / self.target.nanos).max(behind);
        println!("verdict {} ours_over_target={over:.2} ahead_of_best_peer={}\n", self.name, ratio(peer, Some(ours)));
    }
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

#[cfg_attr(feature = "allocations", expect(dead_code, reason = "counts instead"))]
fn nanos(count: u64, work: &mut Work<'_>) -> f64 {
    let start = cpu();
    work(count);
    (cpu() - start).as_secs_f64() * 1e9 / count as f64
}

/// How many operations fill a slice; running them warms up, too.
#[cfg_attr(feature = "allocations", expect(dead_code, reason = "counts instead"))]
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

/// What callgrind collects; found by its name.
#[inline(never)]
fn seedpod_peers_counted_region(work: &mut Work<'_>) {
    work(COUNTED);
    black_box(());
}

/// Instructions per operation, counted by callgrind in another process.
#[cfg_attr(feature = "allocations", expect(dead_code, reason = "counts instead"))]
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
