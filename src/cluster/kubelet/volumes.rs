//! A pod's volumes: empty directories, claims, and files projected from config maps and secrets.

use super::{Problem, variables::Site};
use crate::{
    base::Error,
    cluster::object::{ConfigMap, KeyToPath, PodSpec, Secret, Volume as Declared},
    pod::Volume,
};
use std::collections::BTreeMap;

pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// A volume as the kubelet holds it.
pub(super) struct Filled {
    /// To write into.
    pub(super) volume: Volume,
    /// The files that come from elsewhere, where they do: containers only read those.
    pub(super) projected: Option<Files>,
}

impl Filled {
    /// The files are these now. What has not changed is not written.
    pub(super) fn update(&mut self, files: Option<Files>) -> Result<(), Error> {
        if let Some(files) = files
            && self.projected.as_ref() != Some(&files)
        {
            self.volume.swap(files.clone())?;
            self.projected = Some(files);
        }
        Ok(())
    }
}

/// All volumes of a pod, filled.
///
/// A source that this cluster does not know (a host's path) becomes a volume in memory that begins empty.
pub(super) fn volumes(site: &Site<'_>) -> Result<BTreeMap<String, Filled>, Problem> {
    let PodSpec { volumes, .. } = site.spec;
    volumes.iter().map(|declared| Ok((declared.name.clone(), filled(site, declared)?))).collect()
}

fn filled(site: &Site<'_>, declared: &Declared) -> Result<Filled, Problem> {
    if let Some(claim) = &declared.persistent_volume_claim {
        let missing = || mount(&declared.name, &format!("persistentvolumeclaim {:?} not found", claim.claim_name));
        return Ok(Filled { volume: (site.claim)(&claim.claim_name).ok_or_else(missing)?, projected: None });
    }
    let limit = declared.empty_dir.as_ref().and_then(|empty| empty.size_limit);
    let volume = limit.map_or_else(Volume::memory, |limit| Volume::bounded(u64::try_from(limit.value()).unwrap_or(0)));
    let mut filled = Filled { volume, projected: None };
    filled.update(files(site, declared)?).map_err(|error| mount(&declared.name, &error.to_string()))?;
    Ok(filled)
}

/// The files that a volume is to hold now; none for one that pods write themselves.
pub(super) fn files(site: &Site<'_>, declared: &Declared) -> Result<Option<Files>, Problem> {
    let failed = |message: String| mount(&declared.name, &message);
    let mut files = Files::new();
    let mut projected = false;
    let mut add = |found: Option<Files>, items: &[KeyToPath], optional: Option<bool>, what: String| {
        projected = true;
        match found {
            Some(found) => pick(found, items, optional, &what).map(|found| files.extend(found)).map_err(failed),
            None if optional == Some(true) => Ok(()),
            None => Err(failed(format!("{what} not found"))),
        }
    };
    let config = |name: &str| (site.config_map)(name).map(of_config_map);
    let secret = |name: &str| (site.secret)(name).map(of_secret);
    if let Some(source) = &declared.config_map {
        add(config(&source.name), &source.items, source.optional, format!("configmap {:?}", source.name))?;
    }
    if let Some(source) = &declared.secret {
        add(secret(&source.secret_name), &source.items, source.optional, format!("secret {:?}", source.secret_name))?;
    }
    Ok(projected.then_some(files))
}

fn mount(volume: &str, message: &str) -> Problem {
    Problem { reason: "FailedMount", message: format!("MountVolume.SetUp failed for volume {volume:?} : {message}") }
}

fn of_config_map(map: ConfigMap) -> Files {
    let binary = map.binary_data.into_iter().map(|(key, value)| (key, value.to_vec()));
    map.data.into_iter().map(|(key, value)| (key, value.into_bytes())).chain(binary).collect()
}

fn of_secret(secret: Secret) -> Files {
    secret.data.into_iter().map(|(key, value)| (key, value.to_vec())).collect()
}

/// The keys that are wanted, under the paths that they are wanted at.
fn pick(mut found: Files, items: &[KeyToPath], optional: Option<bool>, what: &str) -> Result<Files, String> {
    if items.is_empty() {
        return Ok(found);
    }
    let mut picked = Files::new();
    for item in items {
        match found.remove(&item.key) {
            Some(content) => drop(picked.insert(item.path.clone(), content)),
            None if optional == Some(true) => {}
            None => return Err(format!("{what} references non-existent config key: {}", item.key)),
        }
    }
    Ok(picked)
}
