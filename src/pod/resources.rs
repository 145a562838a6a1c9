//! What a pod's containers find by name, of any type: how a broker or a store reaches code that never names one.

use std::{any::Any, collections::BTreeMap, fmt, sync::Arc};

type Things = BTreeMap<String, Arc<dyn Any + Send + Sync>>;

/// Things under names, of any type; cheap to clone, a clone that is changed leaves the first alone.
///
/// Modules above keep what they resolve by configuration here. A trait object goes in as what holds it, such as
/// `Arc<dyn Broker>`, and is asked for by that type.
///
/// ```
/// use seedpod::pod::Resources;
/// let mut resources = Resources::default();
/// resources.insert("limit", 7_u32);
/// assert_eq!(resources.get::<u32>("limit").as_deref(), Some(&7));
/// assert!(resources.get::<String>("limit").is_none(), "of another type");
/// ```
#[derive(Clone, Default)]
pub struct Resources(Option<Arc<Things>>);

impl Resources {
    /// Puts a thing under this name, in the place of what stood there.
    pub fn insert<T: Any + Send + Sync>(&mut self, name: impl Into<String>, thing: T) {
        self.insert_shared(name, Arc::new(thing));
    }

    /// Puts a thing that is shared already under this name.
    pub fn insert_shared(&mut self, name: impl Into<String>, thing: Arc<dyn Any + Send + Sync>) {
        Arc::make_mut(self.0.get_or_insert_default()).insert(name.into(), thing);
    }

    /// The thing of this type under this name.
    pub fn get<T: Any + Send + Sync>(&self, name: &str) -> Option<Arc<T>> {
        self.0.as_ref()?.get(name)?.clone().downcast().ok()
    }

    /// All names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().flat_map(|things| things.keys().map(String::as_str))
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_clone_leaves_the_first_alone() {
        let mut first = Resources::default();
        first.insert("a", "one");
        let mut second = first.clone();
        second.insert("a", "two");
        second.insert("b", 2_u8);
        assert_eq!(first.get::<&str>("a").as_deref(), Some(&"one"));
        assert_eq!(second.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(first.names().count(), 1);
    }

    #[test]
    fn trait_objects_go_in_as_what_holds_them() {
        let mut resources = Resources::default();
        let shown: Arc<dyn fmt::Debug + Send + Sync> = Arc::new(5);
        resources.insert("shown", shown);
        assert_eq!(format!("{:?}", resources.get::<Arc<dyn fmt::Debug + Send + Sync>>("shown").unwrap()), "5");
    }
}
