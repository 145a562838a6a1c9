//! Manifests: a corpus of broken ones with their exact errors, the bounds, real ones from elsewhere, and round trips.

use proptest::prelude::*;
use seedpod::{
    base::Kind,
    cluster::{
        manifest::{self, Mistakes, limits},
        object::{self, ContainerPort, DeploymentSpec, Json, Members, Object, PodSpec, Protocol, Secret, ServiceSpec},
    },
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The manifests below a folder, in order.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json") {
            found.push(path);
        }
    }
    found
}

/// Each `*.yaml` is refused with the text of the `*.err` beside it. `SEEDPOD_RECORD=1` writes those anew.
#[test]
fn broken_manifests_are_refused_with_their_exact_errors() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/manifests");
    let record = std::env::var("SEEDPOD_RECORD").is_ok_and(|value| value == "1");
    let files = files(&folder);
    assert!(files.len() >= 40, "{} manifests", files.len());
    let texts = fs::read_dir(&folder)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().path().extension() == Some("err".as_ref()));
    assert!(record || texts.count() == files.len(), "an error without its manifest");
    let mut wrong = Vec::new();
    for path in &files {
        let error = match manifest::parse(&fs::read_to_string(path).unwrap()) {
            Ok(objects) => panic!("{} is read: {objects:?}", path.display()),
            Err(error) => error,
        };
        assert_eq!(error.kind(), Kind::Invalid, "{}", path.display());
        let (text, beside) = (format!("{error}\n"), path.with_extension("err"));
        if record {
            fs::write(&beside, &text).unwrap();
        } else if fs::read_to_string(&beside).unwrap_or_default() != text {
            wrong.push(format!("{}:\n{text}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "not as recorded:\n{}", wrong.join("\n"));
}

/// The warnings of `inert.yaml` are those of `inert.txt`, and every row of the table is among them. `SEEDPOD_RECORD=1`
/// writes them anew.
#[test]
fn what_is_stored_and_not_acted_on_is_warned_of() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let warnings = manifest::warnings(&fs::read_to_string(folder.join("inert.yaml")).unwrap()).unwrap();
    let told: String = warnings.iter().map(|warning| format!("{warning}\n")).collect();
    if std::env::var_os("SEEDPOD_RECORD").is_some() {
        fs::write(folder.join("inert.txt"), &told).unwrap();
    }
    assert_eq!(told, fs::read_to_string(folder.join("inert.txt")).unwrap_or_default());
    for row in manifest::INERT {
        let last = row.path.rsplit('.').next().unwrap().trim_start_matches('*');
        let hit = warnings.iter().any(|it| it.path.ends_with(last) && it.message == row.message);
        assert!(hit, "{row:?}");
    }
}

fn config_map(name: &str, data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  a: {data}\n")
}

fn refusal(text: &str) -> String {
    manifest::parse(text).unwrap_err().to_string()
}

#[test]
fn what_is_too_large_is_refused() {
    assert_eq!(
        refusal(&config_map("big", &"x".repeat(limits::DOCUMENT_BYTES))),
        "invalid: 1 mistake\ndocument 1, line 1: the document has 1572929 bytes, of at most 1572864"
    );
    assert_eq!(
        refusal(&"x".repeat(limits::TEXT_BYTES + 1)),
        "invalid: 1 mistake\nthe text has 16777217 bytes, of at most 16777216"
    );
    let many: String =
        (0..=limits::DOCUMENTS).map(|number| format!("{}---\n", config_map(&format!("c{number}"), "b"))).collect();
    assert_eq!(refusal(&many), "invalid: 1 mistake\ndocument 4097, line 28672: there are more than 4096 documents");
    assert_eq!(
        refusal(&config_map("list", &format!("[{}]", "1,".repeat(limits::VALUES)))),
        "invalid: 1 mistake\ndocument 1, line 6: has more than 250000 values"
    );
    assert_eq!(
        refusal(&config_map("text", &"x".repeat((1 << 20) + 1))),
        "invalid: 1 mistake\ndocument 1, line 1: ConfigMap text: the values have 1048577 bytes together, of at most 1048576"
    );
}

#[test]
fn bombs_in_many_documents_cost_no_more_than_all_may() {
    let bomb = |number| {
        let head = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{number}}}\n");
        format!("{head}a: &a [{}]\nb: [{}]\n---\n", "x, ".repeat(100), "*a, ".repeat(80))
    };
    let text: String = (0..200).map(bomb).collect();
    let error = refusal(&text);
    assert_eq!(error, "invalid: 1 mistake\ndocument 2, line 7: aliases repeat more than 10000 values");
}

