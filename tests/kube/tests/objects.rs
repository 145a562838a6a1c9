//! Our objects, read and written by k8s-openapi's types, come back as they were: field names, types and forms are
//! Kubernetes' own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may fail loudly")]

use k8s_openapi::api::{apps::v1 as apps, core::v1 as core, discovery::v1 as discovery};
use seedpod::cluster::{
    manifest,
    object::{
        Condition, ContainerState, ContainerStatus, DeploymentStatus, Endpoint, EndpointConditions, EndpointPort,
        EndpointSlice, Event, EventSource, Kind, Metadata, NodeAddress, NodeSpec, NodeStatus, Object, ObjectReference,
        OwnerReference, PodIp, PodPhase, PodStatus, Protocol, ReplicaSetStatus, Running, Taint, TaintEffect,
        Terminated, Timestamp, Waiting,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Through theirs and back: nothing is lost, renamed or written in another form.
fn round_trip<T: Serialize + DeserializeOwned>(object: &Object) {
    let ours = object.write(7);
    let theirs: T = serde_json::from_str(&ours).unwrap_or_else(|error| panic!("{error}: {ours}"));
    let back = serde_json::to_string(&theirs).unwrap();
    let (ours, theirs): (Value, Value) = (serde_json::from_str(&ours).unwrap(), serde_json::from_str(&back).unwrap());
    assert_eq!(ours, theirs);
    let again = Object::read(&back).unwrap();
    assert_eq!(again.write(7), object.write(7));
}

const SHOP: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: cart
  labels: {app: cart}
  annotations: {note: "1"}
spec:
  selector:
    matchLabels: {app: cart}
    matchExpressions: [{key: tier, operator: NotIn, values: [db]}]
  template:
    metadata:
      labels: {app: cart}
    spec:
      initContainers:
      - {name: wait, image: busybox, command: [sh, -c, "true"]}
      - {name: proxy, image: proxy, restartPolicy: Always}
      containers:
      - name: main
        image: shop/cart:v1
        args: [--port, "80"]
        ports: [{name: web, containerPort: 80}]
        env:
        - {name: A, value: b}
        - {name: B, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: C, valueFrom: {configMapKeyRef: {name: c, key: k, optional: true}}}
        - {name: D, valueFrom: {secretKeyRef: {name: s, key: k}}}
        - {name: E, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}
        envFrom: [{prefix: X_, configMapRef: {name: c}}, {secretRef: {name: s}}]
        resources: {limits: {cpu: 0.5, memory: 1Gi}}
        volumeMounts: [{name: data, mountPath: /data, readOnly: true, subPath: a}]
        livenessProbe: {httpGet: {port: web, httpHeaders: [{name: a, value: b}]}}
        readinessProbe: {grpc: {port: 80}}
        startupProbe: {exec: {command: [a]}, failureThreshold: 30}
        lifecycle: {preStop: {sleep: {seconds: 1}}, postStart: {tcpSocket: {port: 80}}}
        securityContext: {runAsUser: 1000}
      volumes:
      - {name: data}
      - {name: settings, configMap: {name: c, items: [{key: a, path: b, mode: 0400}]}}
      - {name: keys, secret: {secretName: s, optional: true}}
      nodeSelector: {disk: ssd}
      tolerations: [{key: gpu, operator: Exists, effect: NoExecute, tolerationSeconds: 5}]
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: cart}}}
      serviceAccountName: cart
      hostname: cart
---
apiVersion: v1
kind: Service
metadata: {name: cart}
spec:
  type: NodePort
  selector: {app: cart}
  ports:
  - {name: web, port: 80, targetPort: web, nodePort: 30080}
  - {name: more, port: 81, protocol: UDP}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: c}, data: {a: b}, binaryData: {c: eA==}, immutable: true}
---
{apiVersion: v1, kind: Secret, metadata: {name: s}, stringData: {a: b}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: cart}, automountServiceAccountToken: false}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop}, status: {phase: Active}}
"#;

#[test]
fn manifests_with_their_defaults() {
    let objects = manifest::parse(SHOP).unwrap();
    let [deployment, service, map, secret, account, namespace] = objects.as_slice() else { panic!("{objects:?}") };
    round_trip::<apps::Deployment>(deployment);
    round_trip::<core::Service>(service);
    round_trip::<core::ConfigMap>(map);
    round_trip::<core::Secret>(secret);
    round_trip::<core::ServiceAccount>(account);
    round_trip::<core::Namespace>(namespace);
}

