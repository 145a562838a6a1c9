//! Editing: each touches the parts it names, and keeps what has no view.

use super::{
    Json, Metadata, Object,
    part::{Part, Place},
    parts::{Meta, refused, take_node},
    view::View,
};
use crate::base::Result;
use serde::Serialize;
use std::sync::Arc;

impl Object {
    /// The object with one part replaced by what this view says, and by nothing else: a status that a controller owns, the
    /// spec of an object being built. To keep what the view lacks, [`edit`](Object::edit).
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid) where the view is of another kind.
    pub fn with<T: View>(&self, view: &T) -> Result<Object> {
        if T::KIND != self.kind {
            return Err(refused(format!("a view of a {} cannot be part of it", T::KIND)).at(self.key().as_str()));
        }
        let mut next = self.clone();
        next.replace(T::PLACE, Json::of(view)?);
        Ok(next)
    }

    /// The object with this change made to one of its parts. Fields without a view are kept, except within a list that the
    /// change touches.
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid) where the part does not read as this view.
    pub fn edit<T: View>(&self, change: impl FnOnce(&mut T)) -> Result<Object> {
        let old = self.view::<T>()?;
        let Some(patch) = difference(old, change)? else { return Ok(self.clone()) };
        let mut next = self.clone();
        let merged = match self.part(T::PLACE) {
            Some(part) => part.json()?.merge(patch),
            None => Json::Null.merge(patch),
        };
        next.replace(T::PLACE, merged);
        Ok(next)
    }

    /// The object with this change made to its metadata; fields without a view are kept.
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid) where no name is left.
    pub fn edit_metadata(&self, change: impl FnOnce(&mut Metadata)) -> Result<Object> {
        let Some(patch) = difference(self.metadata(), change)? else { return Ok(self.clone()) };
        let meta = Meta::new(self.kind, Json::read(&self.meta.text)?.merge(patch))?;
        Ok(Object { meta, ..self.clone() })
    }

    /// The pod, bound to this node. Nothing else of it is read or written.
    #[must_use]
    pub fn bound(&self, node: impl Into<Arc<str>>) -> Object {
        Object { node: Some(node.into()), ..self.clone() }
    }

    /// The object with a JSON merge patch (RFC 7396) applied. Only the parts that it names are read and written.
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid) where the patch is no object, or would change kind, name, namespace or uid.
    pub fn patch(&self, patch: Json<'_>) -> Result<Object> {
        let Json::Object(changes) = patch else {
            return Err(
                refused(format!("a patch must be an object, not {}", patch.type_name())).at(self.key().as_str())
            );
        };
        let mut next = self.clone();
        let mut rest = super::Members::new();
        for (member, mut change) in changes {
            match &*member {
                "apiVersion" if change.as_str() == Some(self.kind.api_version) => {}
                "kind" if change.as_str() == Some(self.kind.name) => {}
                "apiVersion" | "kind" => return Err(refused(format!("{member} cannot change")).at(self.key().as_str())),
                "metadata" => {
                    let merged = Json::read(&self.meta.text)?.merge(change).without_nulls();
                    next.meta = Meta::new(self.kind, merged).map_err(|error| error.at(self.key().as_str()))?;
                }
                "spec" => {
                    match change.get("nodeName") {
                        Some(Json::Null) => next.node = None,
                        _ => next.node = take_node(self.kind, &mut change).or(next.node),
                    }
                    next.replace(Place::Spec, merge(self.part(Place::Spec), change)?);
                }
                "status" => next.replace(Place::Status, merge(self.part(Place::Status), change)?),
                _ => drop(rest.insert(member, change)),
            }
        }
        if !rest.is_empty() {
            next.replace(Place::Rest, merge(self.part(Place::Rest), rest.into())?);
        }
        let (old, new) = (self.metadata(), next.metadata());
        for (field, old, new) in
            [("name", &old.name, &new.name), ("namespace", &old.namespace, &new.namespace), ("uid", &old.uid, &new.uid)]
        {
            if old != new && !old.is_empty() {
                return Err(refused(format!("metadata.{field} cannot change")).at(self.key().as_str()));
            }
        }
        Ok(next)
    }

    fn replace(&mut self, place: Place, json: Json<'_>) {
        let empty = json.as_object().is_some_and(|members| members.is_empty());
        match place {
            Place::Spec if json == Json::Null => self.spec = None,
            Place::Spec => self.spec = Some(Part::shared(self.kind, &json)),
            Place::Status => self.status = (json != Json::Null).then(|| Part::new(&json)),
            Place::Rest => self.rest = (!empty).then(|| Part::new(&json)),
        }
    }
}

