//! Templates: what pods are made from.

use super::{
    Json, Kind, Members, Metadata, Object,
    part::{Part, parse},
    parts::{Meta, refused, take_node},
    view::{PodSpec, TemplateMetadata},
};
use crate::base::{Labels, Result, hash};
use std::sync::Arc;

/// What the pods of a workload are made from, as JSON: what has no view is in its pods too.
///
/// ```
/// use seedpod::cluster::object::{Metadata, Object};
/// let set = Object::read(r#"{"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "cart", "namespace": "shop"},
///     "spec": {"template": {"metadata": {"labels": {"app": "cart"}}, "spec": {"containers": [], "ours": 1}}}}"#)?;
/// let pod = set.template()?.pod(&Metadata::named("shop", "cart-x7k2p"))?;
/// assert_eq!(pod.labels().get("app"), Some("cart"));
/// assert!(pod.write(0).contains(r#""ours":1"#));
/// # Ok::<(), seedpod::Error>(())
/// ```
#[derive(Clone)]
pub struct Template {
    metadata: Json<'static>,
    view: TemplateMetadata,
    spec: Arc<Part>,
    node: Option<Arc<str>>,
}

impl Object {
    /// What this workload's pods are made from.
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid), naming the object, where it has no template.
    pub fn template(&self) -> Result<Template> {
        let missing = || refused("it has no template".into()).at(self.key().as_str());
        let spec = self.spec.as_ref().ok_or_else(missing)?.json()?;
        Template::from_json(spec.get("template").ok_or_else(missing)?.clone())
            .map_err(|error| error.at(self.key().as_str()))
    }
}

impl Template {
    /// A template from its JSON, `metadata` and `spec`.
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid) where it has no spec, or its labels or annotations do not read.
    pub fn from_json(json: Json<'_>) -> Result<Template> {
        let Json::Object(mut members) = json else {
            return Err(refused(format!("a template must be an object, not {}", json.type_name())));
        };
        let mut spec = members.remove("spec").ok_or_else(|| refused("the template has no spec".into()))?;
        let metadata = members.remove("metadata").unwrap_or_else(|| Members::new().into());
        let node = take_node(Kind::POD, &mut spec);
        let view = parse(&metadata.canonical())?;
        Ok(Template { metadata: metadata.into_owned(), view, spec: Part::shared(Kind::POD, &spec), node })
    }

    /// The labels that its pods get.
    pub fn labels(&self) -> &Labels {
        &self.view.labels
    }

    /// What its pods want.
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid), naming the path, where it does not read.
    pub fn spec(&self) -> Result<&PodSpec> {
        self.spec.view()
    }

    /// The template with one more label on its pods.
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid) where its labels are no labels.
    pub fn with_label(&self, key: &str, value: &str) -> Result<Template> {
        let mut next = self.clone();
        let patch = Json::object([("labels", Json::object([(key.to_string(), value.to_string())]))]);
        next.metadata = next.metadata.merge(patch);
        next.view = parse(&next.metadata.canonical())?;
        Ok(next)
    }

    /// The template as JSON.
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid) never happens: the spec was written by us.
    pub fn json(&self) -> Result<Json<'static>> {
        let mut spec = self.spec.json()?.into_owned();
        if let (Some(node), Some(members)) = (&self.node, spec.as_object_mut()) {
            members.insert("nodeName", node.to_string());
        }
        Ok(Json::object([("metadata", self.metadata.clone()), ("spec", spec)]))
    }

    /// A short word for its content: equal templates have equal ones. Made of letters and digits that spell nothing.
    pub fn hash(&self) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789"; // as Kubernetes has it: no vowels, no words
        let content = format!("{}{}{:?}", self.metadata.canonical(), self.spec.text(), self.node);
        let mut number = hash::of(content.as_bytes());
        let letters = LETTERS.len() as u64;
        let word = std::iter::repeat_with(|| {
            let letter = LETTERS.get((number % letters) as usize);
            number /= letters;
            letter.map_or('0', |byte| char::from(*byte))
        });
        word.take(10).collect()
    }

    /// A pod made from it. Name, namespace, owners and the like come from this metadata; labels and annotations are the
    /// template's, and those of the metadata on top.
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid) where the metadata has no name.
    pub fn pod(&self, metadata: &Metadata) -> Result<Object> {
        let meta = Meta::new(Kind::POD, self.metadata.clone().merge(Json::of(metadata)?))?;
        let (spec, node) = (Some(self.spec.clone()), self.node.clone());
        Ok(Object { kind: Kind::POD, meta, spec, node, status: None, rest: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        Template::from_json(Json::read(text).unwrap()).unwrap()
    }

    #[test]
    fn equal_templates_hash_alike_and_others_do_not() {
        let one = template(r#"{"metadata":{"labels":{"a":"1"}},"spec":{"containers":[],"x":1}}"#);
        assert_eq!(one.hash(), template(r#"{"spec":{"x":1,"containers":[]},"metadata":{"labels":{"a":"1"}}}"#).hash());
        assert_ne!(one.hash(), template(r#"{"metadata":{"labels":{"a":"1"}},"spec":{"containers":[],"x":2}}"#).hash());
        assert_ne!(one.hash(), one.with_label("b", "2").unwrap().hash());
        assert_eq!(one.hash().len(), 10);
    }

    #[test]
    fn pods_share_the_spec_and_keep_everything() {
        let text = r#"{"metadata":{"annotations":{"n":"1"},"labels":{"a":"1"},"odd":[]},"spec":{"containers":[],"nodeName":"n1","odd":1.0}}"#;
        let template = template(text).with_label("b", "2").unwrap();
        assert_eq!(template.json().unwrap(), Json::read(&text.replace(r#""a":"1""#, r#""a":"1","b":"2""#)).unwrap());
        let (one, two) = (Metadata::named("ns", "one"), Metadata::named("ns", "two"));
        let (one, two) = (template.pod(&one).unwrap(), template.pod(&two).unwrap());
        assert!(one.same_spec(&two));
        assert_eq!(
            one.write(0),
            concat!(
                r#"{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":{"n":"1"},"labels":{"a":"1","b":"2"},"name":"one","#,
                r#""namespace":"ns","odd":[]},"spec":{"containers":[],"odd":1.0,"nodeName":"n1"}}"#
            )
        );
    }
}
