//! The bounds of a manifest, so that no text costs more than its size.

use serde_saphyr::Options;

/// A text may be this long, in bytes.
pub const TEXT_BYTES: usize = 16 << 20;
/// A document may be this long, in bytes: what etcd takes in one request.
pub const DOCUMENT_BYTES: usize = 3 << 19;
/// A text may have this many documents.
pub const DOCUMENTS: usize = 4096;
/// A document may have this many values.
pub const VALUES: usize = 250_000;
/// The aliases of a text may repeat this many values, in all its documents together.
pub const REPEATS: usize = 10_000;
/// A document may nest this deep.
pub const DEPTH: usize = 64;
/// This many mistakes are listed; of the others only the number is told.
pub const MISTAKES: usize = 100;
/// This many warnings are given for one object.
pub const WARNINGS: usize = 100;
/// To find all values of a wrong type an object is read again, as often as makes this many bytes: of a large one some
/// mistakes are told only when the first have been mended.
pub const READ_AGAIN: usize = 16 << 20;

/// How YAML is read: YAML 1.2's booleans, `0644` an octal number, everything bounded.
pub(super) fn yaml() -> Options {
    serde_saphyr::options! {
        strict_booleans: true,
        legacy_octal_numbers: true,
        budget: serde_saphyr::budget! {
            max_depth: DEPTH,
            flow_nesting_limit: DEPTH,
            max_nodes: VALUES,
            max_events: 4 * VALUES,
            max_documents: 2,
            max_total_scalar_bytes: DOCUMENT_BYTES,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: REPEATS,
            max_alias_expansions_per_anchor: 1024,
        },
    }
}