#[test]
fn only_so_many_mistakes_are_listed() {
    let ports: String = (0..300).map(|_| "    - containerPort: x\n").collect();
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec:\n  containers:\n  - name: m\n    image: a\n    ports:\n{ports}"
    );
    let error = manifest::parse(&text).unwrap_err();
    assert_eq!(error.chain(), error.to_string(), "the list is the last that is said");
    let mistakes = error.downcast_ref::<Mistakes>().unwrap();
    assert_eq!((mistakes.list.len(), mistakes.more), (limits::MISTAKES, 200));
    assert!(error.to_string().ends_with("\nand 200 more"));
    assert_eq!(
        (mistakes.list[7].line, mistakes.list[7].path.as_str()),
        (16, "spec.containers[0].ports[7].containerPort")
    );
}

#[test]
fn defaults_are_those_of_kubernetes() {
    let text = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: cart}
spec:
  selector: {matchLabels: {app: cart}}
  template:
    metadata: {labels: {app: cart}}
    spec:
      volumes:
      - name: data
      - {name: settings, configMap: {name: c}}
      containers:
      - name: main
        image: registry:5000/shop/cart
        ports: [{containerPort: 80}]
        resources: {limits: {cpu: 0.5, memory: 1024Mi}, requests: {cpu: 0.25}}
        readinessProbe: {httpGet: {port: 80}, periodSeconds: 0}
        livenessProbe: {grpc: {port: 80}, failureThreshold: 5}
      - {name: side, image: 'shop/side@sha256:00'}
";
    let objects = manifest::parse(text).unwrap();
    let recorded = concat!(
        r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"cart","namespace":"default"},"spec":"#,
        r#"{"progressDeadlineSeconds":600,"replicas":1,"revisionHistoryLimit":10,"selector":{"matchLabels":{"app":"cart"}},"#,
        r#""strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":"25%"},"type":"RollingUpdate"},"#,
        r#""template":{"metadata":{"labels":{"app":"cart"}},"spec":{"containers":["#,
        r#"{"image":"registry:5000/shop/cart","imagePullPolicy":"Always","#,
        r#""livenessProbe":{"failureThreshold":5,"grpc":{"port":80,"service":""},"periodSeconds":10,"successThreshold":1,"timeoutSeconds":1},"#,
        r#""name":"main","ports":[{"containerPort":80,"protocol":"TCP"}],"#,
        r#""readinessProbe":{"failureThreshold":3,"httpGet":{"path":"/","port":80,"scheme":"HTTP"},"periodSeconds":10,"successThreshold":1,"timeoutSeconds":1},"#,
        r#""resources":{"limits":{"cpu":"500m","memory":"1Gi"},"requests":{"cpu":"250m","memory":"1Gi"}}},"#,
        r#"{"image":"shop/side@sha256:00","imagePullPolicy":"IfNotPresent","name":"side"}],"#,
        r#""restartPolicy":"Always","terminationGracePeriodSeconds":30,"#,
        r#""volumes":[{"emptyDir":{},"name":"data"},{"configMap":{"defaultMode":420,"name":"c"},"name":"settings"}]}}}}"#
    );
    assert_eq!(objects[0].write(0), recorded);
    assert_eq!(objects[0].view::<DeploymentSpec>().unwrap().max_surge().unwrap(), 1);

    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: cart, namespace: shop}\nspec: {ports: [{port: 80}]}\n";
    assert_eq!(
        manifest::parse(service).unwrap()[0].write(0),
        concat!(
            r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"cart","namespace":"shop"},"spec":{"ports":"#,
            r#"[{"port":80,"protocol":"TCP","targetPort":80}],"sessionAffinity":"None","type":"ClusterIP"}}"#
        )
    );
    let others = "
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: shop}}
- {apiVersion: v1, kind: Secret, metadata: {name: key}, stringData: {a: hunter2, b: ''}, data: {a: eA==, c: eQ==}}
- {apiVersion: v1, kind: Node, metadata: {name: n, labels: {a: null}}, status: {capacity: {cpu: 4}}}
";
    let objects = manifest::parse(others).unwrap();
    let texts: Vec<_> = objects.iter().map(|object| object.write(0)).collect();
    assert_eq!(
        texts,
        [
            r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"labels":{"kubernetes.io/metadata.name":"shop"},"name":"shop"}}"#,
            r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"key","namespace":"default"},"data":{"a":"aHVudGVyMg==","b":"","c":"eQ=="},"type":"Opaque"}"#,
            r#"{"apiVersion":"v1","kind":"Node","metadata":{"labels":{},"name":"n"},"status":{"allocatable":{"cpu":"4"},"capacity":{"cpu":"4"}}}"#,
        ]
    );
    let secret = objects[1].view::<Secret>().unwrap();
    assert_eq!(secret.data["a"].as_str(), Some("hunter2"));
    assert!(!format!("{secret:?} {:?}", objects[1]).contains("hunter2"));
}

