//! The kubelet: runs the pods that are bound to nodes, and tells how they are.
//!
//! It stands for the kubelets of all nodes. It may use `pod` and `net`, and refuses to know who wanted a pod and why:
//! it reads pods, nodes, config maps, secrets and services, and writes pods' statuses.
//!
//! - [`Kubelet`]: starts, follows and stops — start here
//! - `translate`, `status`: from object to running pod, and back
//! - `site`: what a pod's declarations are resolved against
//! - `variables`, `volumes`: what containers find around them
//! - `addresses`: pods' addresses, node by node
//! - `follow`: a running pod's changes into its status and events

mod addresses;
mod follow;
mod runner;
mod site;
mod status;
mod translate;
mod variables;
mod volumes;

pub(super) use runner::{Kubelet, Running};

const NAME: &str = "kubelet";

/// Why a pod cannot be started yet.
#[derive(Debug)]
struct Problem {
    reason: &'static str,
    message: String,
}

impl Problem {
    fn config(message: String) -> Self {
        Problem { reason: "CreateContainerConfigError", message }
    }
}
