//! Which shard a request goes to, and what it waits for.
