//! The state file: replaced whole, so that a kill at any instant leaves one that parses.

use std::{
    fmt, fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

/// The longest state file that is read. One of ours stays below 1 MiB.
const STATE_FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

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
        self.refuse_what_is_no_file()?;
        match read_at_most(&self.path, STATE_FILE_BYTES_MAX) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether there is a file, as opposed to nothing or a folder.
    pub(super) fn is_file(&self) -> bool {
        self.path.is_file()
    }

    /// Replaces the content. Not synced to the disk: a kill of the process cannot lose it, and a power cut
    /// may lose the last seconds of a count.
    pub(super) fn save(&self, bytes: &[u8]) -> io::Result<()> {
        self.refuse_what_is_no_file()?;
        if let Some(folder) = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        replace(&self.path, bytes)
    }

    /// Whether a [`Self::save`] would probably succeed: as many bytes as the file has are written beside it,
    /// or where the nearest folder is that exists, and taken away again. The file itself is not touched.
    pub(super) fn try_out(&self) -> io::Result<()> {
        self.refuse_what_is_no_file()?;
        let exists = |folder: &&Path| folder.as_os_str().is_empty() || folder.exists();
        let folder = self.path.ancestors().skip(1).find(exists).unwrap_or_else(|| Path::new(""));
        let bytes =
            fs::metadata(&self.path).map_or(1, |metadata| metadata.len().clamp(1, STATE_FILE_BYTES_MAX));
        // A name that nothing else has, and that is not taken over if something has it after all.
        let mut name = self.path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".check-{}", std::process::id()));
        let probe = folder.join(name);
        let mut file = fs::File::create_new(&probe)?;
        let written = io::copy(&mut io::repeat(b' ').take(bytes), &mut file);
        drop(file);
        fs::remove_file(&probe)?;
        written.map(drop)
    }

    /// A device or a pipe may be read for ever, and neither it nor a folder is to be replaced by a file.
    fn refuse_what_is_no_file(&self) -> io::Result<()> {
        match fs::metadata(&self.path) {
            Ok(found) if found.is_dir() => Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder")),
            Ok(found) if !found.is_file() => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a device or a pipe, and no file"))
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Renames the file so that it is kept beside the new one.
    pub(super) fn put_aside(&self, suffix: &str) -> io::Result<PathBuf> {
        let aside = beside(&self.path, suffix);
        fs::rename(&self.path, &aside)?;
        Ok(aside)
    }

    /// Copies the file, so that it is kept beside the one that will replace it. A copy that was there is replaced, and
    /// not written into: it may be a link, or one that may not be written to.
    pub(super) fn copy_aside(&self, suffix: &str) -> io::Result<PathBuf> {
        let aside = beside(&self.path, suffix);
        replace(&aside, &read_at_most(&self.path, STATE_FILE_BYTES_MAX)?)?;
        Ok(aside)
    }
}

/// Replaces a file: a temporary one beside it, then a rename, so that neither a kill nor a full disk leaves half a file.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = beside(path, "tmp");
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // It takes room on a full disk, and may be what is in the way: the next one is made anew.
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(".");
    name.push(suffix);
    name.into()
}

