//! Manifests: YAML or JSON in, objects or all mistakes at once out.
