//! seedpod's default features alone, as a consumer sees them: nothing of HTTP, Kubernetes or brokers beside it.
