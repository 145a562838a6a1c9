//! A deployment with its service, and what its pods are.

use seedpod::cluster::{
    Cluster,
    object::{Condition, Object, PodStatus},
};

/// A deployment and its service of one name.
pub(crate) fn shop(name: &str, replicas: u32) -> String {
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
      - name: main
        image: web
        readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{port: 80, targetPort: 8080}}]}}
"
    )
}

/// The pods of an app, those about to go left out.
pub(crate) fn pods(cluster: &Cluster, app: &str) -> Vec<Object> {
    let mut pods = cluster.list("pods").unwrap();
    pods.retain(|pod| pod.labels().get("app") == Some(app) && !pod.metadata().is_deleting());
    pods
}

pub(crate) fn ready(pod: &Object) -> bool {
    Condition::holds(&pod.view::<PodStatus>().unwrap().conditions, "Ready")
}
