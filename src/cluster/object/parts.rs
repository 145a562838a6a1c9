//! An object in parts.

use super::{
    Json, Kind, Metadata,
    part::{Part, Place, parse},
    view::View,
};
use crate::base::{self, Error, Labels, Result};
use crate::store::Key;
use std::{fmt, sync::Arc};

/// A Kubernetes object: metadata, spec, status and the rest, each as canonical JSON with a typed view parsed on demand.
///
/// Cheap to clone, and never changed: editing makes another that shares every part that is the same. Equal specs are
/// shared among all objects of a kind; the node that a pod is bound to stands beside its spec, so that pods of one
/// template go on sharing it. A member that is `null` is an absent one, as in Kubernetes. The revision is the store's: it
/// is written with the object ([`write`](Object::write)), and dropped when one is read.
///
/// ```
/// use seedpod::cluster::object::{ContainerStatus, Kind, Metadata, Object, PodPhase, PodSpec, PodStatus};
///
/// let pod = Object::new(Kind::POD, &Metadata::named("shop", "cart-0"))?.with(&PodSpec::default())?;
/// let bound = pod.bound("node-1");
/// let running = bound.edit::<PodStatus>(|status| status.phase = PodPhase::Running)?;
/// assert_eq!(running.node(), Some("node-1"));
/// assert_eq!(running.view::<PodStatus>()?.phase, PodPhase::Running);
/// assert_eq!(running.key().as_str(), "pods/shop/cart-0");
/// # Ok::<(), seedpod::Error>(())
/// ```
#[derive(Clone, PartialEq)]
pub struct Object {
    pub(super) kind: &'static Kind,
    pub(super) meta: Arc<Meta>,
    pub(super) spec: Option<Arc<Part>>,
    /// `spec.nodeName` of a pod.
    pub(super) node: Option<Arc<str>>,
    pub(super) status: Option<Arc<Part>>,
    /// Every other member (`data`, `endpoints`, …), as one JSON object.
    pub(super) rest: Option<Arc<Part>>,
}

/// The metadata, which is always parsed: everyone asks for the name.
#[derive(PartialEq)]
pub(super) struct Meta {
    pub(super) text: Box<str>,
    pub(super) view: Metadata,
    key: Key,
}

impl Meta {
    pub(super) fn new(kind: &Kind, mut json: Json<'_>) -> Result<Arc<Meta>> {
        let Some(members) = json.as_object_mut() else {
            return Err(refused(format!("metadata must be an object, not {}", json.type_name())));
        };
        members.remove("resourceVersion");
        if !kind.namespaced {
            members.remove("namespace");
        }
        let text = json.canonical();
        let view: Metadata = parse(&text)?;
        if view.name.is_empty() {
            return Err(refused(format!("a {kind} needs a metadata.name")));
        }
        for name in [&view.name, &view.namespace] {
            if name.contains('/') {
                return Err(refused(format!("the name {name:?} must not have a slash"))); // keys are made of it
            }
        }
        let key = match view.namespace.as_str() {
            "" => Key::from([kind.plural, &view.name]),
            namespace => Key::from([kind.plural, namespace, &view.name]),
        };
        Ok(Arc::new(Meta { text: text.into(), view, key }))
    }
}

impl Object {
    /// An object with this metadata and nothing else.
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid) where the metadata has no name.
    pub fn new(kind: &'static Kind, metadata: &Metadata) -> Result<Object> {
        let meta = Meta::new(kind, Json::of(metadata)?)?;
        Ok(Object { kind, meta, spec: None, node: None, status: None, rest: None })
    }

    /// Reads an object from its JSON text.
    ///
    /// Checks no more than that it is an object of a known kind with a name: defaults and validation are
    /// [`manifest`](crate::cluster::manifest)'s.
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid) where the text is no JSON, the kind is missing or unknown, or the metadata does not
    /// read.
    pub fn read(text: &str) -> Result<Object> {
        Object::from_json(Json::read(text)?)
    }

    /// An object from its JSON, with the promises of [`read`](Object::read).
    ///
    /// # Errors
    /// Those of [`read`](Object::read).
    pub fn from_json(json: Json<'_>) -> Result<Object> {
        let Json::Object(mut members) = json.without_nulls() else {
            return Err(refused("this is not a JSON object".into()));
        };
        let name = members.remove("kind");
        let name = name.as_ref().and_then(Json::as_str).ok_or_else(|| refused("the kind is missing".into()))?;
        let kind = Kind::named(name).ok_or_else(|| refused(format!("the kind {name:?} is unknown")))?;
        let version = members.remove("apiVersion");
        if version.as_ref().and_then(Json::as_str) != Some(kind.api_version) {
            return Err(refused(format!("the apiVersion of a {kind} is {}", kind.api_version)));
        }
        let metadata = members.remove("metadata").ok_or_else(|| refused(format!("a {kind} needs metadata")))?;
        let (mut spec, status) = (members.remove("spec"), members.remove("status"));
        Ok(Object {
            kind,
            meta: Meta::new(kind, metadata)?,
            node: spec.as_mut().and_then(|spec| take_node(kind, spec)),
            spec: spec.map(|spec| Part::shared(kind, &spec)),
            status: status.map(|status| Part::new(&status)),
            rest: (!members.is_empty()).then(|| Part::new(&Json::Object(members))),
        })
    }

    /// What kind of object it is.
    pub fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// Its metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.meta.view
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.meta.view.name
    }

    /// Its namespace; empty where its kind has none.
    pub fn namespace(&self) -> &str {
        &self.meta.view.namespace
    }

    /// Its identity over all time; empty until it has been created.
    pub fn uid(&self) -> &str {
        &self.meta.view.uid
    }

    /// Its labels.
    pub fn labels(&self) -> &Labels {
        &self.meta.view.labels
    }

    /// The node that this pod is bound to.
    pub fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    /// Where it stands in the store: `pods/shop/cart-0`, or `nodes/node-1` for a kind without namespaces.
    pub fn key(&self) -> &Key {
        &self.meta.key
    }

    /// A typed view of one of its parts, parsed at the first call; where the part is absent, one with nothing set.
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid), naming object and path, where the part does not read as this view, or the view is
    /// of another kind.
    pub fn view<T: View>(&self) -> Result<&T> {
        if T::KIND != self.kind {
            return Err(refused(format!("it has no view for a {}", T::KIND)).at(self.key().as_str()));
        }
        match self.part(T::PLACE) {
            Some(part) => part.view().map_err(|error| error.at(self.key().as_str())),
            None => Ok(T::absent()),
        }
    }

    pub(super) fn part(&self, place: Place) -> Option<&Arc<Part>> {
        match place {
            Place::Spec => self.spec.as_ref(),
            Place::Status => self.status.as_ref(),
            Place::Rest => self.rest.as_ref(),
        }
    }

    /// Whether the other has the very same spec. Quick for equal ones, which are one.
    pub fn same_spec(&self, other: &Object) -> bool {
        self.kind == other.kind && self.spec == other.spec
    }
}

