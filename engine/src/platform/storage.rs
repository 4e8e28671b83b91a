//! Files behind a small trait: a folder on disk natively, memory in tests, and what a browser offers (OPFS) in the page.

use std::collections::BTreeMap;
use std::sync::Mutex;

#[cfg(not(target_arch = "wasm32"))]
mod files;

#[cfg(not(target_arch = "wasm32"))]
pub use files::FileStorage;

/// A storage operation that failed. The text names the file and says what the system said.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be {action}: {reason}")]
pub struct StorageError {
    /// The file, as a user knows it.
    pub path: String,
    /// What was tried, as a participle: `read`, `written`, `removed`.
    pub action: &'static str,
    /// The system's words.
    pub reason: String,
}

/// One folder with files in it. Paths are relative to it, with `/` between names; folders come to be with their files.
///
/// Asynchronous, because a browser opens files asynchronously; on disk every future is ready at once.
#[allow(async_fn_in_trait, reason = "used by generic code on one thread; the futures need not be Send")]
pub trait Storage {
    /// The whole file; none where there is no such file.
    async fn read(&self, path: &str) -> Result<Option<Vec<u8>>, StorageError>;

    /// Puts a file in place whole: after a crash there is the old content or the new, never a part.
    async fn write(&self, path: &str, content: &[u8]) -> Result<(), StorageError>;

    /// Adds to the end of a file, which is made where it is missing. If the process is killed, the last addition may be cut
    /// short; if the machine goes down, all since the last [`sync`](Self::sync) may be lost.
    async fn append(&self, path: &str, content: &[u8]) -> Result<(), StorageError>;

    /// Makes what was appended to a file last beyond a loss of power; fine where there is no such file.
    async fn sync(&self, path: &str) -> Result<(), StorageError>;

    /// The names in a folder, sorted; empty where there is no such folder.
    async fn list(&self, folder: &str) -> Result<Vec<String>, StorageError>;

    /// Length of a file in bytes; none where there is no such file.
    async fn size(&self, path: &str) -> Result<Option<u64>, StorageError>;

    /// Removes a file, or a folder with all that is in it; fine where there is none.
    async fn remove(&self, path: &str) -> Result<(), StorageError>;

    /// How a user finds a file: its path on disk natively.
    fn describe(&self, path: &str) -> String;
}

/// Files in memory: for tests, and for runs that nobody keeps.
#[derive(Debug, Default)]
pub struct MemoryStorage {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
}

impl MemoryStorage {
    fn files(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.files.lock().expect("nothing panics while it holds the files")
    }

    /// All paths, sorted.
    pub fn paths(&self) -> Vec<String> {
        self.files().keys().cloned().collect()
    }
}

impl Clone for MemoryStorage {
    /// A copy of all files as they are now.
    fn clone(&self) -> Self {
        Self { files: Mutex::new(self.files().clone()) }
    }
}

impl Storage for MemoryStorage {
    async fn read(&self, path: &str) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.files().get(path).cloned())
    }

    async fn write(&self, path: &str, content: &[u8]) -> Result<(), StorageError> {
        self.files().insert(path.to_owned(), content.to_owned());
        Ok(())
    }

    async fn append(&self, path: &str, content: &[u8]) -> Result<(), StorageError> {
        self.files().entry(path.to_owned()).or_default().extend_from_slice(content);
        Ok(())
    }

    async fn sync(&self, _path: &str) -> Result<(), StorageError> {
        Ok(())
    }

    async fn list(&self, folder: &str) -> Result<Vec<String>, StorageError> {
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let files = self.files();
        let inside = files.keys().filter_map(|path| path.strip_prefix(&prefix));
        let mut names: Vec<String> = inside.map(|rest| rest.split('/').next().unwrap_or(rest).to_owned()).collect();
        // Paths are sorted, but a folder's name occurs once for each file in it.
        names.sort();
        names.dedup();
        Ok(names)
    }

    async fn size(&self, path: &str) -> Result<Option<u64>, StorageError> {
        Ok(self.files().get(path).map(|content| content.len() as u64))
    }

    async fn remove(&self, path: &str) -> Result<(), StorageError> {
        let folder = format!("{path}/");
        self.files().retain(|name, _| name != path && !name.starts_with(&folder));
        Ok(())
    }

    fn describe(&self, path: &str) -> String {
        format!("(memory)/{path}")
    }
}

#[cfg(all(test, feature = "tensor"))]
mod tests {
    use super::*;

    /// What every storage has to do.
    pub(super) async fn contract(storage: &impl Storage) {
        assert_eq!(storage.read("a/b.txt").await.unwrap(), None);
        assert_eq!(storage.list("a").await.unwrap(), Vec::<String>::new());
        storage.write("a/b.txt", b"one").await.unwrap();
        storage.write("a/b.txt", b"two").await.unwrap();
        storage.append("a/log", b"x\n").await.unwrap();
        storage.append("a/log", b"y\n").await.unwrap();
        storage.sync("a/log").await.unwrap();
        storage.sync("a/none").await.unwrap();
        storage.write("a/c/d.bin", &[0; 5]).await.unwrap();
        assert_eq!(storage.read("a/b.txt").await.unwrap().unwrap(), b"two");
        assert_eq!(storage.read("a/log").await.unwrap().unwrap(), b"x\ny\n");
        assert_eq!(storage.list("a").await.unwrap(), ["b.txt", "c", "log"]);
        assert_eq!(storage.list("").await.unwrap(), ["a"]);
        assert_eq!(storage.size("a/c/d.bin").await.unwrap(), Some(5));
        assert_eq!(storage.size("a/c/none").await.unwrap(), None);
        storage.remove("a/c").await.unwrap();
        storage.remove("a/c").await.unwrap();
        storage.remove("a/log").await.unwrap();
        assert_eq!(storage.list("a").await.unwrap(), ["b.txt"]);
    }

    #[test]
    fn memory_keeps_to_the_contract() {
        pollster::block_on(contract(&MemoryStorage::default()));
    }
}
