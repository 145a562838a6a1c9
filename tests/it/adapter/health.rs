//! The health adapter beside applications that know nothing of Kubernetes' paths, nor of gRPC.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use seedpod::{
    Result,
    adapter::{HealthAdapter, health},
    base::time,
    http::{Body, Client, json},
    net::{Connection, HostOptions, Net},
    pod::{Container, ContainerSpec, Context, Pod, PodSpec, Probe, Volume, serve},
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::service_fn;

const SECOND: Duration = Duration::from_secs(1);

/// Speaks Redis' inline protocol, as far as a ping; while it loads it says so.
fn redis(loading: Arc<AtomicBool>) -> impl Container {
    serve(
        6379,
        service_fn(move |mut connection: Connection| {
            let loading = loading.clone();
            async move {
                let mut asked = [0; 6];
                connection.read_exact(&mut asked).await?;
                let answer: &[u8] = match (&asked, loading.load(SeqCst)) {
                    (b"PING\r\n", false) => b"+PONG\r\n",
                    (b"PING\r\n", true) => b"-LOADING Redis is loading the dataset in memory\r\n",
                    _ => b"-ERR unknown command\r\n",
                };
                connection.write_all(answer).await?;
                connection.read_u8().await.map(drop).or(Ok::<_, std::io::Error>(()))
            }
        }),
    )
}

struct World {
    pod: Pod,
    client: Client,
    loading: Arc<AtomicBool>,
    volume: Volume,
}

impl World {
    async fn start(adapter: impl FnOnce(HealthAdapter) -> HealthAdapter) -> Result<World> {
        let net = Net::memory().build();
        let (loading, volume) = (Arc::new(AtomicBool::new(true)), Volume::memory());
        let pod = PodSpec::new("redis")
            .volume("shared", volume.clone())
            .container(ContainerSpec::new("redis", redis(loading.clone())))
            .container(ContainerSpec::new("health", adapter(HealthAdapter::new(8086))).mount("shared", "/shared"));
        let pod = Pod::start(pod, &net)?;
        pod.until(|status| status.ready.holds).await;
        time::sleep(Duration::from_millis(5)).await;
        Ok(World { client: Client::new(&net.host(HostOptions::default())?), pod, loading, volume })
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let answer = self.client.get(&format!("http://{}:8086{path}", self.pod.ip())).await.unwrap();
        (answer.status().as_u16(), answer.into_body().text().await.unwrap())
    }

    async fn call(&self, method: &str, service: &str) -> Response<Body> {
        let message = match service.len() {
            0 => Vec::new(),
            length => [&[0x0a, length as u8], service.as_bytes()].concat(),
        };
        let frame = [&[0, 0, 0, 0, message.len() as u8][..], &message].concat();
        let request = Request::post(format!("http://{}:8086/grpc.health.v1.Health/{method}", self.pod.ip()))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::from(frame))
            .unwrap();
        self.client.clone().http2().request(request).await.unwrap()
    }

    /// The status that a check answers, or the code of its refusal.
    async fn check(&self, service: &str) -> std::result::Result<u8, String> {
        let answer = self.call("Check", service).await;
        let code = |headers: &http::HeaderMap| headers.get("grpc-status").map(|code| code.to_str().unwrap().to_owned());
        if let Some(code) = code(answer.headers()) {
            return Err(code);
        }
        let collected = answer.into_body().collect().await.unwrap();
        assert_eq!(code(collected.trailers().unwrap()).as_deref(), Some("0"));
        let bytes = collected.to_bytes();
        assert_eq!(bytes[..6], [0, 0, 0, 0, 2, 8]);
        Ok(bytes[6])
    }
}

fn ping() -> Probe {
    health::says(6379, "PING\r\n", "+PONG").period(SECOND).failures(2)
}