/// Takes the node out of a pod's spec.
pub(super) fn take_node(kind: &Kind, spec: &mut Json<'_>) -> Option<Arc<str>> {
    let members = if kind == Kind::POD { spec.as_object_mut()? } else { return None };
    members.get("nodeName").and_then(Json::as_str)?;
    members.remove("nodeName").and_then(|node| node.as_str().filter(|name| !name.is_empty()).map(Arc::from))
}

/// Names it, and shows nothing of what it holds: it may be a secret.
impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({})", self.key())
    }
}

#[cold]
pub(super) fn refused(message: String) -> Error {
    Error::new(base::Kind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::object::{DeploymentSpec, PodSpec, PodStatus};

    const POD: &str = r#"{"spec":{"z":1.0,"nodeName":"n1","containers":[]},"weird":{"b":1e3,"a":[{"y":0,"x":"\u00e9"}]},"kind":"Pod",
        "metadata":{"namespace":"ns","name":"a","odd":true,"resourceVersion":"3","labels":null},"apiVersion":"v1"}"#;

    #[test]
    fn unknown_fields_round_trip_in_canonical_order() {
        let object = Object::read(POD).unwrap();
        let text = object.write(7);
        assert_eq!(
            text,
            concat!(
                r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","namespace":"ns","odd":true,"resourceVersion":"7"},"#,
                r#""spec":{"containers":[],"z":1.0,"nodeName":"n1"},"weird":{"a":[{"x":"é","y":0}],"b":1e3}}"#
            )
        );
        assert_eq!(Object::read(&text).unwrap(), object);
        assert_eq!(Object::from_json(object.json().unwrap()).unwrap(), object);
        assert_eq!((object.key().as_str(), object.node()), ("pods/ns/a", Some("n1")));
        assert_eq!(format!("{object:?}"), "Object(pods/ns/a)");
    }

    #[test]
    fn equal_specs_are_shared_across_nodes() {
        let one = Object::read(POD).unwrap();
        let other = Object::read(&POD.replace("n1", "n2").replace("\"a\",\"odd\"", "\"b\",\"odd\"")).unwrap();
        assert!(Arc::ptr_eq(one.spec.as_ref().unwrap(), other.spec.as_ref().unwrap()));
        assert!(one.same_spec(&other) && one != other);
    }

    #[test]
    fn views_are_of_one_kind_and_mistakes_name_the_path() {
        let object = Object::read(POD).unwrap();
        assert!(std::ptr::eq(object.view::<PodSpec>().unwrap(), object.view::<PodSpec>().unwrap()));
        assert_eq!(object.view::<PodStatus>().unwrap(), &PodStatus::default());
        let error = object.view::<DeploymentSpec>().unwrap_err();
        assert_eq!(error.to_string(), "pods/ns/a: invalid: it has no view for a Deployment");
        let wrong = Object::read(&POD.replace("[]", r#"[{"name":"m","ports":[{"containerPort":"x"}]}]"#)).unwrap();
        let error = wrong.view::<PodSpec>().unwrap_err();
        assert_eq!(error.to_string(), "pods/ns/a: invalid: containers[0].ports[0].containerPort does not read");
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for (text, message) in [
            ("[]", "this is not a JSON object"),
            ("{}", "the kind is missing"),
            (r#"{"kind":"Gadget"}"#, "the kind \"Gadget\" is unknown"),
            (r#"{"kind":"Pod","apiVersion":"v2"}"#, "the apiVersion of a Pod is v1"),
            (r#"{"kind":"Pod","apiVersion":"v1"}"#, "a Pod needs metadata"),
            (r#"{"kind":"Pod","apiVersion":"v1","metadata":[]}"#, "metadata must be an object, not a list"),
            (r#"{"kind":"Pod","apiVersion":"v1","metadata":{}}"#, "a Pod needs a metadata.name"),
            (r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":1}}"#, "name does not read"),
            (r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a/b"}}"#, "the name \"a/b\" must not have a slash"),
        ] {
            assert_eq!(Object::read(text).unwrap_err().message(), message);
        }
    }
}
