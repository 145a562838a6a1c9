//! Text to objects.

use super::{
    check, defaults,
    inert::{self, Warning},
    limits,
    mistake::{Mistake, Mistakes, Report},
    path::{Path, Segment},
    types,
    yaml::{self, Tree},
};
use crate::{
    base::{Result, name},
    cluster::object::{Json, Kind, Object},
    store::Key,
};
use std::collections::BTreeMap;

/// Reads a manifest: documents of YAML (of which JSON is a part), each an object or a `List` of objects.
///
/// Every object comes out with Kubernetes' defaults filled in and its fields checked; fields that are not known here are
/// kept. Booleans are YAML 1.2's (`yes` is a text), `0644` is an octal number, a member that is `null` is an absent one.
///
/// ```
/// use seedpod::cluster::{manifest, object::DeploymentSpec};
///
/// let text = "
/// apiVersion: apps/v1
/// kind: Deployment
/// metadata:
///   name: cart
/// spec:
///   selector:
///     matchLabels: {app: cart}
///   template:
///     metadata:
///       labels: {app: cart}
///     spec:
///       containers:
///       - name: main
///         image: shop/cart:v1
/// ";
/// let objects = manifest::parse(text)?;
/// assert_eq!(objects[0].key().as_str(), "deployments/default/cart");
/// assert_eq!(objects[0].view::<DeploymentSpec>()?.replicas, Some(1));
///
/// let error = manifest::parse(&text.replace("image: shop/cart:v1", "ports: [{containerPort: http}]")).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "invalid: 2 mistakes\n\
///      document 1, line 14: Deployment cart: spec.template.spec.containers[0].image is required\n\
///      document 1, line 15: Deployment cart: spec.template.spec.containers[0].ports[0].containerPort \
///      must be a whole number of at most 32 bits, not the text \"http\""
/// );
/// # Ok::<(), seedpod::Error>(())
/// ```
///
/// # Errors
/// [`Invalid`](crate::base::Kind::Invalid), listing all mistakes, up to [`limits::MISTAKES`]; [`Mistakes`] is its source.
/// A text beyond the [`limits`] is refused before it costs anything, or as soon as it does.
pub fn parse(text: &str) -> Result<Vec<Object>> {
    Ok(read(text)?.into_iter().map(|read| read.object).collect())
}

/// What a manifest says without effect, of all its objects: at most [`limits::WARNINGS`] for each.
///
/// The table is [`INERT`](super::INERT).
///
/// # Errors
/// Those of [`parse`].
pub fn warnings(text: &str) -> Result<Vec<Warning>> {
    Ok(read(text)?.into_iter().flat_map(|read| read.warnings).collect())
}

/// An object of a manifest, and what it says without effect.
#[derive(Clone, Debug)]
pub(in crate::cluster) struct Read {
    pub(in crate::cluster) object: Object,
    pub(in crate::cluster) warnings: Vec<Warning>,
}

/// As [`parse`], with the warnings.
pub(in crate::cluster) fn read(text: &str) -> Result<Vec<Read>> {
    let mut reading = Reading::default();
    if text.len() > limits::TEXT_BYTES {
        reading.refuse(0, 0, format!("the text has {} bytes, of at most {}", text.len(), limits::TEXT_BYTES));
        return reading.end();
    }
    for (index, document) in yaml::split(text).enumerate() {
        let number = index + 1;
        if number > limits::DOCUMENTS {
            reading.refuse(number, document.line, format!("there are more than {} documents", limits::DOCUMENTS));
            break;
        }
        if document.text.len() > limits::DOCUMENT_BYTES {
            let (length, most) = (document.text.len(), limits::DOCUMENT_BYTES);
            reading.refuse(number, document.line, format!("the document has {length} bytes, of at most {most}"));
            continue;
        }
        match yaml::read(&document) {
            Ok(tree) => {
                // a value takes two bytes of text at least, unless an alias repeats it
                reading.repeats += tree.count().saturating_sub(document.text.len() / 2 + 1);
                if reading.repeats > limits::REPEATS {
                    let message = format!("aliases repeat more than {} values", limits::REPEATS);
                    reading.refuse(number, tree.line, message);
                    break;
                }
                reading.document(number, &tree);
            }
            Err((line, message)) => reading.refuse(number, line, message),
        }
    }
    if reading.objects.is_empty() && reading.mistakes.list.is_empty() {
        reading.refuse(0, 0, "there is no object in it".into());
    }
    reading.end()
}

/// An object from its JSON, with its defaults filled in and its fields checked, as [`parse`] does it.
///
/// ```
/// use seedpod::cluster::{manifest, object::Json};
/// let pod = manifest::complete(Json::read(
///     r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "m", "image": "i"}]}}"#,
/// )?)?;
/// assert_eq!(pod.namespace(), "default");
/// # Ok::<(), seedpod::Error>(())
/// ```
///
/// # Errors
/// [`Invalid`](crate::base::Kind::Invalid), listing all mistakes.
pub fn complete(json: Json<'_>) -> Result<Object> {
    let mut reading = Reading::default();
    let json = json.into_owned();
    reading.object(0, &[], &Tree::without_lines(), json);
    let read = reading.end()?.pop();
    read.map(|read| read.object).ok_or_else(|| crate::base::Kind::Invalid.into())
}

/// A kind, a blank, and a name of 253 letters.
const CALLED: usize = 280;

#[derive(Default)]
struct Reading {
    objects: Vec<Read>,
    mistakes: Mistakes,
    /// How many values aliases have repeated so far, at least.
    repeats: usize,
    /// Where each object stands, to find those that stand twice.
    seen: BTreeMap<Key, (usize, usize)>,
}

