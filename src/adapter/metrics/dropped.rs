//! Why something was not taken in.

/// Why a line, a value or a series was not taken in. Each is counted, and the counts are a metric themselves:
/// `seedpod_adapter_dropped_total{reason="…"}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Dropped {
    /// The line does not have the form it should have.
    Malformed,
    /// The line is longer than the bound.
    TooLong,
    /// A value that is no number: a text, nothing, a list where none is expected.
    NotANumber,
    /// Infinite, not a number, or a sum that would become so.
    NotFinite,
    /// Less than nothing of what can only grow, or of what is observed in buckets.
    Negative,
    /// Nothing is left of the name, or it begins like those of the adapter itself.
    Name,
    /// The same series a second time in one document, or the same label twice on one series.
    Duplicate,
    /// The name belongs to a metric of another type, or to the parts of a histogram.
    TypeConflict,
    /// A new series, while there are as many as may be.
    SeriesLimit,
    /// Nested deeper than is followed.
    TooDeep,
    /// Understood, and without a counterpart in Prometheus: sets, events, service checks of StatsD.
    Unsupported,
}

impl Dropped {
    /// All reasons, in their order.
    pub const ALL: [Dropped; 11] = [
        Dropped::Malformed,
        Dropped::TooLong,
        Dropped::NotANumber,
        Dropped::NotFinite,
        Dropped::Negative,
        Dropped::Name,
        Dropped::Duplicate,
        Dropped::TypeConflict,
        Dropped::SeriesLimit,
        Dropped::TooDeep,
        Dropped::Unsupported,
    ];

    /// As it stands in the label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Dropped::Malformed => "malformed",
            Dropped::TooLong => "too_long",
            Dropped::NotANumber => "not_a_number",
            Dropped::NotFinite => "not_finite",
            Dropped::Negative => "negative",
            Dropped::Name => "name",
            Dropped::Duplicate => "duplicate",
            Dropped::TypeConflict => "type_conflict",
            Dropped::SeriesLimit => "series_limit",
            Dropped::TooDeep => "too_deep",
            Dropped::Unsupported => "unsupported",
        }
    }
}
