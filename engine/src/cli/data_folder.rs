//! Where fetched data lies, and how it gets there whole or not at all.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use etcetera::BaseStrategy as _;
use parl_mt::env::bfcl::BfclData;
use parl_mt::env::bfcl::data::{PACKAGE, VERSION, WHEEL_SHA256};

/// The folder with everything that `parl` fetches.
#[derive(Clone, Debug)]
pub struct DataFolder {
    root: PathBuf,
}

/// Written last: its being there means that the folder is complete.
const MANIFEST: &str = "manifest.json";

impl DataFolder {
    /// The folder given, or `parl-mt` in the user's data folder (XDG).
    pub fn locate(given: Option<PathBuf>) -> anyhow::Result<Self> {
        let root = match given {
            Some(root) => root,
            None => etcetera::choose_base_strategy()
                .context("the user's data folder is unknown: give one with --data DIR or PARL_DATA")?
                .data_dir()
                .join("parl-mt"),
        };
        Ok(Self { root })
    }

    /// Where BFCL's files lie.
    pub fn bfcl(&self) -> PathBuf {
        self.root.join("bfcl").join(VERSION)
    }

    /// Whether BFCL's files have been fetched.
    pub fn has_bfcl(&self) -> bool {
        self.bfcl().join(MANIFEST).is_file()
    }

    /// Reads BFCL's data; says how to get it where there is none.
    pub fn load_bfcl(&self) -> anyhow::Result<BfclData> {
        if !self.has_bfcl() {
            bail!(
                "BFCL's data is not in {}.\nRun `parl bfcl fetch` (it gets {PACKAGE} {VERSION} through pip), \
                 or `parl bfcl fetch --wheel FILE` with a wheel that you have.",
                self.bfcl().display()
            );
        }
        let folder = self.bfcl();
        Ok(BfclData::from_files(|name| fs::read(folder.join(name)).ok())?)
    }

    /// One of BFCL's files as text.
    pub fn read_bfcl_file(&self, name: &str) -> anyhow::Result<String> {
        let path = self.bfcl().join(name);
        fs::read_to_string(&path).with_context(|| format!("{} does not read", path.display()))
    }

    /// Stores BFCL's files: into a temporary folder, the manifest last, then renamed into place.
    pub fn store_bfcl(&self, files: &BTreeMap<String, Vec<u8>>) -> anyhow::Result<PathBuf> {
        let target = self.bfcl();
        let parent = target.parent().expect("the version's folder has a parent");
        fs::create_dir_all(parent).with_context(|| format!("{} cannot be made", parent.display()))?;
        let temporary = parent.join(format!(".{VERSION}.{}", std::process::id()));
        remove_folder(&temporary)?;
        for (name, bytes) in files {
            let path = temporary.join(name);
            fs::create_dir_all(path.parent().expect("a file has a folder"))?;
            fs::write(&path, bytes).with_context(|| format!("{} cannot be written", path.display()))?;
        }
        let manifest = serde_json::json!({
            "package": PACKAGE,
            "version": VERSION,
            "sha256": WHEEL_SHA256,
            "files": files.keys().collect::<Vec<_>>(),
        });
        fs::write(temporary.join(MANIFEST), serde_json::to_string_pretty(&manifest)?)?;
        remove_folder(&target)?;
        fs::rename(&temporary, &target).with_context(|| format!("{} cannot be put in place", target.display()))?;
        Ok(target)
    }
}

fn remove_folder(folder: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", folder.display()))
        }
        _ => Ok(()),
    }
}