#[test]
fn a_mistake_in_a_secret_does_not_tell_it() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {a: swordfish}\nstringData: {b: 271828}\n";
    let error = manifest::parse(text).unwrap_err();
    assert!(!error.chain().contains("swordfish") && !error.chain().contains("271828"), "{}", error.chain());
}

#[test]
fn what_is_applied_again_may_not_change_everything() {
    let read = |text: &str| manifest::parse(text).unwrap().remove(0);
    let pod = |more: &str| {
        read(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: a}}\nspec: {{containers: [{{name: m, image: {more}}}]}}"
        ))
    };
    let service = |more: &str| {
        read(&format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {{ports: [{{port: 80}}], {more}}}"))
    };
    let map = |more: &str| read(&format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\n{more}"));
    let set = |label: &str| {
        read(&format!(
            "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {{name: a}}\nspec: {{selector: {{matchLabels: {{a: {label}}}}}, \
             template: {{metadata: {{labels: {{a: {label}}}}}, spec: {{containers: [{{name: m, image: i}}]}}}}}}"
        ))
    };
    for (old, new, refused) in [
        (pod("i"), pod("j"), None),
        (pod("i"), pod("i").bound("n"), None),
        (pod("i").bound("n"), pod("i").bound("m"), Some("Pod a: spec cannot change")),
        (pod("i"), pod("i, command: [x]"), Some("Pod a: spec cannot change")),
        (service(""), service("clusterIP: 10.0.0.1"), None),
        (
            service("clusterIP: 10.0.0.1"),
            service("clusterIP: 10.0.0.2"),
            Some("Service a: spec.clusterIP cannot change"),
        ),
        (map("data: {a: b}"), map("data: {a: c}\nimmutable: true"), None),
        (
            map("data: {a: b}\nimmutable: true"),
            map("data: {a: c}\nimmutable: true"),
            Some("ConfigMap a: data cannot change"),
        ),
        (map("immutable: true"), map(""), Some("ConfigMap a: immutable cannot change")),
        (set("x"), set("x"), None),
        (set("x"), set("y"), Some("ReplicaSet a: spec.selector cannot change")),
    ] {
        match (manifest::check_update(&old, &new), refused) {
            (Ok(()), None) => {}
            (Err(error), Some(refused)) => assert!(error.to_string().contains(refused), "{error}"),
            (found, refused) => panic!("{found:?}, not {refused:?}"),
        }
    }
}

/// The folder of manifests from elsewhere: `SEEDPOD_MANIFESTS`, or the one beside the project.
fn elsewhere() -> PathBuf {
    std::env::var("SEEDPOD_MANIFESTS")
        .map_or_else(|_| Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/manifests"), PathBuf::from)
}

#[test]
#[ignore = "needs a folder of real manifests: SEEDPOD_MANIFESTS"]
fn real_manifests_are_read_or_refused_for_what_is_not_supported() {
    let (mut read, mut objects) = (0, 0);
    let mut unknown: BTreeMap<String, usize> = BTreeMap::new();
    let files = files(&elsewhere());
    for path in &files {
        let text = fs::read_to_string(path).unwrap();
        let found = match manifest::parse(&text) {
            Ok(found) => found,
            Err(error) => {
                for mistake in &error.downcast_ref::<Mistakes>().unwrap().list {
                    let kind = mistake.path.ends_with("kind") && mistake.message.contains("which is not known here");
                    let volume = mistake.path.contains(".volumes[") && mistake.message.starts_with("is not supported");
                    assert!(kind || volume, "{}: {mistake}", path.display());
                    assert!(mistake.line > 0 && mistake.document > 0, "{}: {mistake}", path.display());
                    let what = if kind { mistake.message.split(',').next() } else { mistake.path.rsplit('.').next() };
                    *unknown.entry(what.unwrap().to_string()).or_default() += 1;
                }
                continue;
            }
        };
        read += 1;
        objects += found.len();
        for object in found {
            let again = Object::read(&object.write(1)).unwrap();
            assert_eq!(again.write(0), object.write(0), "{}", path.display());
            let completed = manifest::complete(object.json().unwrap()).unwrap();
            assert_eq!(completed.write(0), object.write(0), "{}: defaults are stable", path.display());
        }
    }
    assert!(files.len() > 100 && objects > 150, "{} files, {read} read, {objects} objects; {unknown:?}", files.len());
}

#[test]
#[ignore = "needs a folder of real manifests: SEEDPOD_MANIFESTS"]
fn the_online_boutique_is_read_whole() {
    let path = elsewhere().join("microservices-demo/release__kubernetes-manifests.yaml");
    let objects = manifest::parse(&fs::read_to_string(path).unwrap()).unwrap();
    let count = |kind| objects.iter().filter(|object| object.kind() == kind).count();
    assert_eq!(
        [object::Kind::DEPLOYMENT, object::Kind::SERVICE, object::Kind::SERVICE_ACCOUNT].map(count),
        [12, 12, 11],
        "{objects:?}"
    );
    let find = |key: &str| objects.iter().find(|object| object.key().as_str() == key).unwrap();
    let load = find("deployments/default/loadgenerator").view::<DeploymentSpec>().unwrap();
    assert!(load.template.spec.init_containers[0].image.starts_with("busybox"));
    let frontend = find("services/default/frontend").view::<ServiceSpec>().unwrap();
    assert_eq!(frontend.ports[0].target(), 8080.into());
}

/// Any JSON, with members that repeat themselves across objects, so that merges and diffs meet.
fn json() -> impl Strategy<Value = Json<'static>> {
    let key = prop_oneof!["[a-d]", "[a-z\"\\\\é\n]{0,3}"];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?".prop_map(|number| Json::Number(number.into())),
        any::<String>().prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            prop::collection::vec((key.clone(), inner), 0..5)
                .prop_map(|members| Json::Object(members.into_iter().collect::<Members<'static>>())),
        ]
    })
}

