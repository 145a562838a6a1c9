//! A container's environment: values, references, `$(NAME)`.

use super::Problem;
use crate::{
    cluster::object::{
        ConfigMap, Container, EnvVar, Metadata, PodSpec, Quantity, ResourceFieldSelector, Secret, ServicePort,
    },
    pod::Volume,
};
use std::collections::BTreeMap;

/// What references are resolved against.
pub(super) struct Site<'a> {
    pub(super) metadata: &'a Metadata,
    pub(super) spec: &'a PodSpec,
    pub(super) node: &'a str,
    pub(super) host_ip: &'a str,
    pub(super) pod_ip: &'a str,
    /// Config maps and secrets of the pod's namespace, by name.
    pub(super) config_map: &'a dyn Fn(&str) -> Option<ConfigMap>,
    pub(super) secret: &'a dyn Fn(&str) -> Option<Secret>,
    /// The volumes of claims, by name.
    pub(super) claim: &'a dyn Fn(&str) -> Option<Volume>,
}

/// The environment of a container, later declarations over earlier ones: services, `envFrom`, `env`.
pub(super) fn environment(
    site: &Site<'_>,
    services: &BTreeMap<String, String>,
    container: &Container,
) -> Result<BTreeMap<String, String>, Problem> {
    let mut found = services.clone();
    for source in &container.env_from {
        if let Some(reference) = &source.config_map_ref {
            match (site.config_map)(&reference.name) {
                Some(map) => {
                    found.extend(map.data.into_iter().map(|(key, value)| (source.prefix.clone() + &key, value)))
                }
                None if reference.optional == Some(true) => {}
                None => return Err(Problem::config(format!("configmap {:?} not found", reference.name))),
            }
        }
        if let Some(reference) = &source.secret_ref {
            match (site.secret)(&reference.name) {
                Some(secret) => found.extend(
                    secret
                        .data
                        .iter()
                        .filter_map(|(key, value)| Some((source.prefix.clone() + key, value.as_str()?.to_owned()))),
                ),
                None if reference.optional == Some(true) => {}
                None => return Err(Problem::config(format!("secret {:?} not found", reference.name))),
            }
        }
    }
    for variable in &container.env {
        if let Some(value) = value(site, container, variable, &found)? {
            found.insert(variable.name.clone(), value);
        }
    }
    Ok(found)
}

fn value(
    site: &Site<'_>,
    container: &Container,
    variable: &EnvVar,
    earlier: &BTreeMap<String, String>,
) -> Result<Option<String>, Problem> {
    let Some(source) = &variable.value_from else {
        return Ok(Some(expand(variable.value.as_deref().unwrap_or_default(), earlier)));
    };
    if let Some(reference) = &source.config_map_key_ref {
        let map = (site.config_map)(&reference.name);
        let missing = match &map {
            Some(_) => format!(
                "couldn't find key {} in ConfigMap {}/{}",
                reference.key, site.metadata.namespace, reference.name
            ),
            None => format!("configmap {:?} not found", reference.name),
        };
        return needed(map.and_then(|mut map| map.data.remove(&reference.key)), reference.optional, missing);
    }
    if let Some(reference) = &source.secret_key_ref {
        let secret = (site.secret)(&reference.name);
        let missing = match &secret {
            Some(_) => {
                format!("couldn't find key {} in Secret {}/{}", reference.key, site.metadata.namespace, reference.name)
            }
            None => format!("secret {:?} not found", reference.name),
        };
        let text = secret.and_then(|secret| secret.data.get(&reference.key)?.as_str().map(str::to_owned));
        return needed(text, reference.optional, missing);
    }
    if let Some(reference) = &source.field_ref {
        return field(site, &reference.field_path).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        return resource(site, container, reference).map(Some);
    }
    Ok(None)
}

fn needed(value: Option<String>, optional: Option<bool>, missing: String) -> Result<Option<String>, Problem> {
    match value {
        None if optional != Some(true) => Err(Problem::config(missing)),
        value => Ok(value),
    }
}

/// A field of the pod, by its path (the downward API).
fn field(site: &Site<'_>, path: &str) -> Result<String, Problem> {
    let metadata = site.metadata;
    let keyed = |of: &str| path.strip_prefix(of)?.strip_prefix("['")?.strip_suffix("']").map(str::to_owned);
    if let Some(key) = keyed("metadata.labels") {
        return Ok(metadata.labels.get(&key).unwrap_or_default().into());
    }
    if let Some(key) = keyed("metadata.annotations") {
        return Ok(metadata.annotations.get(&key).cloned().unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "spec.nodeName" => site.node.into(),
        "spec.serviceAccountName" => match site.spec.service_account_name.as_str() {
            "" => "default".into(),
            name => name.into(),
        },
        "status.podIP" | "status.podIPs" => site.pod_ip.into(),
        "status.hostIP" | "status.hostIPs" => site.host_ip.into(),
        _ => return Err(Problem::config(format!("unsupported fieldPath: {path}"))),
    })
}