#[test]
fn what_controllers_write() {
    let now = Timestamp::unix_seconds(1_893_456_000);
    let deployment = manifest::parse(SHOP).unwrap().remove(0);
    let condition = Condition::new("Available", true, "Enough", "enough pods", now);
    let status = DeploymentStatus {
        observed_generation: 1,
        replicas: 1,
        updated_replicas: 1,
        unavailable_replicas: 1,
        conditions: vec![Condition { last_update_time: Some(now), ..condition.clone() }],
        ..DeploymentStatus::default()
    };
    round_trip::<apps::Deployment>(&deployment.with(&status).unwrap());

    let owner = OwnerReference {
        api_version: "apps/v1".into(),
        kind: "ReplicaSet".into(),
        name: "cart".into(),
        uid: "1".into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    let metadata = Metadata {
        uid: "2".into(),
        generation: 1,
        creation_timestamp: Some(now),
        deletion_timestamp: Some(now),
        deletion_grace_period_seconds: Some(30),
        owner_references: vec![owner],
        finalizers: vec!["a/b".into()],
        ..Metadata::named("default", "cart-1")
    };
    let state =
        |state: ContainerState| ContainerStatus { name: "main".into(), image: "i".into(), state, ..Default::default() };
    let status = PodStatus {
        phase: PodPhase::Running,
        conditions: vec![Condition { last_heartbeat_time: None, ..condition.clone() }],
        host_ip: "10.0.0.1".into(),
        pod_ip: "10.0.0.2".into(),
        pod_ips: vec![PodIp { ip: "10.0.0.2".into() }],
        start_time: Some(now),
        container_statuses: vec![
            state(ContainerState { running: Some(Running { started_at: Some(now) }), ..Default::default() }),
            state(ContainerState {
                terminated: Some(Terminated { exit_code: 1, reason: "Error".into(), ..Default::default() }),
                ..Default::default()
            }),
        ],
        init_container_statuses: vec![state(ContainerState {
            waiting: Some(Waiting { reason: "ImagePullBackOff".into(), message: "no image".into() }),
            ..Default::default()
        })],
        qos_class: "Burstable".into(),
        ..PodStatus::default()
    };
    let pod = deployment.template().unwrap().with_label("pod-template-hash", "x").unwrap().pod(&metadata).unwrap();
    round_trip::<core::Pod>(&pod.bound("node-1").with(&status).unwrap());

    let set = Object::new(Kind::REPLICA_SET, &Metadata::named("default", "cart")).unwrap();
    let spec = seedpod::cluster::object::Json::object([
        ("replicas", 1.into()),
        ("selector", seedpod::cluster::object::Json::read(r#"{"matchLabels":{"app":"cart"}}"#).unwrap()),
        ("template", deployment.template().unwrap().json().unwrap()),
    ]);
    let set = set.patch(seedpod::cluster::object::Json::object([("spec", spec)])).unwrap();
    round_trip::<apps::ReplicaSet>(
        &set.with(&ReplicaSetStatus { replicas: 0, ready_replicas: 1, ..Default::default() }).unwrap(),
    );

    let node = Object::new(Kind::NODE, &Metadata::named("", "node-1")).unwrap();
    let taint = Taint { key: "gpu".into(), value: "a".into(), effect: TaintEffect::NoSchedule };
    let node = node.with(&NodeSpec { taints: vec![taint], unschedulable: true, ..Default::default() }).unwrap();
    let amounts = [("cpu".to_string(), "4".parse().unwrap()), ("memory".to_string(), "8Gi".parse().unwrap())];
    let status = NodeStatus {
        capacity: amounts.clone().into(),
        allocatable: amounts.into(),
        conditions: vec![Condition { last_heartbeat_time: Some(now), ..condition }],
        addresses: vec![NodeAddress { type_: "InternalIP".into(), address: "10.0.0.1".into() }],
    };
    round_trip::<core::Node>(&node.with(&status).unwrap());

    let pod_reference = ObjectReference {
        kind: "Pod".into(),
        namespace: "default".into(),
        name: "cart-1".into(),
        uid: "2".into(),
        ..Default::default()
    };
    let slice = EndpointSlice {
        address_type: "IPv4".into(),
        endpoints: vec![Endpoint {
            addresses: vec!["10.0.0.2".into()],
            conditions: EndpointConditions { ready: Some(true), serving: Some(true), terminating: Some(false) },
            node_name: Some("node-1".into()),
            zone: Some("a".into()),
            hostname: Some("cart".into()),
            target_ref: Some(pod_reference.clone()),
        }],
        ports: vec![EndpointPort {
            name: Some("web".into()),
            port: Some(80),
            protocol: Some(Protocol::TCP),
            app_protocol: None,
        }],
    };
    let object = Object::new(Kind::ENDPOINT_SLICE, &Metadata::named("default", "cart")).unwrap();
    round_trip::<discovery::EndpointSlice>(&object.with(&slice).unwrap());

    let event = Event {
        involved_object: pod_reference,
        reason: "Failed".into(),
        message: "no image".into(),
        source: EventSource { component: "kubelet".into(), host: "node-1".into() },
        first_timestamp: Some(now),
        last_timestamp: Some(now),
        count: 2,
        type_: "Warning".into(),
        reporting_component: "kubelet".into(),
    };
    let object = Object::new(Kind::EVENT, &Metadata::named("default", "cart-1.x")).unwrap();
    round_trip::<core::Event>(&object.with(&event).unwrap());
}
