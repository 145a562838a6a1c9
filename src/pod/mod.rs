//! Floor 2: what runs. Containers share an address, volumes and their fate in a pod.
//!
//! It may use `base`, `net`, and `http` in files behind that feature. It refuses to know where a pod comes from and what
//! it is for: objects, scheduling, services and brokers are for the floors above, which reach a container through its
//! environment and an untyped resource map.
//!
//! - [`Container`]: runs until told to stop; any async function of a [`Context`] is one — start here
//! - [`Context`]: the world as a container sees it
//! - [`Pod`], [`PodSpec`], [`ContainerSpec`]: containers declared, started, watched, stopped, killed
//! - [`Status`]: phase, conditions, container states
//! - [`Probe`], [`Hook`]: started, alive, ready; after start, before stop
//! - [`RestartPolicy`]: whether and when they run again
//! - [`Image`], [`Images`]: containers under names
//! - [`Volume`]: files that the containers of a pod share
//! - [`serve`]: the pump from connections to calls
//!
//! Inside, `machine` decides (pure: events and the time in, orders out), `keeper` obeys (tasks, scopes, timers),
//! `errand` is what runs beside it, and `handle` is what the owner holds.

mod container;
mod context;
mod declared;
mod errand;
mod handle;
#[cfg(feature = "http")]
mod http;
mod images;
mod keeper;
mod log;
mod machine;
mod probe;
mod resources;
mod restart;
mod serve;
mod slot;
mod spec;
mod status;
mod volume;

pub use container::{Container, Exit, Image, Output};
pub use context::Context;
pub use handle::{Observer, Pod};
pub use images::Images;
pub use log::{LOG_BYTES_MAX, LOG_LINES_MAX, Line};
#[cfg(feature = "serving")]
pub(crate) use probe::ask;
#[cfg(feature = "adapter")]
pub(crate) use probe::run as check;
pub use probe::{Check, CheckFunction, Probe};
#[cfg(any(feature = "serving", feature = "adapter"))]
pub(crate) use probe::{Outcome as Checked, Prober};
pub use resources::Resources;
pub use restart::RestartPolicy;
pub use serve::{Serve, serve};
pub use spec::{ContainerSpec, Hook, Mount, PodSpec, Port};
pub use status::{Condition, ContainerStatus, Phase, State, Status, Terminated};
pub use volume::{VOLUME_BYTES_MAX, Volume, VolumeWatch};