#[tokio::test(start_paused = true)]
async fn a_text_protocol_becomes_the_paths_of_kubernetes() -> Result {
    let world = World::start(|adapter| adapter.ready("redis", ping()).live("port", Probe::tcp(6379))).await?;
    assert_eq!(world.get("/healthz").await, (200, "ok".into()));
    let (status, text) = world.get("/readyz").await;
    assert_eq!(status, 503);
    assert_eq!(
        text,
        "[-]redis failed: port 6379: failed: it says \"-LOADING Redis is loading the dataset in memory\"\n\
         [+]port ok\nreadyz check failed\n"
    );
    world.loading.store(false, SeqCst);
    time::sleep(SECOND).await;
    assert_eq!(world.get("/readyz").await, (200, "ok".into()));
    assert_eq!(world.get("/readyz?verbose").await, (200, "[+]redis ok\n[+]port ok\nreadyz check passed\n".into()));
    assert_eq!(world.get("/livez?verbose").await.1, "[+]port ok\nlivez check passed\n");
    world.loading.store(true, SeqCst);
    time::sleep(SECOND).await;
    assert_eq!(world.get("/readyz/redis").await.0, 200, "one failure of two");
    time::sleep(SECOND).await;
    assert_eq!(world.get("/readyz/redis").await.0, 503);
    assert_eq!((world.get("/readyz/x").await.0, world.get("/").await.0), (404, 404));
    let post = world.client.post(&format!("http://{}:8086/healthz", world.pod.ip()), "").await?;
    assert_eq!((post.status().as_u16(), post.headers()["allow"].to_str().unwrap()), (405, "GET, HEAD"));
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn grpc_health_is_answered_and_watched() -> Result {
    let world = World::start(|adapter| adapter.ready("redis", ping().failures(1))).await?;
    assert_eq!((world.check("").await, world.check("redis").await), (Ok(2), Ok(2)));
    assert_eq!(world.check("other").await, Err("5".into()));
    assert_eq!(world.call("Other", "").await.headers()["grpc-status"], "12");

    let mut watches = Vec::new();
    for service in ["", "other"] {
        watches.push(world.call("Watch", service).await.into_body());
    }
    async fn said(body: &mut Body) -> Option<u8> {
        let frame = body.frame().await?.unwrap();
        match frame.into_data() {
            Ok(data) => Some(data[6]),
            Err(frame) => {
                assert_eq!(frame.into_trailers().unwrap()["grpc-status"], "14");
                None
            }
        }
    }
    assert_eq!((said(&mut watches[0]).await, said(&mut watches[1]).await), (Some(2), Some(3)));
    world.loading.store(false, SeqCst);
    assert_eq!(said(&mut watches[0]).await, Some(1));
    world.loading.store(true, SeqCst);
    assert_eq!(said(&mut watches[0]).await, Some(2));
    world.loading.store(false, SeqCst);
    assert_eq!(said(&mut watches[0]).await, Some(1));
    let begin = time::now();
    let stop = world.pod.stop(30 * SECOND);
    let heard = async {
        let told = (said(&mut watches[0]).await, said(&mut watches[0]).await, said(&mut watches[1]).await);
        drop(watches);
        told
    };
    assert_eq!(tokio::join!(stop, heard).1, (Some(2), None, None), "not serving, and the end");
    assert!(time::now() - begin < 5 * SECOND);
    Ok(())
}

/// The probe of this crate is a client of the interface, as a kubelet is.
#[tokio::test(start_paused = true)]
async fn the_probes_of_a_pod_are_clients_of_it() -> Result {
    let net = Net::memory().build();
    let loading = Arc::new(AtomicBool::new(true));
    let adapter = HealthAdapter::new(8086).ready("redis", ping());
    let health = ContainerSpec::new("health", adapter)
        .readiness(Probe::grpc(8086).period(SECOND).failures(1))
        .liveness(Probe::http(8086, "/healthz"));
    let spec = PodSpec::new("redis").container(ContainerSpec::new("redis", redis(loading.clone()))).container(health);
    let pod = Pod::start(spec, &net)?;
    time::sleep(5 * SECOND).await;
    assert!(!pod.status().ready.holds);
    loading.store(false, SeqCst);
    time::sleep(3 * SECOND).await;
    assert!(pod.status().ready.holds && pod.status().restarts() == 0);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_file_is_fresh_while_it_changes() -> Result {
    let world = World::start(|adapter| {
        adapter.live("beat", health::fresh("shared", "beat", 10 * SECOND).period(SECOND).failures(1))
    })
    .await?;
    assert_eq!(world.get("/healthz").await.1, "[-]beat failed: file \"beat\": not found\nhealthz check failed\n");
    for beat in 0..30 {
        world.volume.write("beat", beat.to_string())?;
        time::sleep(SECOND).await;
    }
    assert_eq!(world.get("/healthz").await.0, 200);
    time::sleep(12 * SECOND).await;
    assert_eq!(
        world.get("/healthz").await.1,
        "[-]beat failed: file \"beat\": failed: it has not changed for 12 s\nhealthz check failed\n"
    );
    Ok(())
}

/// In a real directory, to touch a file is enough.
#[tokio::test(start_paused = true)]
async fn a_real_file_is_fresh_while_its_time_of_change_moves() -> Result {
    let folder = std::env::temp_dir().join(format!("seedpod-adapter-health-{}", seedpod::base::Seed::ambient().get()));
    let volume = Volume::directory(&folder);
    volume.write("beat", "the same")?;
    let adapter =
        HealthAdapter::new(8086).live("beat", health::fresh("shared", "beat", 10 * SECOND).period(SECOND).failures(1));
    let spec = PodSpec::new("batch")
        .volume("shared", volume)
        .container(ContainerSpec::new("health", adapter).mount("shared", "/shared"));
    let net = Net::memory().build();
    let pod = Pod::start(spec, &net)?;
    let client = Client::new(&net.host(HostOptions::default())?);
    let status =
        async || client.get(&format!("http://{}:8086/healthz", pod.ip())).await.map(|answer| answer.status().as_u16());
    for beat in 0..30 {
        let touched = std::time::SystemTime::UNIX_EPOCH + beat * SECOND;
        std::fs::File::options().write(true).open(folder.join("beat"))?.set_modified(touched)?;
        time::sleep(SECOND).await;
    }
    assert_eq!(status().await?, 200);
    time::sleep(12 * SECOND).await;
    assert_eq!(status().await?, 503);
    drop(pod);
    Ok(std::fs::remove_dir_all(&folder)?)
}

async fn panics(context: Context) -> Result {
    assert!(context.is_stopped(), "on purpose");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_check_that_hangs_or_panics_fails_alone() -> Result {
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let world = World::start(|adapter| {
        adapter
            .live("hangs", Probe::function(|_: Context| std::future::pending::<Result>()).failures(1))
            .live("panics", Probe::function(panics).failures(1))
            .live(
                "counts",
                Probe::function(move |_: Context| {
                    count.fetch_add(1, SeqCst);
                    async { Ok::<_, seedpod::Error>(()) }
                })
                .period(SECOND),
            )
    })
    .await?;
    time::sleep(5 * SECOND).await;
    assert_eq!(
        world.get("/healthz").await.1,
        "[-]hangs failed: no answer within 1s\n[-]panics failed: the check panicked\n[+]counts ok\nhealthz check failed\n"
    );
    assert_eq!(calls.load(SeqCst), 6);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_page_is_judged_by_what_it_says() -> Result {
    async fn app(context: Context) -> Result {
        let page = service_fn(|_: Request<Body>| async {
            Ok::<_, seedpod::Error>(json(200, &serde_json::json!({"status": "DOWN", "disk": "full"})))
        });
        seedpod::http::serve(context.listen(8080).await?, page).until(context.stopped()).await
    }
    let judged = health::answers(8080, "/status", |status, text| match text.contains("\"UP\"") && status == 200 {
        true => Ok(()),
        false => Err(format!("{status} {text}").into()),
    });
    let spec = PodSpec::new("app").container(ContainerSpec::new("app", app)).container(ContainerSpec::new(
        "health",
        HealthAdapter::new(8086).live("app", judged.failures(1).period(SECOND)),
    ));
    let net = Net::memory().build();
    let pod = Pod::start(spec, &net)?;
    time::sleep(3 * SECOND).await;
    let client = Client::new(&net.host(HostOptions::default())?);
    let answer = client.get(&format!("http://{}:8086/healthz/app", pod.ip())).await?;
    let text = answer.into_body().text().await?;
    assert!(
        text.contains("http://localhost:8080/status") && text.contains(r#"200 {"disk":"full","status":"DOWN"}"#),
        "{text}"
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn two_checks_of_one_name_are_an_error() -> Result {
    let adapter = HealthAdapter::new(8086).live("a", Probe::tcp(1)).ready("a", Probe::tcp(2));
    let pod = Pod::start(PodSpec::new("x").container(ContainerSpec::new("health", adapter)), &Net::memory().build())?;
    let status = pod.until(|status| status.restarts() > 0).await;
    assert!(format!("{status:?}").contains("each check needs a name of its own"), "{status:?}");
    Ok(())
}

/// A message in two pieces, and ones that are none.
#[tokio::test(start_paused = true)]
async fn what_is_no_message_is_refused() -> Result {
    let world = World::start(|adapter| adapter).await?;
    assert_eq!(world.check("").await, Ok(1), "without a check, always well");
    let url = format!("http://{}:8086/grpc.health.v1.Health/Check", world.pod.ip());
    for (body, kind, code) in [
        (&b"\0\0\0\0\x02\x0a\x05"[..], "application/grpc", Some("3")),
        (b"\0\0\0", "application/grpc", Some("3")),
        (b"\x01\0\0\0\0", "application/grpc+proto", Some("12")),
        (b"\0\xff\xff\xff\xff", "application/grpc", Some("3")),
        (b"{}", "application/json", None),
    ] {
        let request =
            Request::post(&url).header("content-type", kind).body(Body::from(Bytes::copy_from_slice(body)))?;
        let answer = world.client.clone().http2().request(request).await?;
        assert_eq!(answer.headers().get("grpc-status").map(|code| code.to_str().unwrap()), code, "{body:?}");
        assert_eq!(answer.status().as_u16(), if code.is_some() { 200 } else { 415 });
    }
    Ok(())
}
