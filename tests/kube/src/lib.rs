//! seedpod against the Kubernetes ecosystem's own types. Everything here is a test.
