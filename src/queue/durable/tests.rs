//! What the broker on disk keeps, over openings of the same bytes.