impl Reading {
    fn refuse(&mut self, document: usize, line: usize, message: String) {
        self.mistakes.push(Mistake { document, line, object: String::new(), path: String::new(), message });
    }

    fn document(&mut self, document: usize, tree: &Tree) {
        let json = tree.json();
        let listed = json.get("kind").and_then(Json::as_str) == Some("List");
        if !listed || json.get("apiVersion").and_then(Json::as_str) != Some("v1") {
            return self.object(document, &[], tree, json);
        }
        let Some(items) = tree.get("items").and_then(Tree::items) else {
            return self.refuse(document, tree.line, "a List needs items".into());
        };
        for (index, item) in items.iter().enumerate() {
            let within = [Segment::Key("items".into()), Segment::Index(index)];
            self.object(document, &within, item, item.json());
        }
    }

    fn object(&mut self, document: usize, within: &[Segment], tree: &Tree, json: Json<'static>) {
        let given = json.without_nulls();
        let mut report = Report::new(&given);
        let mut called = given.get("kind").and_then(Json::as_str).unwrap_or_default().to_string();
        if let Some(name) = given.at(&["metadata", "name"]).and_then(Json::as_str) {
            called = format!("{called} {name}").trim().to_string();
        }
        let called = short(called);
        if let Some(object) = examine(&given, &mut report) {
            let placeholder = given.at(&["metadata", "name"]).and_then(Json::as_str) != Some(object.name());
            match self.seen.get(object.key()) {
                _ if placeholder => {}
                Some((document, line)) if *document > 0 => {
                    let message = format!("stands in document {document}, line {line}, already");
                    report.add(&Path::ROOT, message);
                }
                _ => drop(self.seen.insert(object.key().clone(), (document, tree.line))),
            }
            if report.is_empty() {
                let found = inert::find(object.kind(), &given, report.all_unseen());
                let warnings = inert::warnings(found, document, within, tree, &called);
                self.objects.push(Read { object, warnings });
            }
        }
        report.end(document, within, tree, &called, &mut self.mistakes);
    }

    fn end(self) -> Result<Vec<Read>> {
        self.mistakes.end()?;
        Ok(self.objects)
    }
}

/// What an object is called in each of its mistakes: no longer than a good kind and name can be.
fn short(mut called: String) -> String {
    if let Some((end, _)) = called.char_indices().nth(CALLED) {
        called.truncate(end);
        called.push('…');
    }
    called
}

/// Everything about one object. Comes back with one wherever that makes sense, mistakes or not.
fn examine(given: &Json<'static>, report: &mut Report<'_>) -> Option<Object> {
    let kind = kind(given, report)?;
    let mut json = given.clone();
    types::settle(kind, &mut json, report);
    named(kind, &mut json, report);
    defaults::fill(kind, &mut json);
    match Object::from_json(json) {
        Ok(object) => {
            check::object(&object, report);
            Some(object)
        }
        Err(error) => {
            report.add(&Path::ROOT, error.message().to_string());
            None
        }
    }
}

fn kind(given: &Json<'_>, report: &mut Report<'_>) -> Option<&'static Kind> {
    let root = Path::ROOT;
    if given.as_object().is_none() {
        report.add(&root, format!("an object must have members, it cannot be {}", given.type_name()));
        return None;
    }
    let (name, version) = (given.get("kind"), given.get("apiVersion"));
    report.required(version.is_some(), &root.key("apiVersion"));
    let Some(name) = name else {
        report.required(false, &root.key("kind"));
        return None;
    };
    let found = name.as_str().and_then(Kind::named);
    let Some(kind) = found else {
        let known: Vec<_> = Kind::all().iter().map(|kind| kind.name).collect();
        let asked = name.as_str().map_or(name.type_name().to_string(), |name| format!("{name:?}"));
        let hint = match name.as_str().and_then(Kind::find) {
            Some(meant) => format!("write {:?}", meant.name),
            None => format!("known are {}", known.join(", ")),
        };
        report.add(&root.key("kind"), format!("is {asked}, which is not known here; {hint}"));
        return None;
    };
    if let Some(version) = version
        && version.as_str() != Some(kind.api_version)
    {
        let asked = version.as_str().map_or(version.type_name().to_string(), |version| format!("{version:?}"));
        report.add(&root.key("apiVersion"), format!("must be {:?} for a {kind}, not {asked}", kind.api_version));
    }
    Some(kind)
}

/// Names are checked before there is an object, since an object needs good ones; bad ones are replaced.
fn named(kind: &'static Kind, json: &mut Json<'static>, report: &mut Report<'_>) {
    let Some(object) = json.as_object_mut() else { return };
    object.insert("apiVersion", kind.api_version);
    let path = Path::ROOT.key("metadata");
    report.required(report.has(&path), &path);
    let Json::Object(metadata) = object.or_insert("metadata", crate::cluster::object::Members::new()) else { return };
    let labels_only = kind == Kind::NAMESPACE || kind == Kind::SERVICE;
    let checked = metadata
        .get("name")
        .and_then(Json::as_str)
        .map(|text| if labels_only { name::check_label(text) } else { name::check_subdomain(text) });
    match checked {
        Some(Ok(())) => {}
        Some(checked) => {
            report.check(&path.key("name"), checked);
            metadata.insert("name", "unnamed");
        }
        None => {
            report.required(!report.has(&path), &path.key("name"));
            metadata.insert("name", "unnamed");
        }
    }
    if let Some(Err(error)) = metadata.get("namespace").and_then(Json::as_str).map(name::check_label) {
        report.check(&path.key("namespace"), Err(error));
        metadata.remove("namespace");
    }
    if !kind.namespaced && metadata.remove("namespace").is_some() {
        report.add(&path.key("namespace"), format!("must not be set: a {kind} has none"));
    }
}