proptest! {
    #[test]
    fn canonical_text_is_read_back_as_it_was(json in json()) {
        let text = json.canonical();
        let again = Json::read(&text).unwrap();
        prop_assert_eq!(&again, &json);
        prop_assert_eq!(again.canonical(), text.clone());
        let theirs: serde_json::Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(Json::of(&theirs).unwrap().type_name(), json.type_name());
    }

    #[test]
    fn a_diff_is_the_patch_that_makes_the_other(old in json(), new in json()) {
        let (old, new) = (old.without_nulls(), new.without_nulls());
        let merged = match old.diff(&new) {
            Some(patch) => old.clone().merge(patch).without_nulls(),
            None => old.clone(),
        };
        prop_assert_eq!(merged, new);
    }

    #[test]
    fn what_is_not_known_is_kept(unknown in json(), deep in json(), number in 1..=65535_i32) {
        let extra = |json: &Json<'static>| if *json == Json::Null { Json::from(1) } else { json.clone().without_nulls() };
        let (unknown, deep) = (extra(&unknown), extra(&deep));
        let container = Json::object([("name", Json::from("m")), ("image", "i".into()), ("deep", deep)]);
        let spec = Json::object([("containers", Json::Array(vec![container])), ("unknown", unknown.clone())]);
        let object = Json::object([
            ("apiVersion", Json::from("v1")),
            ("kind", "Pod".into()),
            ("metadata", Json::object([("name", Json::from("a")), ("unknown", unknown.clone())])),
            ("spec", spec),
            ("unknown", unknown),
        ]);
        let pod = Object::from_json(object.clone()).unwrap();
        prop_assert_eq!(&pod.json().unwrap(), &object);
        prop_assert_eq!(&Object::read(&pod.write(9)).unwrap(), &pod);

        let port = ContainerPort { container_port: number, protocol: Some(Protocol::UDP), ..ContainerPort::default() };
        let edited = pod.edit::<PodSpec>(|spec| spec.hostname = "h".into()).unwrap();
        prop_assert_eq!(edited.edit::<PodSpec>(|spec| spec.hostname.clear()).unwrap(), pod.clone());
        let edited = pod.edit::<PodSpec>(|spec| spec.containers[0].ports.push(port.clone())).unwrap();
        prop_assert_eq!(&edited.view::<PodSpec>().unwrap().containers[0].ports[0], &port);
        let json = edited.json().unwrap();
        prop_assert_eq!(json.at(&["spec", "unknown"]), object.at(&["spec", "unknown"]));
        prop_assert_eq!(json.get("unknown"), object.get("unknown"));
        prop_assert_eq!(json.at(&["metadata", "unknown"]), object.at(&["metadata", "unknown"]));
    }

    #[test]
    fn no_text_breaks_the_reader(text in "(apiVersion|kind|metadata|spec|name|v1|Pod|- |: |\n|  |\\{|\\}|\\[|\\]|\"|'|&a|\\*a|---\n|#|,|1|~|\\|){0,30}") {
        if let Err(error) = manifest::parse(&text) {
            prop_assert!(error.downcast_ref::<Mistakes>().is_some());
        }
    }
}
