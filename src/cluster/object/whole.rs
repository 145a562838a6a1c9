//! The parts put together again.

use super::{Json, Members, Object, json::quote, part::Part};
use crate::base::Result;
use std::sync::Arc;

impl Object {
    /// The whole as one tree, without a revision.
    ///
    /// # Errors
    /// [`Invalid`](crate::base::Kind::Invalid) never happens: every part was written by us.
    pub fn json(&self) -> Result<Json<'static>> {
        let mut whole: Members<'static> = match &self.rest {
            Some(rest) => match rest.json()?.into_owned() {
                Json::Object(members) => members,
                _ => Members::new(),
            },
            None => Members::new(),
        };
        whole.insert("apiVersion", self.kind.api_version);
        whole.insert("kind", self.kind.name);
        whole.insert("metadata", Json::read(&self.meta.text)?.into_owned());
        let mut spec = self.spec.as_ref().map(|spec| spec.json().map(Json::into_owned)).transpose()?;
        if let Some(node) = &self.node {
            let members = spec.get_or_insert_with(|| Members::new().into()).as_object_mut();
            members.map(|members| members.insert("nodeName", node.to_string()));
        }
        if let Some(spec) = spec {
            whole.insert("spec", spec);
        }
        if let Some(status) = &self.status {
            whole.insert("status", status.json()?.into_owned());
        }
        Ok(whole.into())
    }

    /// The whole as JSON text with this revision as its `resourceVersion`; none for revision 0.
    ///
    /// The parts are copied, not parsed. Each is canonical; the revision and the node come last in theirs.
    pub fn write(&self, revision: u64) -> String {
        let length = |part: &Option<Arc<Part>>| part.as_ref().map_or(0, |part| part.text().len());
        let parts = self.meta.text.len() + length(&self.spec) + length(&self.status) + length(&self.rest);
        let mut text = String::with_capacity(parts + 160);
        text.push_str("{\"apiVersion\":");
        quote(self.kind.api_version, &mut text);
        text.push_str(",\"kind\":");
        quote(self.kind.name, &mut text);
        text.push_str(",\"metadata\":");
        text.push_str(&self.meta.text);
        if revision > 0 {
            append(&mut text, "resourceVersion", &revision.to_string());
        }
        if self.spec.is_some() || self.node.is_some() {
            text.push_str(",\"spec\":");
            text.push_str(self.spec.as_ref().map_or("{}", |spec| spec.text()));
            if let Some(node) = &self.node {
                append(&mut text, "nodeName", node);
            }
        }
        if let Some(status) = &self.status {
            text.push_str(",\"status\":");
            text.push_str(status.text());
        }
        if let Some(members) = self.rest.as_ref().and_then(|rest| rest.text().strip_prefix('{')) {
            text.push(',');
            text.push_str(members);
        } else {
            text.push('}');
        }
        text
    }
}

/// Adds a member to the JSON object at the end of the text.
fn append(text: &mut String, key: &str, value: &str) {
    text.pop();
    if !text.ends_with('{') {
        text.push(',');
    }
    quote(key, text);
    text.push(':');
    quote(value, text);
    text.push('}');
}
