//! The live table: drawn over itself on a terminal; otherwise plain lines, half as many, that read well in a log.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

/// One service, as the table shows it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) service: String,
    pub(crate) ready: u32,
    pub(crate) wanted: u32,
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) p50: Option<Duration>,
    pub(crate) p99: Option<Duration>,
    /// On which nodes its pods are, and how many on each.
    pub(crate) nodes: Vec<(String, u32)>,
}

/// Where the table is drawn.
pub(crate) struct Table {
    out: Box<dyn Write + Send>,
    in_place: bool,
    /// Lines on the screen that the next drawing replaces.
    drawn: usize,
}

impl Table {
    pub(crate) fn on_standard_output() -> Self {
        Table { in_place: io::stdout().is_terminal(), ..Table::plain(io::stdout()) }
    }

    /// Plain lines to this writer.
    pub(crate) fn plain(out: impl Write + Send + 'static) -> Self {
        Table { out: Box::new(out), in_place: false, drawn: 0 }
    }

    /// How often it is worth drawing: on a terminal every second, while plain lines would only pile up.
    pub(crate) fn interval(&self) -> Duration {
        Duration::from_secs(if self.in_place { 1 } else { 3 })
    }

    /// Says a line, which stays; the next table is drawn below it.
    pub(crate) fn say(&mut self, line: &str) -> io::Result<()> {
        self.write(&[line.to_string()], 0)
    }

    /// Draws the table, in the place of the one before.
    pub(crate) fn draw(&mut self, heading: &str, rows: &[Row]) -> io::Result<()> {
        let lines = if self.in_place { drawn(heading, rows) } else { compact(heading, rows) };
        self.write(&lines, lines.len())
    }

    /// Writes lines in the place of the last table; the last few of them are to be replaced in turn.
    fn write(&mut self, lines: &[String], replaced: usize) -> io::Result<()> {
        if self.drawn > 0 {
            write!(self.out, "\x1b[{}A\x1b[J", self.drawn)?; // up to the table's first line, and clear from there
        }
        for line in lines {
            writeln!(self.out, "{line}")?;
        }
        self.drawn = if self.in_place { replaced } else { 0 };
        self.out.flush()
    }
}

/// The whole table, within 80 columns: a line that breaks could not be drawn over.
pub(crate) fn drawn(heading: &str, rows: &[Row]) -> Vec<String> {
    let title =
        format!("{:<15}{:>6}{:>9}{:>7}{:>8}{:>8} {}", "SERVICE", "READY", "REQUESTS", "ERRORS", "P50", "P99", "NODES");
    let lines = rows.iter().map(|row| {
        let nodes: Vec<_> = row.nodes.iter().map(|(node, pods)| on(node, *pods)).collect();
        format!(
            "{:<15}{:>6}{:>9}{:>7}{:>8}{:>8} {}",
            row.service,
            format!("{}/{}", row.ready, row.wanted),
            row.requests,
            row.errors,
            millis(row.p50),
            millis(row.p99),
            nodes.join(" ")
        )
    });
    [heading.to_string(), title].into_iter().chain(lines).collect()
}

/// The same for a log, within 100 columns: two services in a line, nodes by what tells them apart.
pub(crate) fn compact(heading: &str, rows: &[Row]) -> Vec<String> {
    let cell = |service: &str, ready: String, requests: String, errors: String, millis: String, nodes: String| {
        format!("{service:<14} {ready:>5} {requests:>6} {errors:>4} {millis:>8} {nodes:<6}")
    };
    let title = ["SERVICE", "READY", "REQ", "ERR", "P50/P99", "NODES"].map(str::to_string);
    let [service, ready, requests, errors, millis, nodes] = title;
    let title = cell(&service, ready, requests, errors, millis, nodes);
    let cells = rows.iter().map(|row| {
        let nodes: Vec<_> = row.nodes.iter().map(|(node, pods)| on(node.trim_start_matches("node-"), *pods)).collect();
        let (ready, millis) = (format!("{}/{}", row.ready, row.wanted), [number(row.p50), number(row.p99)].join("/"));
        cell(&row.service, ready, row.requests.to_string(), row.errors.to_string(), millis, nodes.join(" "))
    });
    let cells: Vec<_> = [title.clone(), title].into_iter().chain(cells).collect();
    let lines = cells.chunks(2).map(|pair| format!("  {}", pair.join("  ").trim_end()));
    [format!("{heading}; latencies in ms")].into_iter().chain(lines).collect()
}

fn on(node: &str, pods: u32) -> String {
    if pods == 1 { node.to_string() } else { format!("{node}×{pods}") }
}

fn millis(duration: Option<Duration>) -> String {
    duration.map_or("-".to_string(), |_| format!("{} ms", number(duration)))
}

fn number(duration: Option<Duration>) -> String {
    match duration.map(|duration| duration.as_secs_f64() * 1000.0) {
        None => "-".to_string(),
        Some(millis) if millis < 10.0 => format!("{millis:.1}"),
        Some(millis) => format!("{millis:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_their_titles() {
        let row = Row {
            service: "recommendation".into(),
            ready: 2,
            wanted: 3,
            requests: 12_345,
            errors: 1,
            p50: Some(Duration::from_micros(1234)),
            p99: Some(Duration::from_millis(250)),
            nodes: vec![("node-1".into(), 2), ("node-3".into(), 1)],
        };
        let lines = drawn("3 s", std::slice::from_ref(&row));
        assert_eq!(lines[1], "SERVICE         READY REQUESTS ERRORS     P50     P99 NODES");
        assert_eq!(lines[2], "recommendation    2/3    12345      1  1.2 ms  250 ms node-1×2 node-3");
        let quiet = Row { service: "ads".into(), ready: 1, wanted: 1, ..Row::default() };
        let lines = compact("3 s", &[row.clone(), row, quiet]);
        let (title, busy) =
            ("SERVICE        READY    REQ  ERR  P50/P99 NODES ", "recommendation   2/3  12345    1  1.2/250 1×2 3 ");
        let quiet = "ads              1/1      0    0      -/-";
        let pair = |text: &str| format!("  {text}  {}", text.trim_end());
        assert_eq!(lines, ["3 s; latencies in ms".to_string(), pair(title), pair(busy), format!("  {quiet}")]);
        assert!(lines.iter().all(|line| line.chars().count() <= 100));
    }
}
