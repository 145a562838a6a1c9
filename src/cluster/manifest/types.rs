//! Types: every value that has the wrong one is found, not only the first.

use super::{
    limits,
    mistake::Report,
    path::{Path, Segment},
};
use crate::cluster::object::{
    ConfigMap, DeploymentSpec, DeploymentStatus, EndpointSlice, Event, Json, Kind, Members, Metadata, NamespaceStatus,
    NodeSpec, NodeStatus, PodSpec, PodStatus, ReplicaSetSpec, ReplicaSetStatus, Secret, ServiceAccount, ServiceSpec,
    ServiceStatus, StatefulSetSpec, StatefulSetStatus,
};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

/// Members that are looked at without a view of them, or that only a server fills in.
const ELSEWHERE: [&str; 4] = ["apiVersion", "kind", "metadata", "stringData"];
const SERVERS: [&str; 3] = ["managedFields", "resourceVersion", "selfLink"];
/// Members of a pod that are refused unless they are false.
const REFUSED: [&str; 2] = ["hostPID", "hostIPC"];

/// Reports every value of the wrong type and takes it out, so that what is left reads as the kind's views; and what no
/// view has.
pub(super) fn settle(kind: &'static Kind, object: &mut Json<'static>, report: &mut Report<'_>) {
    let spec =
        [Kind::POD, Kind::NODE, Kind::DEPLOYMENT, Kind::REPLICA_SET, Kind::STATEFUL_SET, Kind::SERVICE].contains(&kind);
    if spec || kind == Kind::NAMESPACE {
        for (key, _) in object.as_object().into_iter().flat_map(Members::iter) {
            if !ELSEWHERE.contains(&key) && key != "status" && !(spec && key == "spec") {
                report.unseen(vec![Segment::Key(key.to_string())]);
            }
        }
    }
    member::<Metadata>(object, "metadata", report);
    match kind {
        kind if kind == Kind::POD => {
            member::<PodSpec>(object, "spec", report);
            member::<PodStatus>(object, "status", report);
        }
        kind if kind == Kind::NODE => {
            member::<NodeSpec>(object, "spec", report);
            member::<NodeStatus>(object, "status", report);
        }
        kind if kind == Kind::DEPLOYMENT => {
            member::<DeploymentSpec>(object, "spec", report);
            member::<DeploymentStatus>(object, "status", report);
        }
        kind if kind == Kind::REPLICA_SET => {
            member::<ReplicaSetSpec>(object, "spec", report);
            member::<ReplicaSetStatus>(object, "status", report);
        }
        kind if kind == Kind::STATEFUL_SET => {
            member::<StatefulSetSpec>(object, "spec", report);
            member::<StatefulSetStatus>(object, "status", report);
        }
        kind if kind == Kind::SERVICE => {
            member::<ServiceSpec>(object, "spec", report);
            member::<ServiceStatus>(object, "status", report);
        }
        kind if kind == Kind::NAMESPACE => member::<NamespaceStatus>(object, "status", report),
        kind if kind == Kind::CONFIG_MAP => whole::<ConfigMap>(object, report, true),
        kind if kind == Kind::SECRET => {
            whole::<Secret>(object, report, false);
            let texts = Path::ROOT.key("stringData");
            if let Some(json) = object.as_object_mut().and_then(|members| members.get_mut("stringData")) {
                read::<BTreeMap<String, String>>(json, &texts, report, false);
            }
        }
        kind if kind == Kind::ENDPOINT_SLICE => whole::<EndpointSlice>(object, report, true),
        kind if kind == Kind::SERVICE_ACCOUNT => whole::<ServiceAccount>(object, report, true),
        _ => whole::<Event>(object, report, true),
    }
}

fn member<T: DeserializeOwned>(object: &mut Json<'static>, name: &str, report: &mut Report<'_>) {
    if let Some(json) = object.as_object_mut().and_then(|members| members.get_mut(name)) {
        read::<T>(json, &Path::ROOT.key(name), report, true);
    }
}

fn whole<T: DeserializeOwned>(object: &mut Json<'static>, report: &mut Report<'_>, shown: bool) {
    read::<T>(object, &Path::ROOT, report, shown);
}

