//! Files in memory, up to a number of bytes.

use super::no_file;
use crate::base::{Error, Kind, Result, sync::Lock};
use bytes::Bytes;
use std::collections::BTreeMap;

pub(super) struct Memory {
    limit: u64,
    files: Lock<Files>,
}

#[derive(Default)]
struct Files {
    contents: BTreeMap<String, Bytes>,
    bytes: u64,
}

impl Memory {
    pub(super) fn new(limit: u64) -> Self {
        Memory { limit, files: Lock::default() }
    }

    pub(super) fn read(&self, path: &str) -> Result<Bytes> {
        self.files.lock().contents.get(path).cloned().ok_or_else(|| no_file(path))
    }

    pub(super) fn list(&self) -> Vec<String> {
        self.files.lock().contents.keys().cloned().collect()
    }

    pub(super) fn write(&self, path: &str, content: Bytes) -> Result {
        let mut files = self.files.lock();
        let before = files.contents.get(path).map_or(0, |content| content.len() as u64);
        files.bytes = self.fits(files.bytes - before + content.len() as u64, path)?;
        files.contents.insert(path.into(), content);
        Ok(())
    }

    pub(super) fn remove(&self, path: &str) -> Result {
        let mut files = self.files.lock();
        let content = files.contents.remove(path).ok_or_else(|| no_file(path))?;
        files.bytes -= content.len() as u64;
        Ok(())
    }

    pub(super) fn swap(&self, contents: BTreeMap<String, Bytes>) -> Result {
        let bytes = self.fits(contents.values().map(|content| content.len() as u64).sum(), "")?;
        *self.files.lock() = Files { contents, bytes };
        Ok(())
    }

    fn fits(&self, bytes: u64, path: &str) -> Result<u64> {
        if bytes > self.limit {
            let message = format!("the volume would hold {bytes} bytes, its limit is {}", self.limit);
            return Err(Error::new(Kind::Rejected, message).at(format!("file {path:?}")));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seed;

    #[test]
    fn a_million_random_steps_count_right_and_never_pass_the_limit() {
        let memory = Memory::new(1000);
        let mut rng = Seed::new(2).rng();
        let mut refused = 0;
        for _ in 0..1_000_000 {
            let path = rng.below(8).to_string();
            let content = Bytes::from(vec![0; rng.below(300) as usize]);
            match rng.below(10) {
                0..7 => refused += u32::from(memory.write(&path, content).is_err()),
                7..9 => drop(memory.remove(&path)),
                _ => memory.swap(BTreeMap::from([(path, content)])).unwrap(),
            }
            let files = memory.files.lock();
            assert_eq!(files.bytes, files.contents.values().map(|content| content.len() as u64).sum::<u64>());
            assert!(files.bytes <= 1000);
        }
        assert!(refused > 1000, "{refused}");
    }

    #[test]
    fn a_refused_write_changes_nothing() {
        let memory = Memory::new(10);
        memory.write("a", "12345".into()).unwrap();
        let error = memory.write("b", "123456".into()).unwrap_err();
        assert_eq!(error.to_string(), "file \"b\": rejected: the volume would hold 11 bytes, its limit is 10");
        memory.write("a", "1234567890".into()).unwrap();
        assert!(memory.swap(BTreeMap::from([("c".into(), "12345678901".into())])).is_err());
        assert_eq!(memory.list(), ["a"]);
    }
}
