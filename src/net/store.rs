//! The state file: replaced whole, so that a kill at any instant leaves one that parses.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

/// The file that keeps the day's count.
#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
}

impl StateFile {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The content; `None` when there is no file.
    pub(super) fn load(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(&self.path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether there is a file, as opposed to nothing or a folder.
    pub(super) fn is_file(&self) -> bool {
        self.path.is_file()
    }

    /// Replaces the content: a temporary file beside it, then a rename. Not synced to the disk: a
    /// kill of the process cannot lose it, and a power cut may lose the last seconds of a count.
    pub(super) fn save(&self, bytes: &[u8]) -> io::Result<()> {
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let temporary = self.beside("tmp");
        fs::write(&temporary, bytes)?;
        fs::rename(&temporary, &self.path)
    }

    /// Renames the file so that it is kept beside the new one.
    pub(super) fn put_aside(&self, suffix: &str) -> io::Result<PathBuf> {
        let aside = self.beside(suffix);
        fs::rename(&self.path, &aside)?;
        Ok(aside)
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(".");
        name.push(suffix);
        name.into()
    }
}

impl fmt::Display for StateFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_whole_and_its_folder_is_made() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = StateFile::new(&folder.path().join("deep/down/state.json"));
        assert_eq!(file.load().expect("absent"), None);
        for content in [&b"one"[..], b"two"] {
            file.save(content).expect("written");
            assert_eq!(file.load().expect("read").as_deref(), Some(content));
        }
        let aside = file.put_aside("damaged").expect("renamed");
        assert!(aside.ends_with("state.json.damaged") && file.load().expect("absent").is_none());
        let left: Vec<_> = fs::read_dir(aside.parent().expect("a folder")).expect("listed").collect();
        assert_eq!(left.len(), 1, "no temporary file stays behind");
    }
}
