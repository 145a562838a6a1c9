//! Files in a real directory.

use super::no_file;
use crate::base::{Error, Kind, Result, sync::Lock};
use bytes::Bytes;
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// What a file is written as before it is renamed into place; paths that start with two dots are nobody's.
const ASIDE: &str = "..aside";

pub(super) struct Directory {
    path: PathBuf,
    // one at a time, so that a reader through the volume sees a swap whole, and the file aside has one writer
    turn: Lock<()>,
}

impl Directory {
    pub(super) fn new(path: PathBuf) -> Self {
        Directory { path, turn: Lock::new(()) }
    }

    /// Where it is, there or not.
    pub(super) fn place(&self) -> &Path {
        &self.path
    }

    /// Where it is; made first, where possible, so that who is told the path finds it.
    pub(super) fn path(&self) -> &Path {
        let _turn = self.turn.lock();
        let _ = fs::create_dir_all(&self.path);
        &self.path
    }

    pub(super) fn read(&self, path: &str) -> Result<Bytes> {
        let _turn = self.turn.lock();
        self.made()?;
        fs::read(self.path.join(path)).map(Bytes::from).map_err(|error| failed(path, error))
    }

    pub(super) fn list(&self) -> Result<Vec<String>> {
        let _turn = self.turn.lock();
        self.made()?;
        self.paths()
    }

    pub(super) fn write(&self, path: &str, content: &[u8]) -> Result {
        let _turn = self.turn.lock();
        self.made()?;
        self.put(path, content)
    }

    pub(super) fn remove(&self, path: &str) -> Result {
        let _turn = self.turn.lock();
        self.made()?;
        fs::remove_file(self.path.join(path)).map_err(|error| failed(path, error))
    }

    pub(super) fn swap(&self, files: &BTreeMap<String, Bytes>) -> Result {
        let _turn = self.turn.lock();
        self.made()?;
        for path in self.paths()? {
            if !files.contains_key(&path) {
                fs::remove_file(self.path.join(&path)).map_err(|error| failed(&path, error))?;
            }
        }
        files.iter().try_for_each(|(path, content)| self.put(path, content))
    }

    fn made(&self) -> Result {
        fs::create_dir_all(&self.path).map_err(|error| failed(&self.path.to_string_lossy(), error))
    }

    fn put(&self, path: &str, content: &[u8]) -> Result {
        let (aside, target) = (self.path.join(ASIDE), self.path.join(path));
        let write = || {
            fs::create_dir_all(target.parent().unwrap_or(&self.path))?;
            fs::write(&aside, content)?;
            fs::rename(&aside, &target)
        };
        write().map_err(|error| failed(path, error))
    }

    fn paths(&self) -> Result<Vec<String>> {
        let mut paths = Vec::new();
        let mut folders = vec![String::new()];
        while let Some(folder) = folders.pop() {
            let place = self.path.join(&folder);
            for entry in fs::read_dir(&place).map_err(|error| failed(&folder, error))? {
                let entry = entry.map_err(|error| failed(&folder, error))?;
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with("..") {
                    continue;
                }
                let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
                // links are files here: following one could lead out of the directory, or in a circle
                match entry.file_type().map_err(|error| failed(&path, error))?.is_dir() {
                    true => folders.push(path),
                    false => paths.push(path),
                }
            }
        }
        paths.sort_unstable();
        Ok(paths)
    }
}

fn failed(path: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => no_file(path),
        _ => Error::new(Kind::Failed, "").at(format!("file {path:?}")).because(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_in_the_way_of_a_folder_is_an_error() {
        let path = std::env::temp_dir().join(format!("seedpod-directory-{}", crate::base::Seed::ambient().get()));
        let directory = Directory::new(path.clone());
        directory.write("a", b"1").unwrap();
        assert!(directory.write("a/b", b"2").is_err());
        assert!(directory.read("a/b").unwrap_err().is_not_found());
        fs::write(path.join("outside"), b"3").unwrap();
        assert_eq!(directory.list().unwrap(), ["a", "outside"]);
        assert_eq!(fs::read(directory.path().join("a")).unwrap(), b"1");
        fs::remove_dir_all(path).unwrap();
    }
}
