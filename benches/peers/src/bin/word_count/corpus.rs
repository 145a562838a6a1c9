//! Real text of this machine.

use flate2::read::MultiGzDecoder;
use std::{
    env, fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// Where texts are on most machines: licences, manuals and documentation, most of it in English.
const PLACES: &[&str] = &["/usr/share/common-licenses", "/usr/share/man", "/usr/share/doc"];

/// Files of UTF-8 text below one folder, which goes with it.
pub struct Corpus {
    pub folder: PathBuf,
    pub files: Vec<PathBuf>,
    pub bytes: u64,
}

impl Corpus {
    /// So many bytes of it, or a little more.
    pub fn gathered() -> io::Result<Corpus> {
        let most = env::var("SEEDPOD_TEXT_MB").ok().and_then(|most| most.parse().ok()).unwrap_or(200) * 1_000_000;
        let places: Vec<PathBuf> = match env::var("SEEDPOD_TEXTS") {
            Ok(places) => places.split(':').map(PathBuf::from).collect(),
            Err(_) => {
                let home = env::home_dir().unwrap_or_default();
                let rust = [home.join(".cargo/registry/src"), home.join(".rustup/toolchains")];
                PLACES.iter().map(PathBuf::from).chain(rust).collect()
            }
        };
        let folder = env::temp_dir().join(format!("seedpod-texts-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let mut corpus = Corpus { folder, files: Vec::new(), bytes: 0 };
        for place in &places {
            corpus.take(place, most)?;
        }
        if corpus.bytes < most {
            let found = format!("only {} bytes of text below {places:?}: SEEDPOD_TEXTS names others", corpus.bytes);
            return Err(io::Error::new(io::ErrorKind::NotFound, found));
        }
        Ok(corpus)
    }

    fn take(&mut self, path: &Path, most: u64) -> io::Result<()> {
        let Ok(kind) = fs::symlink_metadata(path) else { return Ok(()) };
        if kind.is_dir() {
            let mut inside: Vec<_> = fs::read_dir(path)?.collect::<io::Result<_>>()?;
            inside.sort_by_key(fs::DirEntry::file_name);
            if path.ends_with("man") {
                // sections, not the same in other languages
                inside.retain(|entry| entry.file_name().to_string_lossy().starts_with("man"));
            }
            return inside.iter().try_for_each(|entry| self.take(&entry.path(), most));
        }
        if !kind.is_file() || kind.len() == 0 || self.bytes >= most {
            return Ok(());
        }
        let mut bytes = fs::read(path)?;
        if path.extension().is_some_and(|end| end == "gz") {
            let mut text = Vec::new();
            if MultiGzDecoder::new(&*bytes).read_to_end(&mut text).is_err() {
                return Ok(());
            }
            bytes = text;
        }
        if std::str::from_utf8(&bytes).is_ok() && !bytes.contains(&0) {
            if !bytes.ends_with(b"\n") {
                bytes.push(b'\n'); // the shell's tools are given one text after the other
            }
            let copy = self.folder.join(format!("{:06}.txt", self.files.len()));
            fs::write(&copy, &bytes)?;
            self.bytes += bytes.len() as u64;
            self.files.push(copy);
        }
        Ok(())
    }
}

impl Drop for Corpus {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}