/// The patch that a change to a view amounts to; `None` for no change.
fn difference<T: Clone + PartialEq + Serialize>(old: &T, change: impl FnOnce(&mut T)) -> Result<Option<Json<'static>>> {
    let mut new = old.clone();
    change(&mut new);
    if new == *old { Ok(None) } else { Ok(Json::of(old)?.diff(&Json::of(&new)?)) }
}

fn merge<'a>(part: Option<&'a Arc<Part>>, change: Json<'a>) -> Result<Json<'a>> {
    let old = part.map_or(Ok(Json::Null), |part| part.json())?;
    Ok(old.merge(change).without_nulls())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::object::{ConfigMap, DeploymentSpec, DeploymentStatus, Kind, PodSpec, PodStatus};

    fn pod() -> Object {
        Object::read(
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"ns","odd":true,"labels":{"x":"1"}},
                "spec":{"containers":[{"name":"m","image":"i","odd":1}],"nodeName":"n1"},"status":{"odd":{},"phase":"Pending"},"more":{"a":1,"b":2}}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_patch_touches_the_parts_it_names() {
        let old = pod();
        let new = old.patch(Json::read(r#"{"status":{"phase":"Running"},"more":{"b":null,"c":[]}}"#).unwrap()).unwrap();
        assert!(Arc::ptr_eq(old.spec.as_ref().unwrap(), new.spec.as_ref().unwrap()));
        assert!(Arc::ptr_eq(&old.meta, &new.meta));
        assert_eq!(new.status.as_ref().unwrap().text(), r#"{"odd":{},"phase":"Running"}"#);
        assert_eq!(new.rest.as_ref().unwrap().text(), r#"{"more":{"a":1,"c":[]}}"#);
        assert_eq!(new.node(), Some("n1"));
        let moved = old.patch(Json::read(r#"{"spec":{"nodeName":"n2"}}"#).unwrap()).unwrap();
        assert_eq!(moved.node(), Some("n2"));
        assert!(old.same_spec(&moved));
    }

    #[test]
    fn a_patch_cannot_make_it_another_object() {
        for (patch, message) in [
            ("[]", "a patch must be an object, not a list"),
            (r#"{"kind":"Node"}"#, "kind cannot change"),
            (r#"{"metadata":{"name":"b"}}"#, "metadata.name cannot change"),
            (r#"{"metadata":{"namespace":null}}"#, "metadata.namespace cannot change"),
            (r#"{"metadata":null}"#, "metadata must be an object, not null"),
        ] {
            let error = pod().patch(Json::read(patch).unwrap()).unwrap_err();
            assert_eq!((error.message(), error.place()), (message, Some("pods/ns/a")));
        }
    }

    #[test]
    fn an_edit_keeps_what_it_does_not_know() {
        let old = pod();
        let new = old.edit::<PodSpec>(|spec| spec.hostname = "h".into()).unwrap();
        assert_eq!(
            new.spec.as_ref().unwrap().text(),
            r#"{"containers":[{"image":"i","name":"m","odd":1}],"hostname":"h"}"#
        );
        let new = new.edit::<PodSpec>(|spec| spec.hostname.clear()).unwrap();
        assert!(Arc::ptr_eq(old.spec.as_ref().unwrap(), new.spec.as_ref().unwrap()), "equal again, so one again");
        let new = old
            .edit_metadata(|metadata| {
                metadata.labels.remove("x");
                metadata.generation = 2;
            })
            .unwrap();
        assert_eq!(&*new.meta.text, r#"{"generation":2,"name":"a","namespace":"ns","odd":true}"#);
        assert!(old.edit::<DeploymentSpec>(|_| {}).is_err());
        assert_eq!(old.edit::<PodStatus>(|_| {}).unwrap(), old);
    }

    #[test]
    fn a_part_can_be_replaced() {
        let new = pod().with(&PodStatus::default()).unwrap();
        assert_eq!(new.status.as_ref().unwrap().text(), r#"{"phase":"Pending"}"#);
        assert!(pod().with(&DeploymentStatus::default()).is_err());
        let map = Object::new(Kind::CONFIG_MAP, &Metadata::named("ns", "c")).unwrap();
        let data = ConfigMap { data: [("a".to_string(), "1".to_string())].into(), ..ConfigMap::default() };
        let map = map.with(&data).unwrap();
        assert_eq!(
            map.write(0),
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c","namespace":"ns"},"data":{"a":"1"}}"#
        );
        assert!(map.with(&ConfigMap::default()).unwrap().rest.is_none());
    }
}
