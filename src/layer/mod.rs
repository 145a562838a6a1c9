//! Floor 1: Service → Service.
//!
//! Layers that change when and how often a call is made. It may use `base` and, in files of its own, the plain types of
//! the `http` crate; it refuses to know endpoints, connections, queues and whoever calls it.
//!
//! - [`retry`]: [`RetryLayer`], try again what may help, under one budget — start here
//! - [`deadline`]: [`DeadlineLayer`], every call ends in time
//! - [`hedge`]: [`HedgeLayer`], make the slowest calls a second time, and take the first success
//! - [`timeout`]: [`TimeoutLayer`] per attempt, [`TotalTimeoutLayer`] for the whole call
//! - `idle` (feature `http`): `IdleLayer`, a body that stops coming ends
//! - [`limit`]: [`ConcurrencyLimitLayer`], so many calls at a time; more wait in a bounded line or are refused
//! - [`adaptive`]: [`AdaptiveLimitLayer`], as many as the service takes without slowing down
//! - [`bulkhead`]: [`BulkheadLayer`], such a limit for each key, so that none takes everything
//! - [`shed`]: [`ShedLayer`], refuse rather than wait for readiness
//! - [`rate`]: [`RateLimitLayer`], so many calls per time, together or by key, and when to come back
//! - [`admission`]: [`AdmissionLayer`], send less to a service that refuses much
//! - [`breaker`]: [`BreakerLayer`], stop calling who fails or is slow, and probe when it is well again
//! - [`shadow`]: [`ShadowLayer`], send a copy of some requests to another service; [`split`]: [`Split`], by weight
//! - [`fault`]: [`FaultLayer`], delay and fail calls on purpose
//! - [`cache`]: [`CacheLayer`], answers are kept and given again, within bounds
//! - `cache::http` (feature `http`): `HttpCacheLayer`, the same as HTTP has it: freshness, `Vary`, validators
//! - [`idempotency`]: [`IdempotencyLayer`], a repeated request gets the first answer
//! - [`coalesce`]: [`CoalesceLayer`], who asks the same at the same time shares one call
//! - [`budget`]: [`Budget`], how much extra load all the trying again may add
//! - [`classify`]: [`Classify`], what a result says of the endpoint and of trying again
//! - [`attempt`]: what the attempts of one request know of each other
//! - [`metadata`]: [`Metadata`], what layers must know of a request; [`Request`], a plain message that carries it
//! - `http` (feature `http`): requests of the `http` crate carry it too; `HttpStatus` reads responses
//!
//! # Readiness
//!
//! Layers that only pass a call on forward `poll_ready` and call the very instance that became ready. Those that choose
//! or re-issue (retry here, replicas above) are always ready: they clone the service once per attempt and drive its
//! readiness inside the call's future, under the request's deadline, so that nothing waits for what the call does not
//! need. The cost: back-pressure shows as a slower or refused call, never as `Pending` before it. The probe in
//! `testing::readiness` holds every layer to this rule, yours too.

pub mod adaptive;
pub mod admission;
pub mod attempt;
pub mod breaker;
pub mod budget;
pub mod bulkhead;
pub mod cache;
pub mod classify;
pub mod coalesce;
pub mod deadline;
pub mod fault;
mod flight;
mod gate;
pub mod hedge;
#[cfg(feature = "http")]
pub mod http;
pub mod idempotency;
#[cfg(feature = "http")]
pub mod idle;
pub mod limit;
pub mod metadata;
mod moment;
pub(crate) mod on_call;
pub mod rate;
pub mod retry;
pub mod shadow;
pub mod shed;
pub mod split;
pub mod timeout;
pub(crate) mod timer;

pub use adaptive::{AdaptiveLimit, AdaptiveLimitHandle, AdaptiveLimitLayer, Gradient2};
pub use admission::{Admission, AdmissionHandle, AdmissionLayer, Throttle};
pub use breaker::{Breaker, BreakerHandle, BreakerLayer, Circuit, Forced, Trip, Window};
pub use budget::Budget;
pub use bulkhead::{Bulkhead, BulkheadHandle, BulkheadLayer};
#[cfg(feature = "http")]
pub use cache::http::{HttpCache, HttpCacheHandle, HttpCacheLayer, HttpCacheStats, KeptBody};
pub use cache::{Cache, CacheHandle, CacheLayer, CacheStats};
pub use classify::{Classify, Standard};
pub use coalesce::{Coalesce, CoalesceHandle, CoalesceLayer};
pub use deadline::{DeadlineLayer, DeadlineService};
pub use fault::{Fault, FaultHandle, FaultLayer, Injection};
pub use hedge::{Hedge, HedgeHandle, HedgeLayer};
#[cfg(feature = "http")]
pub use http::HttpStatus;
#[cfg(feature = "http")]
pub use idempotency::http::{HttpIdempotency, HttpIdempotencyLayer, HttpSuccess, KeptAnswer};
pub use idempotency::{
    Claim, Held, Idempotency, IdempotencyHandle, IdempotencyKey, IdempotencyLayer, IdempotencyMemory, IdempotencyStats,
    IdempotencyStore,
};
#[cfg(feature = "http")]
pub use idle::{Idle, IdleBody, IdleHandle, IdleLayer};
pub use limit::{ConcurrencyLimit, ConcurrencyLimitHandle, ConcurrencyLimitLayer, Limited};
pub use metadata::{Metadata, Request};
pub use rate::{Rate, RateKey, RateLimit, RateLimitHandle, RateLimitLayer};
pub use retry::{Retry, RetryHandle, RetryLayer};
pub use shadow::{Shadow, ShadowHandle, ShadowLayer};
pub use shed::{Shed, ShedHandle, ShedLayer};
pub use split::{Split, SplitBy, SplitHandle};
pub use timeout::{Timeout, TimeoutHandle, TimeoutLayer, TotalTimeout, TotalTimeoutLayer};
