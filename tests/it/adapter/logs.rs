//! The log adapter beside applications that log as they like.

use seedpod::{
    Result,
    adapter::logs::{Format, LogAdapter, Translator},
    base::{Seed, time},
    net::{HostOptions, Net},
    pod::{ContainerSpec, Context, Pod, PodSpec, Volume},
};
use serde_json::Value;
use std::time::{Duration, SystemTime};
use tokio::io::AsyncWriteExt;

async fn app(context: Context) -> Result {
    context.stopped().await;
    Ok(())
}

async fn start(net: &Net, volume: &Volume, adapter: LogAdapter) -> Result<Pod> {
    let spec = PodSpec::new("web")
        .volume("logs", volume.clone())
        .sidecar(ContainerSpec::new("logs", adapter).mount("logs", "/logs"))
        .container(ContainerSpec::new("app", app));
    let pod = Pod::start(spec, net)?;
    pod.until(|status| status.ready.holds).await;
    Ok(pod)
}

fn messages(lines: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<String> {
    let read = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    lines.into_iter().map(|line| read(line.as_ref())["message"].as_str().unwrap().to_owned()).collect()
}

fn logged(pod: &Pod) -> Vec<String> {
    messages(pod.logs("logs").iter().map(|line| line.text.to_string()))
}

#[tokio::test(start_paused = true)]
async fn a_file_is_followed_through_its_rotation_and_its_last_line_is_there() -> Result {
    let (net, volume) = (Net::memory().build(), Volume::memory());
    let pod = start(&net, &volume, LogAdapter::new(Format::plain()).file("logs", "app.log")).await?;
    volume.write("app.log", "one\ntwo\nthr")?;
    time::sleep(Duration::from_millis(10)).await;
    assert_eq!(logged(&pod), ["one", "two"]);
    // between two looks: the file grows, is renamed, and another begins
    volume.write("app.log", "one\ntwo\nthree\nfour\n")?;
    volume.write("app.log.1", "one\ntwo\nthree\nfour\n")?;
    volume.write("app.log", "five\n")?;
    time::sleep(Duration::from_millis(10)).await;
    assert_eq!(logged(&pod), ["one", "two", "three", "four", "five"]);
    volume.write("app.log", "")?;
    time::sleep(Duration::from_millis(10)).await;
    volume.write("app.log", "six\nseven")?;
    pod.stop(Duration::from_secs(10)).await;
    assert_eq!(logged(&pod)[5..], ["six", "seven"]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_trace_is_one_record_once_it_is_quiet() -> Result {
    let (net, volume) = (Net::memory().build(), Volume::memory());
    let adapter = LogAdapter::new(Format::plain()).file("logs", "app.log").join_traces();
    let counts = adapter.clone();
    let pod = start(&net, &volume, adapter).await?;
    volume.write("app.log", "ERROR no\n\tat a\n")?;
    time::sleep(Duration::from_millis(50)).await;
    volume.write("app.log", "ERROR no\n\tat a\n\tat b\n")?;
    time::sleep(Duration::from_millis(50)).await;
    assert!(pod.logs("logs").is_empty(), "it may go on");
    time::sleep(Duration::from_millis(100)).await;
    let line: Value = serde_json::from_str(&pod.logs("logs")[0].text).unwrap();
    assert_eq!((line["message"].as_str(), line["fields"]["stack"].as_str()), (Some("no"), Some("\tat a\n\tat b")));
    assert_eq!((counts.counts().lines, counts.counts().records, counts.counts().joined), (3, 1, 2));
    Ok(())
}

/// A program that writes to a real file, and knows nothing of volumes.
#[tokio::test(start_paused = true)]
async fn what_is_appended_to_a_real_file_is_seen_at_the_next_look() -> Result {
    let folder = std::env::temp_dir().join(format!("seedpod-adapter-logs-{}", Seed::ambient().get()));
    let (net, volume) = (Net::memory().build(), Volume::directory(&folder));
    let pod = start(&net, &volume, LogAdapter::new(Format::plain()).file("logs", "app.log")).await?;
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join("app.log"), "one\n")?;
    time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(logged(&pod), ["one"]);
    use std::io::Write;
    std::fs::OpenOptions::new().append(true).open(folder.join("app.log"))?.write_all(b"two\n")?;
    time::sleep(Duration::from_millis(1_100)).await;
    assert_eq!(logged(&pod), ["one", "two"]);
    drop(pod);
    Ok(std::fs::remove_dir_all(&folder)?)
}

#[tokio::test(start_paused = true)]
async fn syslog_over_tcp_goes_to_a_file_that_is_rotated() -> Result {
    let (net, volume) = (Net::memory().build(), Volume::memory());
    let adapter =
        LogAdapter::new(Format::syslog()).listen(514).to_file("logs", "out.jsonl").poll(Duration::from_secs(9));
    let pod = start(&net, &volume, adapter).await?;
    let mut sender = net.host(HostOptions::default())?.connect(&format!("{}:514", pod.ip())).await?;
    for number in 0..20_000 {
        sender.write_all(format!("<14>1 - - - - - - message {number}\n").as_bytes()).await?;
    }
    time::sleep(Duration::from_millis(10)).await;
    sender.write_all(b"<11>1 - - - - - - half of").await?;
    drop(sender);
    time::sleep(Duration::from_millis(10)).await;
    let text = |path| String::from_utf8(volume.read(path).unwrap().to_vec()).unwrap();
    let (before, now) = (text("out.jsonl.1"), text("out.jsonl"));
    assert!(before.len() <= 1 << 20 && now.len() <= 1 << 20, "{} {}", before.len(), now.len());
    let kept = messages(before.lines().chain(now.lines()));
    let first = 20_001 - kept.len();
    let expected = (first..20_000).map(|number| format!("message {number}")).chain(["half of".into()]);
    assert_eq!(kept, expected.collect::<Vec<_>>(), "the last two files, without a gap");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_volume_that_is_not_mounted_is_an_error_that_names_it() -> Result {
    let net = Net::memory().build();
    let spec = PodSpec::new("web")
        .container(ContainerSpec::new("logs", LogAdapter::new(Format::plain()).file("log", "app.log")));
    let pod = Pod::start(spec, &net)?;
    let status = pod.until(|status| status.restarts() > 0).await;
    let told = format!("{:?}", status.containers[0]);
    assert!(told.contains("volume log") && told.contains("mounts no volume"), "{told}");
    Ok(())
}

/// Any bytes, cut anywhere: each line is a record or a part of one, and each record is JSON on one line.
#[test]
fn nothing_is_lost_of_any_bytes() {
    let formats = [
        Format::plain(),
        Format::logfmt(),
        Format::access(),
        Format::syslog(),
        Format::json(),
        Format::any([Format::json(), Format::syslog(), Format::access(), Format::logfmt()]),
    ];
    let words: [&[u8]; 20] = [
        b"\n",
        b"\n",
        b"\r\n",
        b"\t",
        b" ",
        b"a=b",
        b"\"",
        b"\\",
        b"{\"msg\":",
        b"}",
        b"<14>",
        b"1 - - - - - -",
        b"[",
        b"10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.0\" 200 1",
        b"\xff\xfe",
        b"Caused by:",
        b"2024-05-01T12:00:00Z",
        b"Traceback (most recent call last)",
        b"level=warn",
        "é".as_bytes(),
    ];
    for seed in 0..3_000 {
        let mut rng = Seed::new(seed).rng();
        let text: Vec<u8> = (0..rng.below(60)).flat_map(|_| rng.choose(&words).unwrap().iter().copied()).collect();
        let format = rng.choose(&formats).unwrap().clone();
        let mut translator = Translator::new(format).bytes_max(40);
        if rng.chance(0.5) {
            translator = translator.join_traces();
        }
        let mut told = Vec::new();
        let mut take = |line: &str| told.push(line.to_owned());
        for piece in text.chunks(1 + rng.below(50) as usize) {
            translator.feed(piece, SystemTime::UNIX_EPOCH, &mut take);
        }
        translator.finish(SystemTime::UNIX_EPOCH, &mut take);
        let counts = translator.counts();
        assert_eq!(counts.lines, counts.empty + counts.records + counts.joined, "seed {seed}");
        assert_eq!(counts.records, told.len() as u64, "seed {seed}");
        for line in &told {
            let record: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("seed {seed}: {error}: {line}"));
            assert!(!line.contains('\n') && record["time"].is_string() && record["level"].is_string());
            assert!(record["message"].is_string(), "seed {seed}: {line}");
        }
    }
}

/// What is not of the format stands in `message`, to the last letter.
#[test]
fn what_is_not_understood_is_kept_whole_and_counted() {
    for format in [Format::logfmt(), Format::access(), Format::syslog(), Format::json()] {
        let mut translator = Translator::new(format);
        let line = "  \"half\\ of {something:\u{7} é ";
        let mut told = Vec::new();
        translator.feed(format!("{line}\n").as_bytes(), SystemTime::UNIX_EPOCH, |line| told.push(line.to_owned()));
        assert_eq!(messages(&told), [line]);
        assert_eq!(translator.counts().not_understood, 1);
    }
}
