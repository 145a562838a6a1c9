//! What must hold of ours.

/// What must hold of ours: a figure, or so many times the bare thing; and how far ahead of the best peer.
#[derive(Clone, Copy)]
pub struct Target {
    figure: Option<f64>,
    of_bare: Option<f64>,
    ahead: Option<f64>,
}

impl Target {
    /// At most this many nanoseconds per operation.
    pub const fn nanos(nanos: f64) -> Target {
        Target { figure: Some(nanos), of_bare: None, ahead: None }
    }

    /// At most this many bytes each.
    pub const fn bytes(bytes: f64) -> Target {
        Target::nanos(bytes)
    }

    /// At most so many times the bare thing, measured in the same run.
    pub const fn of_bare(times: f64) -> Target {
        Target { figure: None, of_bare: Some(times), ahead: None }
    }

    /// At least so many times ahead of the best peer.
    #[must_use]
    pub const fn ahead(mut self, times: f64) -> Target {
        self.ahead = Some(times);
        self
    }

    /// How far ours is over it, where it misses most: at most 1 passes.
    pub(crate) fn over(&self, ours: f64, bare: Option<f64>, peer: Option<f64>) -> f64 {
        let figure = self.figure.map(|figure| ours / figure);
        let of_bare = self.of_bare.zip(bare).map(|(times, bare)| ours / (times * bare));
        let ahead = self.ahead.zip(peer).map(|(times, peer)| times * ours / peer);
        figure.into_iter().chain(of_bare).chain(ahead).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_several_counts() {
        let target = Target::nanos(10.0).ahead(4.0);
        assert_eq!(target.over(5.0, None, None), 0.5);
        assert_eq!(target.over(5.0, None, Some(40.0)), 0.5);
        assert_eq!(target.over(5.0, None, Some(10.0)), 2.0);
        assert_eq!(Target::of_bare(0.5).over(6.0, Some(10.0), None), 1.2);
    }
}
