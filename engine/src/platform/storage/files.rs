//! A folder on disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use super::{Storage, StorageError};

/// Files in one folder on disk.
#[derive(Clone, Debug)]
pub struct FileStorage {
    root: PathBuf,
}

impl FileStorage {
    /// The folder `root`; it is made with its first file.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    fn told<T>(&self, path: &str, action: &'static str, done: io::Result<T>) -> Result<T, StorageError> {
        done.map_err(|error| StorageError { path: self.describe(path), action, reason: error.to_string() })
    }
}

/// The answer, or none where the file is missing.
fn found<T>(answer: io::Result<T>) -> io::Result<Option<T>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Under a temporary name in the same folder, synced, then renamed: a rename within a folder is atomic.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().expect("a file lies in a folder");
    let name = path.file_name().expect("a file has a name").to_string_lossy();
    fs::create_dir_all(folder)?;
    let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    if let Err(error) = written.and_then(|()| fs::rename(&temporary, path)) {
        // The first error is the one to tell.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    sync_folder(folder)
}

/// The new name itself has to reach the disk.
#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Other systems cannot open a folder; there a rename is as durable as the system makes it.
#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

fn append(path: &Path, content: &[u8]) -> io::Result<()> {
    fs::create_dir_all(path.parent().expect("a file lies in a folder"))?;
    OpenOptions::new().create(true).append(true).open(path)?.write_all(content)
}

fn list(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // What an interrupted write left behind is no file of ours.
        if !(name.starts_with('.') && name.ends_with(".tmp")) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

impl Storage for FileStorage {
    async fn read(&self, path: &str) -> Result<Option<Vec<u8>>, StorageError> {
        self.told(path, "read", found(fs::read(self.path(path))))
    }

    async fn write(&self, path: &str, content: &[u8]) -> Result<(), StorageError> {
        self.told(path, "written", write_whole(&self.path(path), content))
    }

    async fn append(&self, path: &str, content: &[u8]) -> Result<(), StorageError> {
        self.told(path, "written", append(&self.path(path), content))
    }

    async fn sync(&self, path: &str) -> Result<(), StorageError> {
        // Through a handle that may write: Windows wants one.
        let synced = OpenOptions::new().append(true).open(self.path(path)).and_then(|file| file.sync_all());
        self.told(path, "written", found(synced)).map(|_| ())
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StorageError> {
        Ok(self.told(folder, "listed", found(list(&self.path(folder))))?.unwrap_or_default())
    }

    async fn size(&self, path: &str) -> Result<Option<u64>, StorageError> {
        let metadata = self.told(path, "read", found(fs::metadata(self.path(path))))?;
        Ok(metadata.filter(fs::Metadata::is_file).map(|metadata| metadata.len()))
    }

    async fn remove(&self, path: &str) -> Result<(), StorageError> {
        self.told(path, "removed", found(remove(&self.path(path)))).map(|_| ())
    }

    fn describe(&self, path: &str) -> String {
        self.path(path).display().to_string()
    }
}

#[cfg(all(test, feature = "tensor"))]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("parl-storage-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_folder_keeps_to_the_contract() {
        let folder = Folder::new("contract");
        pollster::block_on(super::super::tests::contract(&FileStorage::new(&folder.0)));
    }

    #[test]
    fn an_error_names_the_file_and_leaves_nothing_behind() {
        let folder = Folder::new("error");
        let storage = FileStorage::new(&folder.0);
        pollster::block_on(async {
            storage.write("taken/inside", b"x").await.unwrap();
            // A folder cannot be replaced by a file.
            let error = storage.write("taken", b"y").await.unwrap_err().to_string();
            assert!(error.starts_with(&folder.0.join("taken").display().to_string()), "{error}");
            assert!(error.contains(" cannot be written: "), "{error}");
        });
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "no temporary file stays");
    }
}