/// A resource of a container, counted in units of the divisor and rounded up.
fn resource(site: &Site<'_>, asking: &Container, reference: &ResourceFieldSelector) -> Result<String, Problem> {
    let all = site.spec.containers.iter().chain(&site.spec.init_containers);
    let named = all.into_iter().find(|container| container.name == reference.container_name);
    let container = if reference.container_name.is_empty() { Some(asking) } else { named };
    let unknown = || Problem::config(format!("unsupported container resource: {}", reference.resource));
    let (list, name) = match (container, reference.resource.split_once('.')) {
        (Some(container), Some(("limits", name))) => (&container.resources.limits, name),
        (Some(container), Some(("requests", name))) => (&container.resources.requests, name),
        _ => return Err(unknown()),
    };
    let milli = |quantity: &Quantity| i128::from(quantity.milli_value());
    let asked = list.get(name).map_or(0, milli);
    let unit = reference.divisor.as_ref().map_or(0, milli);
    Ok(asked
        .div_euclid(if unit <= 0 { 1000 } else { unit })
        .saturating_add(i128::from(asked.rem_euclid(if unit <= 0 { 1000 } else { unit }) > 0))
        .to_string())
}

/// Puts values in the place of `$(NAME)`. `$$` stands for one `$`; a name that is unknown stays as it is written.
pub(super) fn expand(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let after = after.get(1..).unwrap_or_default();
        if let Some(escaped) = after.strip_prefix('$') {
            out.push('$');
            rest = escaped;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match values.get(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out + rest
}

/// The variables by which containers find a service without DNS: `CART_SERVICE_HOST`, `CART_SERVICE_PORT`, and
/// `CART_SERVICE_PORT_HTTP` for each named port. (Kubernetes' older `CART_PORT_80_TCP_…` are left out.)
pub(super) fn of_service(name: &str, ip: &str, ports: &[ServicePort]) -> Vec<(String, String)> {
    let shout = |text: &str| text.replace(['-', '.'], "_").to_uppercase();
    let name = shout(name);
    let mut variables = vec![(format!("{name}_SERVICE_HOST"), ip.to_owned())];
    if let Some(first) = ports.first() {
        variables.push((format!("{name}_SERVICE_PORT"), first.port.to_string()));
    }
    for port in ports.iter().filter(|port| !port.name.is_empty()) {
        variables.push((format!("{name}_SERVICE_PORT_{}", shout(&port.name)), port.port.to_string()));
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_expand_as_in_kubernetes() {
        let values = BTreeMap::from([("A".to_string(), "1".to_string())]);
        for (text, expected) in [
            ("$(A)-$(A)", "1-1"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("", ""),
        ] {
            assert_eq!(expand(text, &values), expected, "{text}");
        }
    }

    #[test]
    fn all_sources_are_read() {
        let container: Container = serde_json::from_str(
            r#"{"name":"main","resources":{"limits":{"cpu":"1500m","memory":"1Gi"}},
                "envFrom":[{"prefix":"C_","configMapRef":{"name":"settings"}},{"secretRef":{"name":"none","optional":true}}],
                "env":[{"name":"PLAIN","value":"v"},{"name":"TWICE","value":"$(PLAIN)$(PLAIN)$(LATER)"},
                {"name":"IP","valueFrom":{"fieldRef":{"fieldPath":"status.podIP"}}},
                {"name":"APP","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels['app']"}}},
                {"name":"CPU","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu"}}},
                {"name":"MEM","valueFrom":{"resourceFieldRef":{"resource":"limits.memory","divisor":"1Mi"}}},
                {"name":"KEY","valueFrom":{"configMapKeyRef":{"name":"settings","key":"mode"}}},
                {"name":"MAYBE","valueFrom":{"configMapKeyRef":{"name":"settings","key":"no","optional":true}}},
                {"name":"PASSWORD","valueFrom":{"secretKeyRef":{"name":"login","key":"password"}}}]}"#,
        )
        .unwrap();
        let metadata: Metadata =
            serde_json::from_str(r#"{"name":"web","namespace":"shop","labels":{"app":"web"}}"#).unwrap();
        let settings: ConfigMap = serde_json::from_str(r#"{"data":{"mode":"fast"}}"#).unwrap();
        let login: Secret = serde_json::from_str(r#"{"data":{"password":"aHVudGVyMg=="}}"#).unwrap();
        let site = Site {
            metadata: &metadata,
            spec: &PodSpec::default(),
            node: "node-0",
            host_ip: "10.0.0.1",
            pod_ip: "10.244.0.1",
            config_map: &|name| (name == "settings").then(|| settings.clone()),
            secret: &|name| (name == "login").then(|| login.clone()),
            claim: &|_| None,
        };
        let found =
            environment(&site, &BTreeMap::new(), &container).unwrap_or_else(|problem| panic!("{}", problem.message));
        let text: Vec<_> = found.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            text.join(" "),
            "APP=web CPU=2 C_mode=fast IP=10.244.0.1 KEY=fast MEM=1024 PASSWORD=hunter2 PLAIN=v TWICE=vv$(LATER)"
        );
        let without = Site { config_map: &|_| None, ..site };
        let problem = environment(&without, &BTreeMap::new(), &container).err().unwrap();
        assert_eq!(
            (problem.reason, problem.message.as_str()),
            ("CreateContainerConfigError", r#"configmap "settings" not found"#)
        );
    }
}