/// Reads again and again, each time without what was wrong the last time, as far as [`limits::READ_AGAIN`] goes. `shown`:
/// whether messages may show values.
fn read<T: DeserializeOwned>(json: &mut Json<'static>, path: &Path<'_>, report: &mut Report<'_>, shown: bool) {
    let mut last = None;
    let (mut tried, mut bytes) = (0, 0);
    for _ in 0..4 * limits::MISTAKES {
        let text = json.canonical();
        bytes += text.len();
        if bytes > limits::READ_AGAIN && last.is_some() {
            break;
        }
        let mut deserializer = serde_json::Deserializer::from_str(&text);
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(&mut deserializer, &mut track);
        let mut unseen = Vec::new();
        let mut pass_over = |at: serde_ignored::Path<'_>| {
            if unseen.len() <= limits::WARNINGS + ELSEWHERE.len() + SERVERS.len() {
                unseen.push([path.segments(), segments(&at)].concat());
            }
        };
        let Err(error) = serde_ignored::deserialize::<_, _, T>(tracked, &mut pass_over) else {
            return unseen.into_iter().filter(|path| is_told(path)).for_each(|path| report.unseen(path));
        };
        let within: Vec<Segment> = track
            .path()
            .iter()
            .map_while(|segment| match segment {
                serde_path_to_error::Segment::Seq { index } => Some(Segment::Index(*index)),
                serde_path_to_error::Segment::Map { key } => Some(Segment::Key(key.clone())),
                _ => None,
            })
            .collect();
        if last.as_ref() == Some(&within) {
            tried += 1;
        } else {
            tried = 0;
            report.unreadable([path.segments(), within.clone()].concat(), explain(&error.to_string(), shown));
        }
        take_out(json, &within, tried);
        last = Some(within);
    }
    *json = Members::new().into();
}

fn segments(path: &serde_ignored::Path<'_>) -> Vec<Segment> {
    use serde_ignored::Path::*;
    let (parent, segment) = match path {
        Root => return Vec::new(),
        Seq { parent, index } => (parent, Some(Segment::Index(*index))),
        Map { parent, key } => (parent, Some(Segment::Key(key.clone()))),
        Some { parent } | NewtypeStruct { parent } | NewtypeVariant { parent } => (parent, None),
    };
    segments(parent).into_iter().chain(segment).collect()
}

/// Whether a member that no view has is worth a warning.
fn is_told(path: &[Segment]) -> bool {
    let among =
        |names: &[&str], segment: &Segment| matches!(segment, Segment::Key(key) if names.contains(&key.as_str()));
    match path {
        [first] => !among(&ELSEWHERE, first),
        [first, second] if among(&["metadata"], first) => !among(&SERVERS, second),
        [first, ..] if among(&["status"], first) => false,
        [.., last] => !among(&REFUSED, last),
        [] => false,
    }
}

/// Removes a member, or puts something else in the place of an item, so that the others keep their numbers.
fn take_out(json: &mut Json<'static>, path: &[Segment], tried: usize) {
    let Some((last, parents)) = path.split_last() else {
        *json = Members::new().into();
        return;
    };
    let parent = parents.iter().try_fold(&mut *json, |json, segment| match segment {
        Segment::Key(key) => json.as_object_mut()?.get_mut(key),
        Segment::Index(index) => json.as_array_mut()?.get_mut(*index),
    });
    match (parent, last) {
        (Some(Json::Object(members)), Segment::Key(key)) => drop(members.remove(key)),
        (Some(Json::Array(items)), Segment::Index(index)) => {
            let item = match tried {
                0 => Members::new().into(),
                1 => "".into(),
                2 => 0.into(),
                _ => return items.clear(),
            };
            if let Some(place) = items.get_mut(*index) {
                *place = item;
            }
        }
        _ => {}
    }
}

/// What the reader says, in the words of a manifest's author.
fn explain(said: &str, shown: bool) -> String {
    let said = said.rsplit_once(" at line ").map_or(said, |(said, _)| said);
    let is = |what: &str| {
        Some(match what.split_once(' ').unwrap_or((what, "")) {
            ("string", text) => format!("the text {text}"),
            ("integer", number) => format!("the number {}", number.trim_matches('`')),
            ("floating", rest) => format!("the number {}", rest.trim_start_matches("point ").trim_matches('`')),
            ("boolean", value) => value.trim_matches('`').to_string(),
            ("map", _) => "an object".into(),
            ("sequence", _) => "a list".into(),
            _ => return None,
        })
    };
    let wanted = |what: &str| match what {
        "a string" => "a text".to_string(),
        "i32" => "a whole number of at most 32 bits".into(),
        "i64" => "a whole number".into(),
        "a boolean" => "true or false".into(),
        "a sequence" => "a list".into(),
        "a map" => "an object".into(),
        other if other.starts_with("struct ") => "an object".into(),
        other => other.into(),
    };
    if let Some((found, expected)) = said
        .strip_prefix("invalid type: ")
        .or(said.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "))
    {
        let expected = wanted(expected);
        return match is(found).filter(|_| shown) {
            Some(found) => format!("must be {expected}, not {found}"),
            None => format!("must be {expected}"),
        };
    }
    if let Some((found, words)) = said.strip_prefix("unknown variant ").and_then(|rest| rest.split_once(", expected "))
    {
        let words = words.trim_start_matches("one of ").replace('`', "");
        return format!("must be one of {words}, not {}", found.replace('`', "\""));
    }
    said.to_string()
}
