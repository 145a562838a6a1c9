//! An ambassador beside the application holds `Shards`, another one a `Scatter` of them: the application talks to localhost.

use super::world::{builder, fetch};
use bytes::Bytes;
use http::{Request, Response};
use seedpod::{
    Error, Result,
    base::{sync::Lock, time::sleep},
    cluster::{Cluster, service::Services},
    http::{Body, Client, serve, text},
    pod::Context,
    serving::{
        Answers, By, Coverage, Endpoints, Fence, FenceLayer, Member, Moved, Route, Scatter, ShardMap, ShardMaps,
        Shards, Versioned,
    },
};
use std::{collections::BTreeMap, future::IntoFuture, net::SocketAddr, sync::Arc, time::Duration};
use tower::{Layer, Service, ServiceExt, service_fn, util::BoxCloneSyncService};

const WORLD: &str = "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 8080}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 3
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      containers:
      - {name: shard, image: shard, readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: application}
spec: {selector: {app: application}, ports: [{name: keys, port: 80}, {name: count, port: 81}]}
---
apiVersion: v1
kind: Pod
metadata: {name: application, labels: {app: application}}
spec:
  initContainers:
  - {name: route, image: route, restartPolicy: Always, startupProbe: {tcpSocket: {port: 9000}, periodSeconds: 1}}
  - {name: gather, image: gather, restartPolicy: Always, startupProbe: {tcpSocket: {port: 9001}, periodSeconds: 1}}
  containers:
  - name: keys
    image: application
    env: [{name: PORT, value: '80'}, {name: ASKS, value: 'http://localhost:9000'}]
    readinessProbe: {tcpSocket: {port: 80}, periodSeconds: 1}
  - name: count
    image: application
    env: [{name: PORT, value: '81'}, {name: ASKS, value: 'http://localhost:9001'}]
    readinessProbe: {tcpSocket: {port: 81}, periodSeconds: 1}
";

/// Every key is the path of its request; `/` asks for all.
#[derive(Clone, Copy)]
struct ByPath;

impl<B> Route<Request<B>> for ByPath {
    fn with_key<T>(&self, request: &Request<B>, then: impl FnOnce(&[u8]) -> T) -> T {
        By::new(|request: &Request<B>| request.uri().path()).with_key(request, then)
    }

    fn each_key(&self, request: &Request<B>, then: impl FnMut(&[u8])) {
        if request.uri().path() != "/" {
            self.with_key(request, then);
        }
    }
}

fn maps(context: &Context) -> ShardMaps {
    ShardMaps::clone(&context.resource::<ShardMaps>("maps").unwrap())
}

/// Keeps what is put; says of `/` how much that is.
async fn shard(context: Context) -> Result {
    let rows: Arc<Lock<BTreeMap<String, String>>> = Arc::default();
    let answer = service_fn(move |request: Request<Body>| {
        let rows = rows.clone();
        async move {
            let (head, body) = request.into_parts();
            let (path, put) = (head.uri.path().to_owned(), body.text().await?);
            let mut rows = rows.lock();
            Ok::<_, Error>(match (head.method.as_str(), path.as_str()) {
                ("GET", "/") => text(200, rows.len().to_string()),
                ("GET", path) => rows.get(path).map_or_else(|| text(404, ""), |value| text(200, value.clone())),
                _ => {
                    rows.insert(path, put);
                    text(204, "")
                }
            })
        }
    });
    let fence = FenceLayer::new(Fence::new(context.pod(), maps(&context)), Versioned(ByPath));
    let fenced = fence.layer(answer).map_result(Moved::answer);
    serve(context.listen(8080).await?, fenced).until(context.stopped()).await
}

type Endpoint = BoxCloneSyncService<Request<Bytes>, Response<Bytes>, Error>;

/// The shards, found by the cluster's service.
fn shards(context: &Context) -> Result<Shards<Endpoint, Versioned<ByPath>>> {
    let (endpoints, client) = (Endpoints::named("db"), context.http());
    let connect = move |address: &SocketAddr| {
        let client = client.clone().base(&format!("http://{address}")).unwrap();
        BoxCloneSyncService::new(service_fn(move |request: Request<Bytes>| {
            let client = client.clone();
            async move {
                let (mut head, body) = request.into_parts();
                head.uri = head.uri.path().parse()?;
                let answer = Moved::read(client.request(Request::from_parts(head, body.into())).await)?;
                let (head, body) = answer.into_parts();
                Ok(Response::from_parts(head, body.bytes().await?))
            }
        }))
    };
    context.spawn(endpoints.follow(Services::of(context)?.watch("db")?, Member::of, connect).into_future());
    Ok(Shards::routed(maps(context), Versioned(ByPath), endpoints))
}

/// Serves a service on a port of the pod; an error is told in words.
async fn stand_for<S>(context: Context, port: u16, service: S) -> Result
where
    S: Service<Request<Bytes>, Response = Response<Body>, Error = Error, Future: Send> + Clone + Send + 'static,
{
    let answer = service_fn(move |request: Request<Body>| {
        let service = service.clone();
        async move {
            let (head, body) = request.into_parts();
            let request = Request::from_parts(head, body.bytes().await?);
            Ok::<_, Error>(service.oneshot(request).await.unwrap_or_else(|error| text(503, error.chain())))
        }
    });
    serve(context.listen(port).await?, answer).until(context.stopped()).await
}

