//! How people name objects: `deployment/cart`, `deployment/shop/cart`.

use super::object::Kind;
use crate::{
    base::{self, Error, Result},
    store::Key,
};

/// An object by kind, namespace and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) kind: &'static Kind,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Reference {
    /// Reads `kind/name` (in the namespace `default`) or `kind/namespace/name`; the kind in any of its spellings.
    pub(super) fn read(text: &str) -> Result<Reference> {
        let invalid = |message: String| Err(Error::new(base::Kind::Invalid, message).at(text));
        let parts: Vec<&str> = text.split('/').collect();
        let (kind, namespace, name) = match parts.as_slice() {
            [kind, name] => (*kind, None, *name),
            [kind, namespace, name] => (*kind, Some(*namespace), *name),
            _ => return invalid("an object is named kind/name or kind/namespace/name".into()),
        };
        let Some(kind) = Kind::find(kind) else { return invalid(format!("there is no kind {kind:?}")) };
        if name.is_empty() || namespace == Some("") {
            return invalid("an object is named kind/name or kind/namespace/name".into());
        }
        match (kind.namespaced, namespace) {
            (false, Some(_)) => invalid(format!("a {kind} stands in no namespace")),
            (false, None) => Ok(Reference { kind, namespace: String::new(), name: name.into() }),
            (true, namespace) => {
                Ok(Reference { kind, namespace: namespace.unwrap_or("default").into(), name: name.into() })
            }
        }
    }

    /// An object of this kind, the kind given or not: `cart`, `shop/cart`, `deployment/cart`.
    pub(super) fn of(kind: &'static Kind, text: &str) -> Result<Reference> {
        let named = |kind: &Kind| format!("{}/{text}", kind.name);
        match text.split('/').next().and_then(Kind::find).filter(|_| text.contains('/')) {
            Some(found) if found == kind => Reference::read(text),
            _ => Reference::read(&named(kind)),
        }
    }

    pub(super) fn key(&self) -> Key {
        Key::from([self.kind.plural, &self.namespace, &self.name])
    }
}

/// The prefix of what is listed: `pods` (in all namespaces), `pods/shop`.
pub(super) fn prefix(text: &str) -> Result<String> {
    let (kind, namespace) = text.split_once('/').map_or((text, None), |(kind, namespace)| (kind, Some(namespace)));
    let Some(kind) = Kind::find(kind) else {
        return Err(Error::new(base::Kind::Invalid, format!("there is no kind {kind:?}")).at(text));
    };
    Ok(namespace.map_or_else(|| kind.prefix(), |namespace| format!("{}{namespace}/", kind.prefix())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_as_people_do() {
        for (text, key) in [
            ("deployment/cart", "deployments/default/cart"),
            ("deploy/shop/cart", "deployments/shop/cart"),
            ("no/node-0", "nodes/node-0"),
        ] {
            assert_eq!(Reference::read(text).unwrap().key(), key);
        }
        for (text, key) in
            [("cart", "pods/default/cart"), ("shop/cart", "pods/shop/cart"), ("pod/cart", "pods/default/cart")]
        {
            assert_eq!(Reference::of(Kind::POD, text).unwrap().key(), key);
        }
        for text in ["cart", "gadget/cart", "node/a/b", "pod//a", "pod/a/", "a/b/c/d"] {
            assert!(Reference::read(text).is_err(), "{text}");
        }
        assert_eq!(prefix("po").unwrap(), "pods/");
        assert_eq!(prefix("pods/shop").unwrap(), "pods/shop/");
    }
}