/// The content of a file, or an error if it is longer than this.
pub(super) fn read_at_most(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    fs::File::open(path)?.take(bytes_max + 1).read_to_end(&mut content)?;
    if content.len() as u64 > bytes_max {
        return Err(io::Error::other(format!("it is longer than {} MiB", bytes_max >> 20)));
    }
    Ok(content)
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
        let copy = file.copy_aside("python").expect("copied");
        assert_eq!((fs::read(&copy).expect("read"), file.is_file()), (b"two".to_vec(), true));
        fs::remove_file(copy).expect("removed");
        let aside = file.put_aside("damaged").expect("renamed");
        assert!(aside.ends_with("state.json.damaged") && file.load().expect("absent").is_none());
        let left: Vec<_> = fs::read_dir(aside.parent().expect("a folder")).expect("listed").collect();
        assert_eq!(left.len(), 1, "no temporary file stays behind");
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = StateFile::new(&folder.path().join("state.json"));
        for (bytes, is_read) in [(STATE_FILE_BYTES_MAX, true), (STATE_FILE_BYTES_MAX + 1, false)] {
            fs::File::create(&file.path).and_then(|file| file.set_len(bytes)).expect("zeros, on no disk");
            assert_eq!(file.load().is_ok(), is_read, "{bytes}");
        }
        assert_eq!(file.load().expect_err("refused").to_string(), "it is longer than 16 MiB");
    }

    #[test]
    #[cfg(unix)]
    fn a_copy_aside_is_written_into_nothing_that_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = StateFile::new(&folder.path().join("state.json"));
        let (other, aside) = (folder.path().join("other"), folder.path().join("state.json.python"));
        fs::write(&other, "of somebody").expect("written");
        std::os::unix::fs::symlink(&other, &aside).expect("linked");
        file.save(b"one").expect("written");
        for _ in 0..2 {
            assert_eq!(file.copy_aside("python").expect("copied"), aside);
            assert_eq!(fs::read(&aside).expect("read"), b"one");
            assert!(!aside.is_symlink());
        }
        assert_eq!(fs::read(&other).expect("read"), b"of somebody");
        let names = fs::read_dir(folder.path()).expect("listed").count();
        assert_eq!(names, 3, "no temporary file stays behind");
    }

    #[test]
    fn to_try_it_out_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let names = || fs::read_dir(folder.path()).expect("listed").count();
        let file = StateFile::new(&folder.path().join("deep/down/state.json"));
        file.try_out().expect("its folders can be made");
        assert_eq!(names(), 0, "and are not");
        let file = StateFile::new(&folder.path().join("state.json"));
        file.save(b"one").expect("written");
        file.try_out().expect("it can be replaced");
        assert_eq!((file.load().expect("read").as_deref(), names()), (Some(&b"one"[..]), 1));
        StateFile::new(folder.path()).try_out().expect_err("it is a folder");
        StateFile::new(&folder.path().join("state.json/below")).try_out().expect_err("a file is in the way");
        assert_eq!(names(), 1);
    }

    #[test]
    fn a_save_that_fails_leaves_the_old_content_and_nothing_that_blocks_the_next_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = StateFile::new(&folder.path().join("state.json"));
        let names = || {
            let entries = fs::read_dir(folder.path()).expect("listed").map(|entry| entry.expect("an entry"));
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        // It is not even written beside a folder of its name.
        fs::create_dir(folder.path().join("state.json")).expect("made");
        file.save(b"one").expect_err("a folder is in the way");
        assert_eq!(names(), ["state.json"]);
        fs::remove_dir(folder.path().join("state.json")).expect("removed");
        file.save(b"two").expect("nothing is in the way");
        // It cannot be written beside.
        fs::create_dir(folder.path().join("state.json.tmp")).expect("made");
        file.save(b"three").expect_err("a folder is in the way");
        assert_eq!(file.load().expect("read").as_deref(), Some(&b"two"[..]));
        fs::remove_dir(folder.path().join("state.json.tmp")).expect("removed");
        // A kill left half of one behind.
        fs::write(folder.path().join("state.json.tmp"), "{\"ver").expect("written");
        file.save(b"four").expect("it is written over");
        assert_eq!(names(), ["state.json"]);
    }

    #[test]
    #[cfg(unix)]
    fn a_device_is_neither_read_nor_replaced() {
        use std::os::unix::fs::FileTypeExt;
        // Linked to, since nobody should try this on the device itself.
        let folder = tempfile::tempdir().expect("a folder");
        let link = folder.path().join("state.json");
        std::os::unix::fs::symlink("/dev/zero", &link).expect("linked");
        let file = StateFile::new(&link);
        for refused in [file.load().map(drop), file.save(b"one"), file.try_out()] {
            assert!(refused.expect_err("no file").to_string().contains("it is a device"));
        }
        assert!(fs::metadata(&link).expect("still there").file_type().is_char_device());
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
    }

    #[test]
    #[cfg(unix)]
    fn a_temporary_file_that_may_not_be_written_to_blocks_one_save_at_most() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = StateFile::new(&folder.path().join("state.json"));
        let left_behind = folder.path().join("state.json.tmp");
        fs::write(&left_behind, "of another user").expect("written");
        let mut permissions = fs::metadata(&left_behind).expect("it is there").permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&left_behind, permissions).expect("it is ours in fact");
        // It succeeds for root, who may write to everything.
        let _ = file.save(b"three");
        file.save(b"four").expect("it was taken out of the way");
        assert_eq!(file.load().expect("read").as_deref(), Some(&b"four"[..]));
    }
}