async fn route(context: Context) -> Result {
    let shards = shards(&context)?.map_response(|answer: Response<Bytes>| answer.map(Body::from));
    stand_for(context, 9000, shards).await
}

/// How many keys there are, in as many shards as say so; two must.
async fn gather(context: Context) -> Result {
    let count = |answers: Answers<Response<Bytes>>| {
        let counts = answers.into_values().map(|answer| String::from_utf8_lossy(answer.body()).parse::<u64>().unwrap());
        counts.sum::<u64>()
    };
    let counted = Scatter::new(shards(&context)?.leaves())
        .require(Coverage::count(2))
        .within(Duration::from_secs(1))
        .gather(count)
        .map_response(|it| text(200, format!("{} keys: {}", it.value, it.tally)));
    stand_for(context, 9001, counted).await
}

/// Asks at one place for what it is asked, and knows nothing.
async fn application(context: Context) -> Result {
    let port = context.env("PORT").unwrap().parse().unwrap();
    let asks = context.http().base(context.env("ASKS").unwrap())?;
    let relay = service_fn(move |request: Request<Body>| {
        let asks: Client = asks.clone();
        async move {
            let (mut head, body) = request.into_parts();
            head.uri = head.uri.path().parse()?;
            asks.request(Request::from_parts(head, body)).await
        }
    });
    serve(context.listen(port).await?, relay).until(context.stopped()).await
}

async fn start(map: &ShardMap) -> Cluster {
    let images = builder(1).image("shard", shard).image("route", route).image("gather", gather);
    let cluster = images.image("application", application).start().await.unwrap();
    cluster.resource("maps", ShardMaps::new(map.clone()));
    cluster.apply(WORLD).await.unwrap();
    cluster.available("statefulset/db").await.unwrap();
    cluster.available("pod/application").await.unwrap();
    cluster
}

async fn put(cluster: &Cluster, key: u32) -> u16 {
    let put = Request::put(format!("http://application/{key}")).body(Body::from(format!("value {key}"))).unwrap();
    cluster.http().request(put).await.unwrap().status().as_u16()
}

#[tokio::test(start_paused = true)]
async fn a_dead_shards_keys_get_a_clear_error_and_all_others_go_on() {
    let map = ShardMap::planned(["db-0", "db-1", "db-2"]).build().unwrap();
    let cluster = start(&map).await;
    let owner = |key: u32| map.name(map.owner(&format!("/{key}"))).to_owned();
    let of = |name: &str| (0..60).filter(|key| owner(*key) == name).count();
    for key in 0..60 {
        assert_eq!(put(&cluster, key).await, 204);
        assert_eq!(fetch(&cluster, &format!("http://application/{key}")).await.unwrap(), format!("value {key}"));
        let mut right = 0;
        for name in ["db-0", "db-1", "db-2"] {
            let status = cluster.http().get(&format!("http://{name}.db:8080/{key}")).await.unwrap().status().as_u16();
            assert_eq!(status, if name == owner(key) { 200 } else { 421 }, "{name} {key}");
            right += u32::from(status == 200);
        }
        assert_eq!(right, 1);
    }
    assert_eq!(fetch(&cluster, "http://application:81/").await.unwrap(), "60 keys: 3 of 3 answered");

    for node in ["node-0", "node-1", "node-2"] {
        cluster.cordon(node).await.unwrap(); // it does not come back
    }
    cluster.kill_pod("db-1").await.unwrap();
    sleep(Duration::from_millis(100)).await;
    for key in 0..60 {
        let answer = cluster.http().get(&format!("http://application/{key}")).await.unwrap();
        let (status, said) = (answer.status().as_u16(), answer.into_body().text().await.unwrap());
        if owner(key) == "db-1" {
            let why = "db-1: unavailable: the map names this shard, and there is no endpoint of that name";
            assert_eq!((status, &*said), (503, why));
        } else {
            assert_eq!((status, said, put(&cluster, key).await), (200, format!("value {key}"), 204));
        }
    }
    let left = 60 - of("db-1");
    let said = fetch(&cluster, "http://application:81/").await.unwrap();
    assert_eq!(said, format!("{left} keys: 2 of 3 answered, 1 failed"));

    cluster.kill_pod("db-2").await.unwrap();
    sleep(Duration::from_millis(100)).await;
    let answer = cluster.http().get("http://application:81/").await.unwrap();
    assert_eq!(answer.status(), 503);
    let said = answer.into_body().text().await.unwrap();
    for part in ["db-1", "db-2", "it has no endpoint"] {
        assert!(said.contains(part), "{part}: {said}");
    }

    for node in ["node-0", "node-1", "node-2"] {
        cluster.uncordon(node).await.unwrap();
    }
    cluster.available("statefulset/db").await.unwrap();
    for key in 0..60 {
        assert_eq!(put(&cluster, key).await, 204, "it is back under its name, at another address");
    }
    assert_eq!(fetch(&cluster, "http://application:81/").await.unwrap(), "60 keys: 3 of 3 answered");
}
